/* Known character n-grams of texts: distill/text/ngrams.py, number by number and in its order. */
#include <stdlib.h>

#include "kernels.h"

enum { FINE = 0, NO_MEMORY = -1 };
#define BITS 21 /* of a code point + 1 */
#define BOUNDARY 0x110001

/* MurmurHash3's 64-bit finalizer, then key % (buckets - 1) + 1 with a multiplication in the place of a division. */
static inline uint64_t bucket(uint64_t key, uint64_t modulus, uint64_t inverse) {
    key = (key ^ key >> 33) * 0xFF51AFD7ED558CCDu;
    key = (key ^ key >> 33) * 0xC4CEB9FE1A85EC53u;
    key ^= key >> 33;
    const uint64_t rest = key - (uint64_t)((unsigned __int128)key * inverse >> 64) * modulus; /* less than 2 modulus */
    return (rest >= modulus ? rest - modulus : rest) + 1;
}

/* Rows of the n-grams of a framed piece; single characters begin at first and end before last. */
static int32_t *add_piece(const Ngrams *ngrams, const uint64_t *framed, int64_t length, int64_t first, int64_t last,
                          int32_t *rows) {
    const uint64_t modulus = ngrams->buckets - 1, inverse = UINT64_MAX / modulus;
    for (int64_t at = first; at < last; at++) {
        *rows = ngrams->row_of[bucket(framed[at], modulus, inverse)];
        rows += *rows > 0;
    }
    for (int64_t at = 0; at + 1 < length; at++) {
        *rows = ngrams->row_of[bucket(framed[at] | framed[at + 1] << BITS, modulus, inverse)];
        rows += *rows > 0;
    }
    for (int64_t at = 0; at + 2 < length; at++) {
        const uint64_t key = framed[at] | framed[at + 1] << BITS | framed[at + 2] << 2 * BITS;
        *rows = ngrams->row_of[bucket(key, modulus, inverse)];
        rows += *rows > 0;
    }
    return rows;
}

/* One text: what "[UNK]" splits it into, each without white space, the first and the last with a boundary. */
static int32_t *add_text(const Ngrams *ngrams, const uint32_t *points, int64_t length, uint64_t *framed,
                         int32_t *rows) {
    framed[0] = BOUNDARY;
    for (int64_t at = 0, first = 1; at <= length; at += MASKED, first = 0) {
        int64_t end = first;
        for (; at < length && !is_masked(points + at, length - at); at++) {
            framed[end] = points[at] + 1;
            end += !is_space(points[at]);
        }
        framed[end] = BOUNDARY;
        if (end > first) rows = add_piece(ngrams, framed, end + (at >= length), first, end, rows);
    }
    return rows;
}

/* Rows of every text's n-grams, one text after the other (3 x points + texts at most); starts (texts + 1) says where. */
int distill_ngrams(const Ngrams *ngrams, const Texts *texts, int32_t *rows, int64_t *starts) {
    uint64_t *framed = malloc((longest_text(texts) + 2) * sizeof(uint64_t));
    if (!framed) return NO_MEMORY;
    int32_t *end = rows;
    starts[0] = 0;
    for (int64_t i = 0; i < texts->texts; i++) {
        end = add_text(ngrams, texts->points + texts->starts[i], texts->starts[i + 1] - texts->starts[i], framed, end);
        starts[i + 1] = end - rows;
    }
    free(framed);
    return FINE;
}
