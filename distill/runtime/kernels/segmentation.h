/* The data that word segmentation needs, and the words of one text; see segmentation.c. */
#ifndef DISTILL_SEGMENTATION_H
#define DISTILL_SEGMENTATION_H

#include "common.h"
#include "trie.h"

/* jieba's dictionary and hidden Markov model, and the student's vocabulary. */
typedef struct {
    Trie trie;                 /* of all words of the dictionary and the vocabulary */
    const int32_t *ids;        /* [nodes of the trie]: id in the vocabulary, 0 if the word is not in it */
    const double *scores;      /* log(frequency / total), indexed by entries; scores[0] is for unknown characters */
    const double *start;       /* [4]: log-probabilities of the states B, M, E, S at the first character */
    const double *transitions; /* [4 from][4 to] */
    const double *emissions;   /* [HAN_LAST - HAN_FIRST + 1][4] */
} Lexicon;

/* A word of a text: points[begin] .. points[end - 1], and its node in the trie, 0 if it has none. */
typedef struct {
    int32_t begin, end;
    uint32_t node;
} Word;

/* The words of one text, and working memory for finding them. The arrays are as long as the text or longer. */
typedef struct {
    const uint32_t *points;
    uint16_t *chars;       /* nodes of the single characters */
    uint32_t *route_nodes; /* node of the word that the best route takes at each position */
    int32_t *route_ends;   /* end of that word */
    double *route_scores;  /* score of the best route from each position on; [length + 1] */
    uint8_t *states;       /* of the hidden Markov model: first back pointers, then the most likely states */
    Word *words;
    int64_t word_count;
} Segmentation;

static inline int is_han(uint32_t point) { return point - HAN_FIRST <= HAN_LAST - HAN_FIRST; }

static inline int is_ascii_alphanumeric(uint32_t point) {
    return point - 'a' < 26 || point - '0' < 10 || point - 'A' < 26;
}

static inline void append_word(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end) {
    const uint32_t node = find_word(&lexicon->trie, text->chars, begin, end);
    text->words[text->word_count++] = (Word){begin, end, node};
    __builtin_prefetch(lexicon->ids + node); /* for write_ids */
}

/* Allocate the arrays for texts of up to `size` characters in one block, which the caller frees; 0 without memory. */
void *allocate_segmentation(Segmentation *text, int64_t size);

/* The words of `length` code points, without white space. Stops after the block in which there are `max_words`. */
void segment_text(const Lexicon *lexicon, Segmentation *text, const uint32_t *points, int64_t length,
                  int64_t max_words);

/* Write the ids of a segmented text, at most max_length, and return their number, at least 1. */
int32_t write_ids(const Lexicon *lexicon, const Segmentation *text, int64_t max_length, int32_t *ids);

#endif
