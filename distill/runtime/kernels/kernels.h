/* What the kernels share. All arrays belong to the caller; nothing is allocated that outlives a call. */
#ifndef DISTILL_KERNELS_H
#define DISTILL_KERNELS_H

#include <stdint.h>

/* Texts as UTF-32 code points, one after the other; text i is points[starts[i]] .. points[starts[i + 1] - 1]. */
typedef struct {
    const uint32_t *points;
    const int64_t *starts; /* texts + 1 */
    int64_t texts;
} Texts;

/* Buckets that n-grams are hashed into, and the row of each, 0: none. */
typedef struct {
    const uint16_t *row_of; /* buckets */
    int64_t buckets;
} Ngrams;

int distill_ngrams(const Ngrams *ngrams, const Texts *texts, int32_t *rows, int64_t *starts);

/* Length of the longest text. */
static inline int64_t longest_text(const Texts *texts) {
    int64_t longest = 0;
    for (int64_t i = 0; i < texts->texts; i++)
        if (texts->starts[i + 1] - texts->starts[i] > longest) longest = texts->starts[i + 1] - texts->starts[i];
    return longest;
}

/* White space as Python's str.isspace and \s have it. */
static inline int is_space(uint32_t point) {
    if (point < 0x80) return point == ' ' || point - 0x09 < 5 || point - 0x1C < 4;
    if (point > 0x3000 || (point > 0xA0 && point < 0x1680)) return 0;
    return point == 0x85 || point == 0xA0 || point == 0x1680 || point - 0x2000 < 11 || point - 0x2028 < 2 ||
           point == 0x202F || point == 0x205F || point == 0x3000;
}

#define MASKED 5 /* characters of "[UNK]"; all else is in lower case, so the capitals can be nothing else */

/* Whether "[UNK]" stands at the beginning of so many points. */
static inline int is_masked(const uint32_t *points, int64_t length) {
    return points[0] == '[' && length >= MASKED && points[1] == 'U' && points[2] == 'N' && points[3] == 'K' &&
           points[4] == ']';
}

#endif
