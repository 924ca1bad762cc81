/* The characters of a text as models read them; see characters.c. */
#ifndef DISTILL_CHARACTERS_H
#define DISTILL_CHARACTERS_H

#include "constants.h"
#include <stdint.h>

/* An entry for every code point, with DELTA_BITS, CASED, CASE_IGNORABLE and ZERO_WIDTH (see constants.h). Python fills it
 * in (distill/runtime/characters.py). */
typedef struct {
    const uint8_t *pages;    /* [0x1100]: page of every 256 code points; page 0 is that of characters without case */
    const uint32_t *entries; /* [pages][256] */
} CharacterTable;

/* A decoded text: upper case is still there. */
typedef struct {
    int64_t length;     /* code points */
    int64_t beginning;  /* code points of the first max_characters characters */
    int has_upper_case; /* whether lower_case would change any */
} DecodedText;

/* Decode the UTF-8 in bytes .. end - 1 to points [end - bytes], leaving out zero-width characters. Nothing outside is
 * read, whatever the bytes are: a byte that is not part of a valid character is read as U+FFFD. */
DecodedText decode_text(const CharacterTable *table, const uint8_t *bytes, const uint8_t *end, int64_t max_characters,
                        uint32_t *points);

/* lowered [length]: the code points in lower case, but "[UNK]" as it is. */
void lower_case(const CharacterTable *table, const uint32_t *points, int64_t length, uint32_t *lowered);

#endif
