/* Rows of JSON lines: an object per line, which has the text as a string.
 *
 * Accepted are objects that Python's json.loads accepts. An object is declined if the key of its text occurs twice, if
 * it has a key that the readers treat in their own way, and where json.loads has limits or accepts more than RFC 8259.
 */
#include "rows.h"

#define MAX_DEPTH 64     /* of arrays and objects within one another; Python's own limit is higher */
#define MAX_NUMBER 4000  /* characters; Python refuses whole numbers of more than 4300 digits */

static const uint8_t *skip_value(const uint8_t *at, const uint8_t *end, int depth);

static const uint8_t *skip_blanks(const uint8_t *at, const uint8_t *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n')) at++;
    return at;
}

static int hex_digit(uint8_t byte) {
    if (byte - '0' < 10u) return byte - '0';
    return (byte | 0x20) - 'a' < 6u ? (byte | 0x20) - 'a' + 10 : -1;
}

/* The value of four hexadecimal digits; -1 if they are none. */
static int32_t hex_value(const uint8_t *at, const uint8_t *end) {
    int32_t value = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_digit(at[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* Every function below returns the position behind what it skips; a null pointer if the row must be declined. */

/* A string whose opening quote precedes `at`. */
static const uint8_t *skip_string(const uint8_t *at, const uint8_t *end, int32_t *escapes) {
    for (; at < end && *at != '"'; at++) {
        if (*at < 0x20) return 0;
        if (*at != '\\') continue;
        *escapes = JSON_ESCAPES;
        if (++at == end || !memchr("\"\\/bfnrtu", *at, 9)) return 0;
        if (*at == 'u' && hex_value(at + 1, end) < 0) return 0;
    }
    return at < end ? at + 1 : 0;
}

static const uint8_t *skip_digits(const uint8_t *at, const uint8_t *end) {
    const uint8_t *begin = at;
    while (at < end && *at - '0' < 10u) at++;
    return at > begin ? at : 0;
}

static const uint8_t *skip_number(const uint8_t *at, const uint8_t *end) {
    const uint8_t *begin = at;
    at += *at == '-';
    const int begins_with_zero = at < end && *at == '0';
    at = begins_with_zero ? at + 1 : skip_digits(at, end);
    if (at && at < end && *at == '.') at = skip_digits(at + 1, end);
    if (at && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < end && (*at == '+' || *at == '-');
        at = skip_digits(at, end);
    }
    return at && at - begin <= MAX_NUMBER ? at : 0;
}

/* An array or an object whose bracket precedes `at`. */
static const uint8_t *skip_items(const uint8_t *at, const uint8_t *end, int depth, uint8_t closing) {
    at = skip_blanks(at, end);
    if (at < end && *at == closing) return at + 1;
    for (int32_t escapes; at < end; at = skip_blanks(at + 1, end)) {
        if (closing == '}') {
            if (*at != '"' || !(at = skip_string(at + 1, end, &escapes))) return 0;
            at = skip_blanks(at, end);
            if (at == end || *at != ':') return 0;
            at = skip_blanks(at + 1, end);
        }
        if (!(at = skip_value(at, end, depth))) return 0;
        at = skip_blanks(at, end);
        if (at < end && *at == closing) return at + 1;
        if (at == end || *at != ',') return 0;
    }
    return 0;
}

static const uint8_t *skip_word(const uint8_t *at, const uint8_t *end, const char *word) {
    const int64_t size = strlen(word);
    return end - at >= size && !memcmp(at, word, size) ? at + size : 0;
}

static const uint8_t *skip_value(const uint8_t *at, const uint8_t *end, int depth) {
    int32_t escapes;
    if (at == end || depth == MAX_DEPTH) return 0;
    switch (*at) {
    case '"': return skip_string(at + 1, end, &escapes);
    case '{': return skip_items(at + 1, end, depth + 1, '}');
    case '[': return skip_items(at + 1, end, depth + 1, ']');
    case 't': return skip_word(at, end, "true");
    case 'f': return skip_word(at, end, "false");
    case 'n': return skip_word(at, end, "null");
    default: return *at == '-' || *at - '0' < 10u ? skip_number(at, end) : 0;
    }
}

/* The index of a key, or -1. */
static int64_t find_key(const RowFormat *format, const uint8_t *key, int64_t size) {
    for (int64_t i = 0; i < format->key_count; i++) {
        const int64_t begin = format->key_starts[i];
        if (format->key_starts[i + 1] - begin == size && !memcmp(format->keys + begin, key, size)) return i;
    }
    return -1;
}

int find_json_row(const RowFormat *format, const Line *line, FoundRow *row) {
    const uint8_t *end = line->end, *at = skip_blanks(line->begin, end);
    if (at == end || *at != '{') return ROWS_DECLINED;
    do {
        int32_t escapes = NO_ESCAPES;
        const uint8_t *key = skip_blanks(at + 1, end) + 1;
        if (key >= end || key[-1] != '"' || !(at = skip_string(key, end, &escapes)) || escapes) return ROWS_DECLINED;
        const int64_t index = find_key(format, key, at - 1 - key);
        at = skip_blanks(at, end);
        if (index > 0 || at == end || *at != ':') return ROWS_DECLINED;
        const uint8_t *value = skip_blanks(at + 1, end);
        if (index == 0) {
            if (row->text || value == end || *value != '"') return ROWS_DECLINED;
            row->text = value + 1;
            if (!(at = skip_string(value + 1, end, &row->escapes))) return ROWS_DECLINED;
            row->text_end = at - 1;
        } else if (!(at = skip_value(value, end, 0)))
            return ROWS_DECLINED;
        at = skip_blanks(at, end);
    } while (at < end && *at == ',');
    if (!row->text || at == end || *at != '}' || skip_blanks(at + 1, end) != end) return ROWS_DECLINED;
    row->begin = line->begin, row->end = at;
    return ROWS_FULL;
}

static uint8_t unescaped(uint8_t letter) {
    switch (letter) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    default: return letter;
    }
}

uint8_t *copy_json_text(const uint8_t *text, const uint8_t *end, uint8_t *to) {
    while (text < end) {
        if (*text != '\\') {
            *to++ = *text++;
        } else if (text[1] != 'u') {
            *to++ = unescaped(text[1]);
            text += 2;
        } else {
            uint32_t point = hex_value(text + 2, end);
            text += 6;
            if (point - 0xD800 < 0x800) { /* half a surrogate pair; alone, it is no character */
                const int has_other = point < 0xDC00 && end - text >= 6 && text[0] == '\\' && text[1] == 'u';
                const uint32_t other = has_other ? hex_value(text + 2, end) : 0;
                if (other - 0xDC00 >= 0x400) return 0;
                point = 0x10000 + ((point - 0xD800) << 10) + (other - 0xDC00);
                text += 6;
            }
            to = write_utf8(point, to);
        }
    }
    return to;
}
