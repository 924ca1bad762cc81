/* Builds the hash table of trie.h from the trie of a bundle, which lists the nodes in breadth-first order. */
#include "common.h"
#include "trie.h"

/*
 * Arguments:
 *   nodes [char_count + 1 + 2^hash_bits]: zeros; 2^hash_bits must be at least twice node_count
 *   characters, child_counts, entries [node_count]: the trie in breadth-first order, single characters first, siblings
 *     in ascending order; anything else is an INVALID_TRIE
 *   numbers [node_count + 1]: receives each node's index in `nodes`; numbers[0] = 0
 */
int distill_build_trie(TrieNode *nodes, int64_t char_count, int64_t hash_bits, const uint16_t *characters,
                       const uint16_t *child_counts, const uint16_t *entries, int64_t node_count, uint32_t *numbers) {
    const uint64_t slot_mask = (1ull << hash_bits) - 1;
    TrieNode *table = nodes + char_count + 1;
    if (char_count > node_count) return INVALID_TRIE;
    numbers[0] = 0;
    for (int64_t node = 1; node <= char_count; node++) {
        numbers[node] = node;
        nodes[node].entry = entries[node - 1];
    }
    int64_t child = char_count + 1; /* children follow one another in the order of their parents */
    for (int64_t node = 1; node <= node_count; node++) {
        if (node >= child || child + child_counts[node - 1] > node_count + 1) return INVALID_TRIE;
        for (const int64_t first = child, end = child + child_counts[node - 1]; child < end; child++) {
            if (child > first && characters[child - 1] <= characters[child - 2]) return INVALID_TRIE;
            uint64_t slot = trie_slot(numbers[node], characters[child - 1], hash_bits);
            while (table[slot].parent) slot = (slot + 1) & slot_mask;
            nodes[numbers[node]].entry |= HAS_CHILDREN;
            table[slot] = (TrieNode){numbers[node], characters[child - 1], entries[child - 1]};
            numbers[child] = slot + char_count + 1;
        }
    }
    return child == node_count + 1 ? OK : INVALID_TRIE;
}
