/* Texts as the kernels read them. The caller owns all arrays; no kernel allocates memory that outlives its call. */
#ifndef DISTILL_COMMON_H
#define DISTILL_COMMON_H

#include <stdint.h>

enum { OK = 0, NO_MEMORY = -1, INVALID_TRIE = -2 }; /* what an exported function returns */

/* Texts in UTF-8; text i is bytes[spans[2 i]] .. bytes[spans[2 i + 1] - 1]. The spans may lie anywhere, in any order. */
typedef struct {
    const uint8_t *bytes;
    const int64_t *spans; /* [count][2]: begin and end */
    int64_t count;
} Texts;

/* Bytes of the longest text, which has at most as many characters. */
static inline int64_t max_text_size(const Texts *texts) {
    int64_t max = 0;
    for (int64_t i = 0; i < texts->count; i++)
        if (texts->spans[2 * i + 1] - texts->spans[2 * i] > max) max = texts->spans[2 * i + 1] - texts->spans[2 * i];
    return max;
}

/* White space as defined by Python's str.isspace and by \s. */
static inline int is_space(uint32_t point) {
    if (point < 0x80) return point == ' ' || point - 0x09 < 5 || point - 0x1C < 4;
    if (point > 0x3000 || (point > 0xA0 && point < 0x1680)) return 0;
    return point == 0x85 || point == 0xA0 || point == 0x1680 || point - 0x2000 < 11 || point - 0x2028 < 2 ||
           point == 0x202F || point == 0x205F || point == 0x3000;
}

#define MASK_LENGTH 5 /* characters of "[UNK]", the masked word; no other text has capitals, as all is in lower case */

/* Whether a text of `length` code points begins with "[UNK]". */
static inline int is_mask(const uint32_t *points, int64_t length) {
    return points[0] == '[' && length >= MASK_LENGTH && points[1] == 'U' && points[2] == 'N' && points[3] == 'K' &&
           points[4] == ']';
}

#endif
