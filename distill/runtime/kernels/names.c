/* Words that no dictionary knows, out of single characters: jieba.finalseg of jieba 0.42.1, bit by bit. */
#include "lexicon.h"

enum { B, M, E, S }; /* a character begins a word, is in its middle, ends it, is one by itself */

/* The two states that may come before each; where both score the same Python's max takes the later letter. */
static const uint8_t EARLIER[4] = {E, B, B, E}, LATER[4] = {S, M, M, S};

/* One step of Viterbi: scores of the four states, and for each in a bit whether LATER came before. */
static uint8_t step(const Lexicon *lexicon, const double *emission, double *scores) {
    double next[4];
    uint8_t came = 0;
    for (int state = 0; state < 4; state++) {
        const int one = EARLIER[state], other = LATER[state];
        const double early = scores[one] + lexicon->transitions[4 * one + state] + emission[state];
        const double late = scores[other] + lexicon->transitions[4 * other + state] + emission[state];
        next[state] = late >= early ? late : early;
        came |= (late >= early) << state;
    }
    for (int state = 0; state < 4; state++) scores[state] = next[state];
    return came;
}

/* Leaves the most likely state of every character in back. */
static void viterbi(const Lexicon *lexicon, const uint32_t *points, uint8_t *back, int64_t length) {
    double scores[4];
    for (int state = 0; state < 4; state++)
        scores[state] = lexicon->start[state] + lexicon->emissions[4 * (points[0] - 0x4E00) + state];
    for (int64_t at = 1; at < length; at++)
        back[at] = step(lexicon, lexicon->emissions + 4 * (points[at] - 0x4E00), scores);
    uint8_t state = scores[S] >= scores[E] ? S : E;
    for (int64_t at = length - 1; at >= 0; at--) {
        const uint8_t came = back[at];
        back[at] = state;
        if (at) state = came >> state & 1 ? LATER[state] : EARLIER[state];
    }
}

/* A word of the model; one that it must not make falls into its characters. */
static void add_name(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end) {
    add_word(lexicon, cut, begin, end);
    if (end - begin == 1 || !(lexicon->cells[cut->words[cut->count - 1].node].weight & SPLIT)) return;
    cut->count--;
    for (; begin < end; begin++) add_word(lexicon, cut, begin, begin + 1);
}

static void han(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end) {
    viterbi(lexicon, cut->points + begin, cut->back + begin, end - begin);
    for (int64_t at = begin; at < end; at++) {
        if (cut->back[at] == B) begin = at;
        if (cut->back[at] == E) add_name(lexicon, cut, begin, at + 1);
        if (cut->back[at] == S) add_word(lexicon, cut, at, at + 1);
    }
}

/* The end of what ([a-zA-Z0-9]+(?:\.\d+)?%?) matches at begin; begin where it matches nothing. */
static int64_t number_end(const uint32_t *points, int64_t begin, int64_t end) {
    int64_t at = begin;
    while (at < end && is_alphanumeric(points[at])) at++;
    if (at == begin) return begin;
    if (at + 1 < end && points[at] == '.' && points[at + 1] - '0' < 10)
        for (at++; at < end && points[at] - '0' < 10;) at++;
    return at + (at < end && points[at] == '%');
}

/* Latin letters, digits and signs: words like "1.5", and what stands between them. */
static void others(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end) {
    while (begin < end) {
        int64_t stop = number_end(cut->points, begin, end);
        if (stop == begin)
            while (stop < end && !is_alphanumeric(cut->points[stop])) stop++;
        add_word(lexicon, cut, begin, stop);
        begin = stop;
    }
}

void distill_names(const Lexicon *lexicon, Cut *cut, int64_t begin, int64_t end) {
    while (begin < end) {
        const int of_han = is_han(cut->points[begin]);
        int64_t stop = begin + 1;
        while (stop < end && is_han(cut->points[stop]) == of_han) stop++;
        (of_han ? han : others)(lexicon, cut, begin, stop);
        begin = stop;
    }
}
