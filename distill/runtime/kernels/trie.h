/* A trie of words, stored as a hash table.
 *
 * A node is found by hashing its parent's number together with its last character. That takes one memory access per
 * character in most cases; a binary search among the children would take about ten that depend on one another.
 *
 * Node 0 means "no node". Nodes 1 .. char_count are the single characters; all longer words lie in an open-addressing
 * hash table (linear probing, at most half full) of 2^hash_bits slots that follows them in `nodes`.
 */
#ifndef DISTILL_TRIE_H
#define DISTILL_TRIE_H

#include "constants.h"
#include <stdint.h>

typedef struct {
    uint32_t parent;    /* 0: an empty slot */
    uint16_t character; /* last character of the word, as the node of that single character */
    uint16_t entry;     /* SCORE_MASK, HAS_CHILDREN, FORCE_SPLIT: see constants.h */
} TrieNode;

typedef struct {
    const uint16_t *node_by_char; /* [0x110000]: node of every code point, 0 if it occurs in no word */
    const TrieNode *nodes;        /* [char_count + 1 + 2^hash_bits] */
    int64_t char_count;
    int64_t hash_bits;
} Trie;

static inline uint64_t trie_slot(uint64_t parent, uint64_t character, int64_t hash_bits) {
    return ((parent << 16 | character) * 0x9E3779B97F4A7C15u) >> (64 - hash_bits);
}

/* Prefetch the slot of a child: most of the time of a lookup is spent waiting for memory. */
static inline void prefetch_child(const Trie *trie, uint32_t parent, uint16_t character) {
    __builtin_prefetch(trie->nodes + trie->char_count + 1 + trie_slot(parent, character, trie->hash_bits));
}

/* The node of the parent's word extended by one character, 0 if there is none. Node 0 has no children. */
static inline uint32_t find_child(const Trie *trie, uint32_t parent, uint16_t character) {
    const TrieNode *table = trie->nodes + trie->char_count + 1;
    const uint64_t slot_mask = (1ull << trie->hash_bits) - 1;
    if (!(trie->nodes[parent].entry & HAS_CHILDREN)) return 0;
    for (uint64_t slot = trie_slot(parent, character, trie->hash_bits);; slot = (slot + 1) & slot_mask) {
        if (table[slot].parent == parent && table[slot].character == character) return slot + trie->char_count + 1;
        if (!table[slot].parent) return 0;
    }
}

/* The node of the word chars[begin] .. chars[end - 1], 0 if there is none. */
static inline uint32_t find_word(const Trie *trie, const uint16_t *chars, int64_t begin, int64_t end) {
    uint32_t node = chars[begin];
    for (int64_t i = begin + 1; node && i < end; i++) node = find_child(trie, node, chars[i]);
    return node;
}

#endif
