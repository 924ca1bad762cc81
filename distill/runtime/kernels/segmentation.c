/* Word segmentation and word ids: jieba.cut(text, HMM=True) of jieba 0.42.1, bit for bit, then a vocabulary's ids.
 *
 * A text is split into blocks of characters that jieba segments; every other character is a word by itself. In a block,
 * all dictionary words form a directed acyclic graph, and dynamic programming from right to left finds the route with
 * the largest sum of log-probabilities (in doubles, added in jieba's order, so that ties are broken as in jieba).
 * Neighbouring words of one character are then segmented again by the hidden Markov model (hmm.c), unless together
 * they are a word of the dictionary.
 */
#include "hmm.h"
#include "layout.h"
#include <stdlib.h>

EXPORT_LAYOUT(TrieNode, FIELD(TrieNode, parent), FIELD(TrieNode, character), FIELD(TrieNode, entry));
EXPORT_LAYOUT(Trie, FIELD(Trie, node_by_char), FIELD(Trie, nodes), FIELD(Trie, char_count), FIELD(Trie, hash_bits));
EXPORT_LAYOUT(Lexicon, FIELD(Lexicon, trie), FIELD(Lexicon, ids), FIELD(Lexicon, scores), FIELD(Lexicon, start),
              FIELD(Lexicon, transitions), FIELD(Lexicon, emissions));

/* [\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-]: the characters of a block. */
static inline int is_block_char(uint32_t point) {
    if (point >= 0x80) return is_han(point);
    return is_ascii_alphanumeric(point) || (point - '#' < 12 && (0x0D0D >> (point - '#') & 1)) || point == '_';
}

/* From right to left, the best word to take at each position: the one with the largest sum of scores, among equal ones
 * the longest. */
static void find_best_route(const Lexicon *lexicon, const Segmentation *text, int64_t begin, int64_t end) {
    const Trie *trie = &lexicon->trie;
    const uint16_t *chars = text->chars;
    for (int64_t i = begin; i + 1 < end; i++) prefetch_child(trie, chars[i], chars[i + 1]);
    for (int64_t i = begin; i + 1 < end; i++) {
        text->route_nodes[i] = find_child(trie, chars[i], chars[i + 1]);
        if (i + 2 < end) prefetch_child(trie, text->route_nodes[i], chars[i + 2]);
    }
    text->route_nodes[end - 1] = 0;
    text->route_scores[end] = 0;
    for (int64_t i = end - 1; i >= begin; i--) {
        uint32_t node = text->route_nodes[i], best_node = chars[i];
        double best_score = lexicon->scores[trie->nodes[best_node].entry & SCORE_MASK] + text->route_scores[i + 1];
        int64_t best_end = i + 1;
        for (int64_t next = i + 2; node; node = next < end ? find_child(trie, node, chars[next]) : 0, next++) {
            const uint16_t index = trie->nodes[node].entry & SCORE_MASK;
            const double score = lexicon->scores[index] + text->route_scores[next];
            if (index && score >= best_score) best_score = score, best_end = next, best_node = node;
        }
        text->route_scores[i] = best_score;
        text->route_ends[i] = best_end;
        text->route_nodes[i] = best_node;
    }
}

/* Append neighbouring words of one character each. If there are several, and together they do not form a
 * dictionary word, the hidden Markov model segments them. */
static void append_singles(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end) {
    const Trie *trie = &lexicon->trie;
    const int is_word = end - begin > 1 && trie->nodes[find_word(trie, text->chars, begin, end)].entry & SCORE_MASK;
    if (end - begin > 1 && !is_word)
        segment_by_hmm(lexicon, text, begin, end);
    else
        for (; begin < end; begin++) append_word(lexicon, text, begin, begin + 1);
}

static void segment_block(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end) {
    find_best_route(lexicon, text, begin, end);
    int64_t singles = begin;
    for (int64_t i = begin; i < end; i = text->route_ends[i]) {
        if (text->route_ends[i] - i == 1) continue;
        append_singles(lexicon, text, singles, i);
        singles = text->route_ends[i];
        text->words[text->word_count++] = (Word){i, singles, text->route_nodes[i]};
        __builtin_prefetch(lexicon->ids + text->route_nodes[i]); /* for write_ids */
    }
    append_singles(lexicon, text, singles, end);
}

void segment_text(const Lexicon *lexicon, Segmentation *text, const uint32_t *points, int64_t length,
                  int64_t max_words) {
    text->points = points;
    text->word_count = 0;
    for (int64_t begin = 0, end; begin < length && text->word_count < max_words; begin = end) {
        for (end = begin; end < length && is_block_char(points[end]); end++)
            text->chars[end] = lexicon->trie.node_by_char[points[end]];
        if (end > begin) {
            segment_block(lexicon, text, begin, end);
            continue;
        }
        end = begin + (is_mask(points + begin, length - begin) ? MASK_LENGTH : 1);
        for (int64_t i = begin; i < end; i++) text->chars[i] = lexicon->trie.node_by_char[points[i]];
        if (!is_space(points[begin])) append_word(lexicon, text, begin, end);
    }
}

void *allocate_segmentation(Segmentation *text, int64_t size) {
    if (++size > INT32_MAX) return 0;
    char *buffer = malloc(size * (sizeof(double) + sizeof(Word) + 2 * sizeof(int32_t) + sizeof(uint16_t) + 1));
    if (!buffer) return 0;
    text->route_scores = (double *)buffer;
    text->words = (Word *)(text->route_scores + size);
    text->route_nodes = (uint32_t *)(text->words + size);
    text->route_ends = (int32_t *)(text->route_nodes + size);
    text->chars = (uint16_t *)(text->route_ends + size);
    text->states = (uint8_t *)(text->chars + size);
    return buffer;
}

/* A word outside the vocabulary is replaced by its characters; UNKNOWN_ID stands for "[UNK]", for an unknown character,
 * and for a text without words. */
int32_t write_ids(const Lexicon *lexicon, const Segmentation *text, int64_t max_length, int32_t *ids) {
    int64_t count = 0;
    for (int64_t i = 0; i < text->word_count && count < max_length; i++) {
        const Word word = text->words[i];
        const int32_t id = lexicon->ids[word.node];
        if (id || is_mask(text->points + word.begin, word.end - word.begin)) {
            ids[count++] = id ? id : UNKNOWN_ID;
            continue;
        }
        for (int64_t j = word.begin; j < word.end && count < max_length; j++) {
            const int32_t char_id = lexicon->ids[text->chars[j]];
            ids[count++] = char_id ? char_id : UNKNOWN_ID;
        }
    }
    if (!count) ids[count++] = UNKNOWN_ID;
    return count;
}
