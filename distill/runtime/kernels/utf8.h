/* Characters of texts in UTF-8, as Python's str sees them. */
#ifndef DISTILL_UTF8_H
#define DISTILL_UTF8_H

#include "common.h"
#include <string.h>

static inline int is_continuation(uint8_t byte) { return (byte & 0xC0) == 0x80; }

/* Length of the character at the beginning of [at, end), which may be half a surrogate pair; 0 if it is invalid. */
static inline int utf8_length_or_surrogate(const uint8_t *at, const uint8_t *end) {
    const uint8_t first = at[0];
    if (first < 0x80) return 1;
    if (end - at < 2 || first < 0xC2 || !is_continuation(at[1])) return 0;
    if (first < 0xE0) return 2;
    if (end - at < 3 || !is_continuation(at[2])) return 0;
    if (first < 0xF0) return first == 0xE0 && at[1] < 0xA0 ? 0 : 3;
    if (end - at < 4 || first > 0xF4 || !is_continuation(at[3])) return 0;
    return (first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] >= 0x90) ? 0 : 4;
}

/* Length of the character at the beginning of [at, end); 0 if it is invalid. */
static inline int utf8_length(const uint8_t *at, const uint8_t *end) {
    const int length = utf8_length_or_surrogate(at, end);
    return length == 3 && at[0] == 0xED && at[1] >= 0xA0 ? 0 : length;
}

/* Whether [at, end) is valid UTF-8. */
static inline int is_utf8(const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        uint64_t word;
        if (end - at >= 8 && (memcpy(&word, at, 8), !(word & 0x8080808080808080))) {
            at += 8;
            continue;
        }
        const int length = utf8_length(at, end);
        if (!length) return 0;
        at += length;
    }
    return 1;
}

/* The character at the beginning of valid UTF-8, and where the next one begins. */
static inline uint32_t utf8_point(const uint8_t *at, const uint8_t **next) {
    const uint32_t first = at[0];
    if (first < 0x80) return *next = at + 1, first;
    if (first < 0xE0) return *next = at + 2, (first & 0x1F) << 6 | (at[1] & 0x3F);
    if (first < 0xF0) return *next = at + 3, (first & 0xF) << 12 | (at[1] & 0x3F) << 6 | (at[2] & 0x3F);
    return *next = at + 4, (first & 7) << 18 | (at[1] & 0x3F) << 12 | (at[2] & 0x3F) << 6 | (at[3] & 0x3F);
}

/* Write a character that is not half a surrogate pair; returns the end. */
static inline uint8_t *write_utf8(uint32_t point, uint8_t *to) {
    if (point < 0x80) return *to++ = point, to;
    if (point < 0x800)
        *to++ = 0xC0 | point >> 6;
    else {
        if (point < 0x10000)
            *to++ = 0xE0 | point >> 12;
        else {
            *to++ = 0xF0 | point >> 18;
            *to++ = 0x80 | (point >> 12 & 0x3F);
        }
        *to++ = 0x80 | (point >> 6 & 0x3F);
    }
    *to++ = 0x80 | (point & 0x3F);
    return to;
}

/* Zero-width characters, which no model reads; as ZERO_WIDTH_CHARACTER in distill/runtime/packing.py. */
static inline int is_zero_width(uint32_t point) {
    if (point < 0x200B) return point == 0xAD || point == 0x61C || point == 0x180E;
    if (point < 0xE0001)
        return point < 0x2010 || point - 0x202A < 5 || point - 0x2060 < 5 || point - 0x2066 < 10 || point == 0xFEFF ||
               point - 0xFFF9 < 3;
    return point == 0xE0001 || point - 0xE0020 < 96;
}

/* Whether somebody could see the character: it is no white space, no control character, and has a width. */
static inline int is_visible(uint32_t point) {
    return !is_space(point) && point >= 0x20 && (point < 0x7F || point >= 0xA0) && !is_zero_width(point);
}

/* [at, end) without white space at its beginning. */
static inline const uint8_t *skip_spaces(const uint8_t *at, const uint8_t *end) {
    for (const uint8_t *next; at < end && is_space(utf8_point(at, &next));) at = next;
    return at;
}

/* The end of [at, end) without white space at its end. */
static inline const uint8_t *trim_end(const uint8_t *at, const uint8_t *end) {
    while (end > at) {
        const uint8_t *last = end - 1, *next;
        while (is_continuation(*last)) last--;
        if (!is_space(utf8_point(last, &next))) break;
        end = last;
    }
    return end;
}

#endif
