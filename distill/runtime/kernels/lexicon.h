/* The trie of all words, and what cuts a text by it; see lexicon.c. */
#ifndef DISTILL_LEXICON_H
#define DISTILL_LEXICON_H

#include "kernels.h"

/* A node, known by its parent and the last character of its word. */
typedef struct {
    uint32_t parent; /* 0: an empty cell */
    uint16_t label;
    uint16_t weight; /* place in scores, 0: no word of jieba's; and SPLIT and GROWS */
} Cell;

#define SPLIT 0x8000 /* a word that jieba's hidden Markov model must not make */
#define GROWS 0x4000 /* longer words begin so */
#define WEIGHT 0x3FFF

/* Node 0 is none, 1 .. letters are the single characters, the further ones lie in a hash table of 2^bits cells. */
typedef struct {
    const uint16_t *letter_of; /* node of every code point, 0x110000 */
    const Cell *cells;         /* of every node */
    const int32_t *ids;        /* of every node in the vocabulary, 0: it is not there */
    const double *scores;      /* log(frequency / total); first that of an unknown character */
    const double *start;       /* of the states B, M, E, S */
    const double *transitions; /* state, next state */
    const double *emissions;   /* Han character, state */
    int64_t letters;
    int64_t bits;
} Lexicon;

/* A word of a text: points[begin] .. points[end - 1], and its node. */
typedef struct {
    int32_t begin, end;
    uint32_t node;
} Word;

/* What one text needs while it is cut, each as long as the text. */
typedef struct {
    const uint32_t *points;
    uint16_t *letters; /* single characters' nodes */
    uint32_t *nodes;   /* of the word that the route takes from here */
    int32_t *ends;     /* of that word */
    double *best;      /* score of the route from here; one more than the text is long */
    uint8_t *back;     /* of the hidden Markov model */
    Word *words;
    int64_t count; /* of words */
} Cut;

static inline int is_han(uint32_t point) { return point - 0x4E00 <= 0x9FD5 - 0x4E00; }

static inline int is_alphanumeric(uint32_t point) {
    return point - 'a' < 26 || point - '0' < 10 || point - 'A' < 26;
}

static inline uint64_t cell_of(uint64_t parent, uint64_t label, int64_t bits) {
    return ((parent << 16 | label) * 0x9E3779B97F4A7C15u) >> (64 - bits);
}

/* Have the cell of a child at hand soon: waiting for memory is most of what a look takes. */
static inline void expect_child(const Lexicon *lexicon, uint32_t parent, uint16_t label) {
    __builtin_prefetch(lexicon->cells + lexicon->letters + 1 + cell_of(parent, label, lexicon->bits));
}

/* The node of a word with one character more, 0 if there is none; of node 0 there is none. */
static inline uint32_t child(const Lexicon *lexicon, uint32_t parent, uint16_t label) {
    const Cell *table = lexicon->cells + lexicon->letters + 1;
    const uint64_t last = (1ull << lexicon->bits) - 1;
    if (!(lexicon->cells[parent].weight & GROWS)) return 0;
    for (uint64_t at = cell_of(parent, label, lexicon->bits);; at = (at + 1) & last) {
        if (table[at].parent == parent && table[at].label == label) return at + lexicon->letters + 1;
        if (!table[at].parent) return 0;
    }
}

/* The node of points[begin] .. points[end - 1], 0 if there is none. */
static inline uint32_t node_of(const Lexicon *lexicon, const uint16_t *letters, int64_t begin, int64_t end) {
    uint32_t node = letters[begin];
    for (int64_t at = begin + 1; node && at < end; at++) node = child(lexicon, node, letters[at]);
    return node;
}

static inline void add_word(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end) {
    cut->words[cut->count++] = (Word){begin, end, node_of(lexicon, cut->letters, begin, end)};
}

/* jieba.finalseg.cut: words out of single characters that the dictionary left. */
void distill_names(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end);

int distill_encode(const Lexicon *lexicon, const Texts *texts, int64_t most, int32_t *ids, int32_t *lengths);

#endif
