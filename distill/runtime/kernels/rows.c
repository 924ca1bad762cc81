/* The rows of text files, their texts, and the rows with their labels.
 *
 * The readers in distill/data/formats define what a row is. Here the usual rows are found: those that the readers accept
 * for certain, from bytes that are valid UTF-8. All others are declined, and Python reads them: an unusual row makes a
 * file slower, never different.
 */
#include "rows.h"
#include "layout.h"

EXPORT_LAYOUT(RowFormat, FIELD(RowFormat, kind), FIELD(RowFormat, delimiter), FIELD(RowFormat, width),
              FIELD(RowFormat, text), FIELD(RowFormat, has_quoted_cells), FIELD(RowFormat, declines_formulas),
              FIELD(RowFormat, keys), FIELD(RowFormat, key_starts), FIELD(RowFormat, key_count),
              FIELD(RowFormat, max_line), FIELD(RowFormat, max_row), FIELD(RowFormat, max_row_lines));
EXPORT_LAYOUT(LineBlock, FIELD(LineBlock, bytes), FIELD(LineBlock, at), FIELD(LineBlock, end), FIELD(LineBlock, stop),
              FIELD(LineBlock, lines), FIELD(LineBlock, is_last));
EXPORT_LAYOUT(RowBuffer, FIELD(RowBuffer, content), FIELD(RowBuffer, rows), FIELD(RowBuffer, texts),
              FIELD(RowBuffer, count), FIELD(RowBuffer, max_rows), FIELD(RowBuffer, size), FIELD(RowBuffer, capacity));
EXPORT_LAYOUT(RowEnding, FIELD(RowEnding, labels), FIELD(RowEnding, label_starts), FIELD(RowEnding, end),
              FIELD(RowEnding, end_size));

#define PROBABILITY_SIZE 7 /* characters of a probability: 0.12345 */

int next_line(const RowFormat *format, const LineBlock *block, const uint8_t *begin, Line *line) {
    const uint8_t *end = block->bytes + block->end;
    const int64_t left = end - begin, max = format->max_line;
    const uint8_t *feed = left ? memchr(begin, '\n', left < max ? left : max) : 0;
    if (!feed && left >= max) return ROWS_DECLINED;
    if (!feed && (!left || !block->is_last)) return ROWS_END;
    line->begin = begin, line->end = feed ? feed : end, line->next = feed ? feed + 1 : end;
    while (line->end > begin && line->end[-1] == '\r') line->end--;
    return ROWS_FULL;
}

static int is_blank(const Line *line) {
    const uint8_t *at = line->begin;
    while (at < line->end && (*at == ' ' || *at == '\r')) at++;
    return at == line->end;
}

/* A line of plain text. */
static int find_text_row(const RowFormat *format, const Line *line, FoundRow *row) {
    row->text = row->begin = line->begin;
    row->text_end = row->end = line->end;
    if (format->kind == LABEL_FIRST_ROWS) {
        const uint8_t *tab = memchr(row->text, '\t', row->text_end - row->text);
        if (tab) row->text = tab + 1;
    } else if (format->kind == TEXT_FIRST_ROWS) {
        const uint8_t *tab = trim_end(line->begin, line->end);
        while (tab > line->begin && tab[-1] != '\t') tab--;
        if (tab > line->begin) row->text_end = tab - 1;
    }
    return ROWS_FULL;
}

static int find_row(const RowFormat *format, const LineBlock *block, const Line *line, FoundRow *row) {
    *row = (FoundRow){.next = line->next, .lines = 1};
    if (!is_utf8(line->begin, line->end)) return ROWS_DECLINED;
    if (line->end - line->begin >= 3 && !memcmp(line->begin, "\xEF\xBB\xBF", 3)) return ROWS_DECLINED;
    if (format->kind == TABLE_ROWS) return find_table_row(format, block, line, row);
    return format->kind == JSON_ROWS ? find_json_row(format, line, row) : find_text_row(format, line, row);
}

static uint8_t *copy_quoted_text(const uint8_t *text, const uint8_t *end, uint8_t *to) {
    for (; text < end; text++) {
        *to++ = *text;
        text += *text == '"';
    }
    return to;
}

/* Set the span of a text without white space around it; returns whether any of it is visible. */
static int set_text(const uint8_t *content, const uint8_t *text, const uint8_t *end, int64_t *span) {
    text = skip_spaces(text, end);
    end = trim_end(text, end);
    span[0] = text - content, span[1] = end - content;
    while (text < end)
        if (is_visible(utf8_point(text, &text))) return 1;
    return 0;
}

/* Append a row; 0 if Python must read it. */
static int append_row(RowBuffer *rows, const FoundRow *row) {
    const int64_t size = row->end - row->begin, text_size = row->text_end - row->text;
    uint8_t *content = rows->content + rows->size, *text = content + (row->text - row->begin), *end = text + text_size;
    if (rows->size + size + text_size > rows->capacity) return 0;
    memcpy(content, row->begin, size);
    int64_t used = rows->size + size;
    if (row->escapes) {
        text = rows->content + used;
        end = row->escapes == JSON_ESCAPES ? copy_json_text(row->text, row->text_end, text)
                                           : copy_quoted_text(row->text, row->text_end, text);
        used = end - rows->content;
    }
    if (!end || !set_text(rows->content, text, end, rows->texts + 2 * rows->count)) return 0;
    rows->rows[2 * rows->count] = rows->size;
    rows->rows[2 * rows->count + 1] = rows->size + size;
    rows->count++, rows->size = used;
    return 1;
}

/* Append the rows of a block until there are enough, the block ends, or a row is declined; returns why it stopped. */
int32_t distill_scan_rows(const RowFormat *format, LineBlock *block, RowBuffer *rows) {
    int outcome;
    while (rows->count < rows->max_rows && block->at < block->stop) {
        Line line;
        FoundRow row;
        if ((outcome = next_line(format, block, block->bytes + block->at, &line)) != ROWS_FULL) return outcome;
        if (is_blank(&line)) {
            block->at = line.next - block->bytes, block->lines++;
            continue;
        }
        if ((outcome = find_row(format, block, &line, &row)) != ROWS_FULL) return outcome;
        if (!append_row(rows, &row)) return ROWS_DECLINED;
        block->at = row.next - block->bytes, block->lines += row.lines;
    }
    return ROWS_FULL;
}

/* Append a row that Python read, and its text; there is room for both. */
void distill_add_row(RowBuffer *rows, const uint8_t *row, int64_t size, const uint8_t *text, int64_t text_size) {
    uint8_t *content = rows->content + rows->size;
    memcpy(content, row, size);
    memcpy(content + size, text, text_size);
    int64_t *spans[] = {rows->rows + 2 * rows->count, rows->texts + 2 * rows->count};
    spans[0][0] = rows->size, spans[0][1] = spans[1][0] = rows->size + size;
    spans[1][1] = rows->size += size + text_size;
    rows->count++;
}

/* Remove the white space around texts in [0, size); the span of a text of which nothing is visible becomes empty.
 * Returns 0 if a text is not valid UTF-8. */
int32_t distill_trim_texts(const uint8_t *bytes, int64_t *spans, int64_t count) {
    for (int64_t i = 0; i < count; i++, spans += 2) {
        const uint8_t *text = bytes + spans[0], *end = bytes + spans[1];
        if (!is_utf8(text, end)) return 0;
        if (!set_text(bytes, text, end, spans)) spans[1] = spans[0];
    }
    return 1;
}

/* Write a probability above 0 and below 9.9 with five decimals, rounded half to even like Python's "%.5f". */
static uint8_t *write_probability(float probability, uint8_t *to) {
    uint32_t bits;
    memcpy(&bits, &probability, sizeof(bits));
    const int32_t shift = 150 - (bits >> 23); /* probability = (bits % 2^23 + 2^23) / 2^shift, if it is normal */
    const uint64_t scaled = (uint64_t)((bits & 0x7FFFFF) | 0x800000) * 100000; /* below 2^41 */
    uint64_t number = 0;
    if (shift < 42) {
        const uint64_t rest = scaled & ((1ULL << shift) - 1), half = 1ULL << (shift - 1);
        number = scaled >> shift;
        number += rest > half || (rest == half && (number & 1));
    }
    for (int i = PROBABILITY_SIZE - 1; i >= 0; i--) {
        if (i == 1) {
            to[i] = '.';
            continue;
        }
        to[i] = '0' + number % 10;
        number /= 10;
    }
    return to + PROBABILITY_SIZE;
}

/* Write rows with what follows them. `out` has room for all of it. The probabilities are above 0 and below 9.9. */
void distill_write_rows(const uint8_t *content, const int64_t *rows, int64_t count, const int64_t *classes,
                        const float *probabilities, const RowEnding *ending, uint8_t *out) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t size = rows[2 * i + 1] - rows[2 * i], label = ending->label_starts[classes[i]];
        const int64_t label_size = ending->label_starts[classes[i] + 1] - label;
        memcpy(out, content + rows[2 * i], size);
        memcpy(out + size, ending->labels + label, label_size);
        out = write_probability(probabilities[i], out + size + label_size);
        memcpy(out, ending->end, ending->end_size);
        out += ending->end_size;
    }
}
