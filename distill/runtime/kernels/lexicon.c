/*
 * Words and their ids out of texts: jieba.cut of jieba 0.42.1 (HMM=True), bit by bit, then a vocabulary's ids.
 *
 * A node of the trie is found by hashing its parent's number with its last character: one look, mostly, a character,
 * where a search among a node's children takes ten that depend on one another.
 */
#include <stdlib.h>

#include "lexicon.h"

enum { FINE = 0, NO_MEMORY = -1, BROKEN = -2 };

/*
 * Fill the cells from a trie in breadth-first order. cells is empty, letters + 1 + 2^bits long and at least twice as
 * long as there are nodes; slots (nodes + 1) becomes the number of every node.
 */
int distill_index(Cell *cells, int64_t letters, int64_t bits, const uint16_t *labels, const uint16_t *children,
                  const uint16_t *weights, int64_t nodes, uint32_t *slots) {
    const uint64_t last = (1ull << bits) - 1;
    Cell *table = cells + letters + 1;
    slots[0] = 0;
    for (int64_t node = 1; node <= letters; node++) {
        slots[node] = node;
        cells[node].weight = weights[node - 1];
    }
    int64_t next = letters + 1;
    for (int64_t node = 1; node <= nodes; node++) {
        if (node >= next || next + children[node - 1] > nodes + 1) return BROKEN;
        for (const int64_t end = next + children[node - 1]; next < end; next++) {
            uint64_t at = cell_of(slots[node], labels[next - 1], bits);
            while (table[at].parent) at = (at + 1) & last;
            cells[slots[node]].weight |= GROWS;
            table[at] = (Cell){slots[node], labels[next - 1], weights[next - 1]};
            slots[next] = at + letters + 1;
        }
    }
    return next == nodes + 1 ? FINE : BROKEN;
}

/* [\u4E00-\u9FD5a-zA-Z0-9+#&\._%\-]: what jieba cuts; any other character is a word by itself. */
static inline int is_cut(uint32_t point) {
    if (point >= 0x80) return is_han(point);
    return is_alphanumeric(point) || (point - '#' < 12 && (0x0D0D >> (point - '#') & 1)) || point == '_';
}

/* From the right, the best word to take at every place: the sum of scores is largest, of equal ones the longest. */
static void find_route(const Lexicon *lexicon, const Cut *cut, int64_t begin, int64_t end) {
    const uint16_t *letters = cut->letters;
    for (int64_t at = begin; at + 1 < end; at++) expect_child(lexicon, letters[at], letters[at + 1]);
    for (int64_t at = begin; at + 1 < end; at++) {
        cut->nodes[at] = child(lexicon, letters[at], letters[at + 1]);
        if (at + 2 < end) expect_child(lexicon, cut->nodes[at], letters[at + 2]);
    }
    cut->nodes[end - 1] = 0;
    cut->best[end] = 0;
    for (int64_t at = end - 1; at >= begin; at--) {
        uint32_t node = cut->nodes[at], taken = letters[at];
        double best = lexicon->scores[lexicon->cells[taken].weight & WEIGHT] + cut->best[at + 1];
        int64_t stop = at + 1;
        for (int64_t next = at + 2; node; node = next < end ? child(lexicon, node, letters[next]) : 0, next++) {
            const uint16_t weight = lexicon->cells[node].weight & WEIGHT;
            const double score = lexicon->scores[weight] + cut->best[next];
            if (weight && score >= best) best = score, stop = next, taken = node;
        }
        cut->best[at] = best;
        cut->ends[at] = stop;
        cut->nodes[at] = taken;
    }
}

/* Neighbours that the route took as single characters: one of them, a word of the dictionary, or made into names. */
static void add_singles(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end) {
    const int known = end - begin > 1 && lexicon->cells[node_of(lexicon, cut->letters, begin, end)].weight & WEIGHT;
    if (end - begin > 1 && !known)
        distill_names(lexicon, cut, begin, end);
    else
        for (; begin < end; begin++) add_word(lexicon, cut, begin, begin + 1);
}

static void cut_block(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end) {
    find_route(lexicon, cut, begin, end);
    int64_t singles = begin;
    for (int64_t at = begin; at < end; at = cut->ends[at]) {
        if (cut->ends[at] - at == 1) continue;
        add_singles(lexicon, cut, singles, at);
        singles = cut->ends[at];
        cut->words[cut->count++] = (Word){at, singles, cut->nodes[at]};
    }
    add_singles(lexicon, cut, singles, end);
}

/* The words of a text, white space left out; no further block is cut once there are so many. */
static void cut_text(const Lexicon *lexicon, Cut *cut, int64_t length, int64_t most) {
    const uint32_t *points = cut->points;
    cut->count = 0;
    for (int64_t at = 0, end; at < length && cut->count < most; at = end) {
        for (end = at; end < length && is_cut(points[end]); end++) cut->letters[end] = lexicon->letter_of[points[end]];
        if (end > at) {
            cut_block(lexicon, cut, at, end);
            continue;
        }
        end = at + (is_masked(points + at, length - at) ? MASKED : 1);
        for (int64_t letter = at; letter < end; letter++) cut->letters[letter] = lexicon->letter_of[points[letter]];
        if (!is_space(points[at])) add_word(lexicon, cut, at, end);
    }
}

/* Room for the longest text in one piece; free what is returned. */
static void *make_room(Cut *cut, const Texts *texts) {
    const int64_t size = longest_text(texts) + 1;
    if (size > INT32_MAX) return 0;
    char *room = malloc(size * (sizeof(double) + sizeof(Word) + 2 * sizeof(int32_t) + sizeof(uint16_t) + 1));
    if (!room) return 0;
    cut->best = (double *)room;
    cut->words = (Word *)(cut->best + size);
    cut->nodes = (uint32_t *)(cut->words + size);
    cut->ends = (int32_t *)(cut->nodes + size);
    cut->letters = (uint16_t *)(cut->ends + size);
    cut->back = (uint8_t *)(cut->letters + size);
    return room;
}

/* Begin and end of every word in points, one after the other in spans (points, 2); counts (texts) says how many. */
int distill_cut(const Lexicon *lexicon, const Texts *texts, int64_t *spans, int64_t *counts) {
    Cut cut;
    void *room = make_room(&cut, texts);
    if (!room) return NO_MEMORY;
    for (int64_t i = 0; i < texts->texts; i++) {
        const int64_t start = texts->starts[i];
        cut.points = texts->points + start;
        cut_text(lexicon, &cut, texts->starts[i + 1] - start, INT64_MAX);
        counts[i] = cut.count;
        for (int64_t word = 0; word < cut.count; word++) {
            *spans++ = start + cut.words[word].begin;
            *spans++ = start + cut.words[word].end;
        }
    }
    free(room);
    return FINE;
}

/* Ids of a text that is cut: a word's own, or its characters'; 1 for "[UNK]", what is unknown, and nothing at all. */
static int32_t write_ids(const Lexicon *lexicon, const Cut *cut, int64_t most, int32_t *ids) {
    int64_t count = 0;
    for (int64_t i = 0; i < cut->count && count < most; i++) {
        const Word word = cut->words[i];
        const int32_t id = lexicon->ids[word.node];
        if (id || is_masked(cut->points + word.begin, word.end - word.begin)) {
            ids[count++] = id ? id : 1;
            continue;
        }
        for (int64_t at = word.begin; at < word.end && count < most; at++) {
            const int32_t letter = lexicon->ids[cut->letters[at]];
            ids[count++] = letter ? letter : 1;
        }
    }
    if (!count) ids[count++] = 1;
    return count;
}

/* The first ids of every text, at most most (at least 1), in ids (texts, most); lengths (texts) says how many. */
int distill_encode(const Lexicon *lexicon, const Texts *texts, int64_t most, int32_t *ids, int32_t *lengths) {
    Cut cut;
    void *room = make_room(&cut, texts);
    if (!room) return NO_MEMORY;
    for (int64_t i = 0; i < texts->texts; i++) {
        cut.points = texts->points + texts->starts[i];
        cut_text(lexicon, &cut, texts->starts[i + 1] - texts->starts[i], most);
        lengths[i] = write_ids(lexicon, &cut, most, ids + i * most);
    }
    free(room);
    return FINE;
}
