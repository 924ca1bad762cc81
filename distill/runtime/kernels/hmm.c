/* Words that are not in the dictionary, found among single characters: jieba.finalseg of jieba 0.42.1, bit for bit.
 *
 * Runs of Han characters are segmented by Viterbi decoding of a hidden Markov model. Its four states tell where in a
 * word a character is: B(egin), M(iddle), E(nd), S(ingle). Runs of other characters are split by the regular expression
 * ([a-zA-Z0-9]+(?:\.\d+)?%?), which keeps numbers such as "1.5%" whole.
 */
#include "hmm.h"

enum { B, M, E, S };

/* The two states that can precede each state. At equal scores jieba (Python's max) takes the later letter. */
static const uint8_t EARLIER_LETTER[4] = {E, B, B, E}, LATER_LETTER[4] = {S, M, M, S};

/* One Viterbi step: update the scores of the four states. Bit s of the result: LATER_LETTER[s] preceded state s. */
static uint8_t viterbi_step(const Lexicon *lexicon, const double *emission, double *scores) {
    double next[4];
    uint8_t back_pointers = 0;
    for (int state = 0; state < 4; state++) {
        const int earlier = EARLIER_LETTER[state], later = LATER_LETTER[state];
        const double from_earlier = scores[earlier] + lexicon->transitions[4 * earlier + state] + emission[state];
        const double from_later = scores[later] + lexicon->transitions[4 * later + state] + emission[state];
        next[state] = from_later >= from_earlier ? from_later : from_earlier;
        back_pointers |= (from_later >= from_earlier) << state;
    }
    for (int state = 0; state < 4; state++) scores[state] = next[state];
    return back_pointers;
}

/* Write the most likely state of each character into `states`. */
static void viterbi(const Lexicon *lexicon, const uint32_t *points, uint8_t *states, int64_t length) {
    double scores[4];
    for (int state = 0; state < 4; state++)
        scores[state] = lexicon->start[state] + lexicon->emissions[4 * (points[0] - HAN_FIRST) + state];
    for (int64_t i = 1; i < length; i++)
        states[i] = viterbi_step(lexicon, lexicon->emissions + 4 * (points[i] - HAN_FIRST), scores);
    uint8_t state = scores[S] >= scores[E] ? S : E;
    for (int64_t i = length - 1; i >= 0; i--) {
        const uint8_t back_pointers = states[i];
        states[i] = state;
        if (i) state = back_pointers >> state & 1 ? LATER_LETTER[state] : EARLIER_LETTER[state];
    }
}

/* Append a word that the model formed; a word marked FORCE_SPLIT is split into its characters. */
static void append_hmm_word(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end) {
    append_word(lexicon, text, begin, end);
    if (end - begin == 1) return;
    const Word *word = &text->words[text->word_count - 1];
    if (!(lexicon->trie.nodes[word->node].entry & FORCE_SPLIT)) return;
    text->word_count--;
    for (; begin < end; begin++) append_word(lexicon, text, begin, begin + 1);
}

static void segment_han(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end) {
    viterbi(lexicon, text->points + begin, text->states + begin, end - begin);
    for (int64_t i = begin; i < end; i++) {
        if (text->states[i] == B) begin = i;
        if (text->states[i] == E) append_hmm_word(lexicon, text, begin, i + 1);
        if (text->states[i] == S) append_word(lexicon, text, i, i + 1);
    }
}

/* End of the match of ([a-zA-Z0-9]+(?:\.\d+)?%?) at `begin`; `begin` itself if there is no match. */
static int64_t match_number(const uint32_t *points, int64_t begin, int64_t end) {
    int64_t i = begin;
    while (i < end && is_ascii_alphanumeric(points[i])) i++;
    if (i == begin) return begin;
    if (i + 1 < end && points[i] == '.' && points[i + 1] - '0' < 10)
        for (i++; i < end && points[i] - '0' < 10;) i++;
    return i + (i < end && points[i] == '%');
}

/* Latin letters, digits and symbols: the matches of the regular expression, and what lies between them. */
static void segment_non_han(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end) {
    while (begin < end) {
        int64_t word_end = match_number(text->points, begin, end);
        if (word_end == begin)
            while (word_end < end && !is_ascii_alphanumeric(text->points[word_end])) word_end++;
        append_word(lexicon, text, begin, word_end);
        begin = word_end;
    }
}

void segment_by_hmm(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end) {
    while (begin < end) {
        const int han = is_han(text->points[begin]);
        int64_t run_end = begin + 1;
        while (run_end < end && is_han(text->points[run_end]) == han) run_end++;
        (han ? segment_han : segment_non_han)(lexicon, text, begin, run_end);
        begin = run_end;
    }
}
