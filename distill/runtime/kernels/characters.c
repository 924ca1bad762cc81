/* The characters of a text as models read them: decoded from UTF-8, without zero-width characters, in lower case.
 *
 * Lower case is that of Python's str.lower. Two characters need more than an entry of the table. U+0130 becomes two
 * characters, at once, when it is decoded. A capital sigma becomes a final sigma at the end of a word, and which of its
 * neighbours belong to the word is in the table: that is why lower_case is a second pass over texts with upper case.
 */
#include "characters.h"
#include "layout.h"
#include "utf8.h"

EXPORT_LAYOUT(CharacterTable, FIELD(CharacterTable, pages), FIELD(CharacterTable, entries));

enum {
    CAPITAL_SIGMA = 0x3A3,
    FINAL_SIGMA = 0x3C2,
    CAPITAL_I_WITH_DOT = 0x130, /* in lower case: i, then the dot as a combining character */
    COMBINING_DOT = 0x307,
    REPLACEMENT = 0xFFFD
};

static inline uint32_t entry_of(const CharacterTable *table, uint32_t point) {
    return table->entries[table->pages[point >> 8] << 8 | (point & 0xFF)];
}

/* Three bytes of U+4000 to U+9FFF, most characters of a Chinese text: they are valid, and their entries are 0. */
static inline int is_common(const uint8_t *bytes, int64_t left) {
    return left >= 3 && bytes[0] >= 0xE4 && bytes[0] <= 0xE9 && is_continuation(bytes[1]) && is_continuation(bytes[2]);
}

DecodedText decode_text(const CharacterTable *table, const uint8_t *bytes, const uint8_t *end, int64_t max_characters,
                        uint32_t *points) {
    uint32_t *next = points, entries = 0;
    while (bytes < end) {
        if (is_common(bytes, end - bytes)) {
            *next++ = utf8_point(bytes, &bytes);
            continue;
        }
        const int is_valid = utf8_length_or_surrogate(bytes, end) > 0;
        const uint32_t point = is_valid ? utf8_point(bytes, &bytes) : (bytes++, REPLACEMENT);
        const uint32_t entry = entry_of(table, point);
        if (entry & ZERO_WIDTH) continue;
        entries |= entry;
        *next++ = point;
        if (point != CAPITAL_I_WITH_DOT) continue;
        max_characters += next - points <= max_characters;
        next[-1] = 'i';
        *next++ = COMBINING_DOT;
    }
    const int64_t length = next - points;
    return (DecodedText){length, length < max_characters ? length : max_characters, (entries & DELTA_BITS) != 0};
}

/* Whether the sigma at `i` ends a word: before it is a cased character and after it is none, case-ignorable characters
 * left out (Unicode's condition Final_Sigma). "[UNK]" ends a word too, as brackets have no case. */
static int is_final_sigma(const CharacterTable *table, const uint32_t *points, int64_t i, int64_t length) {
    int64_t before = i - 1, after = i + 1;
    while (before >= 0 && entry_of(table, points[before]) & CASE_IGNORABLE) before--;
    if (before < 0 || !(entry_of(table, points[before]) & CASED)) return 0;
    while (after < length && entry_of(table, points[after]) & CASE_IGNORABLE) after++;
    return after == length || !(entry_of(table, points[after]) & CASED);
}

void lower_case(const CharacterTable *table, const uint32_t *points, int64_t length, uint32_t *lowered) {
    for (int64_t i = 0; i < length; i++) {
        if (is_mask(points + i, length - i)) {
            memcpy(lowered + i, points + i, MASK_LENGTH * sizeof *points);
            i += MASK_LENGTH - 1;
            continue;
        }
        lowered[i] = (points[i] + entry_of(table, points[i])) & DELTA_BITS;
        if (points[i] == CAPITAL_SIGMA && is_final_sigma(table, points, i, length)) lowered[i] = FINAL_SIGMA;
    }
}
