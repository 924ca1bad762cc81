/* Rows of tables: cells with a delimiter between them, some of them quoted (RFC 4180).
 *
 * Accepted are rows with the right number of cells. The reader of distill/data/formats/tables.py decides about quotes
 * that are no quotation marks, and about rows that have too few or too many cells.
 */
#include "rows.h"

/* The state within a row. */
typedef struct {
    const RowFormat *format;
    FoundRow *row;
    int32_t cells;        /* how many ended */
    const uint8_t *begin; /* of a quoted cell that has not ended; else a null pointer */
    int32_t escapes;      /* in it */
} Cells;

static const uint8_t *skip_digits(const uint8_t *at, const uint8_t *end) {
    while (at < end && *at - '0' < 10u) at++;
    return at;
}

/* PLAIN_NUMBER of tables.py, from its sign on. */
static int is_plain_number(const uint8_t *at, const uint8_t *end) {
    at += at < end && (*at == '+' || *at == '-');
    const uint8_t *digits = at;
    at = skip_digits(at, end);
    if (at == digits) return 0;
    if (at < end && *at == '.') at = skip_digits(at + 1, end);
    if (at < end && (*at == 'e' || *at == 'E')) {
        digits = at + 1 + (end - at > 1 && (at[1] == '+' || at[1] == '-'));
        at = skip_digits(digits, end);
        if (at == digits) return 0;
    }
    at += at < end && *at == '%';
    return skip_spaces(at, end) == end;
}

/* _is_formula of tables.py. */
static int is_formula(const uint8_t *at, const uint8_t *end) {
    const uint8_t *next;
    if (at == end) return 0;
    const int begins_with_blank = *at == '\t' || *at == '\r';
    at = skip_spaces(at, end);
    const uint32_t point = at < end ? utf8_point(at, &next) : 0;
    const int is_operator = point == '=' || point == '+' || point == '-' || point == '@' || point == 0xFF1D ||
                            point == 0xFF0B || point == 0xFF0D || point == 0xFF20;
    return (begins_with_blank || is_operator) && !is_plain_number(at, end);
}

/* 0 if the row must be declined. */
static int end_cell(Cells *cells, const uint8_t *begin, const uint8_t *end, int32_t escapes) {
    if (cells->cells == cells->format->text)
        cells->row->text = begin, cells->row->text_end = end, cells->row->escapes = escapes;
    cells->cells++;
    return !cells->format->declines_formulas || !is_formula(begin, end);
}

/* The end of the quoted cell that goes on at `at`: its closing quote, or a null pointer if there is none. */
static const uint8_t *closing_quote(Cells *cells, const uint8_t *at, const uint8_t *end) {
    while (at < end) {
        const uint8_t *quote = memchr(at, '"', end - at);
        if (!quote || quote + 1 == end || quote[1] != '"') return quote;
        cells->escapes = DOUBLED_QUOTES;
        at = quote + 2;
    }
    return 0;
}

/* Add the cells of a line; 0 if the row must be declined. A quoted cell may be open at the end. */
static int add_cells(Cells *cells, const Line *line) {
    const uint8_t delimiter = cells->format->delimiter, *at = line->begin;
    while (1) {
        if (!cells->begin && at < line->end && *at == '"') {
            if (!cells->format->has_quoted_cells) return 0;
            cells->begin = ++at, cells->escapes = NO_ESCAPES;
        }
        const uint8_t *end;
        if (cells->begin) {
            const uint8_t *quote = closing_quote(cells, at, line->end);
            if (!quote) return 1;
            if (!end_cell(cells, cells->begin, quote, cells->escapes)) return 0;
            cells->begin = 0, end = quote + 1;
            if (end < line->end && *end != delimiter) return 0;
        } else {
            end = at < line->end ? memchr(at, delimiter, line->end - at) : 0;
            end = end ? end : line->end;
            if (!end_cell(cells, at, end, NO_ESCAPES)) return 0;
        }
        if (end == line->end) return 1;
        if (cells->cells == cells->format->width) return 0;
        at = end + 1;
    }
}

/* Whether a line has as many cells as a row if its quotes are ordinary characters. */
static int has_width(const RowFormat *format, const Line *line) {
    int64_t count = 0;
    for (const uint8_t *at = line->begin; at < line->end; at++) count += *at == format->delimiter;
    return count == format->width - 1;
}

int find_table_row(const RowFormat *format, const LineBlock *block, const Line *first, FoundRow *row) {
    const int is_quoted = memchr(first->begin, '"', first->end - first->begin) != 0;
    if (!is_quoted && memchr(first->begin, '\r', first->end - first->begin)) return ROWS_DECLINED;
    Cells cells = {format, row, 0, 0, 0};
    Line line = *first;
    int is_cut = 0; /* some line cannot be a row by itself */
    while (1) {
        if ((is_quoted && line.next - first->begin > format->max_row) || !add_cells(&cells, &line)) return ROWS_DECLINED;
        is_cut |= !has_width(format, &line);
        if (!cells.begin) break;
        if (row->lines++ == format->max_row_lines) return ROWS_DECLINED;
        const int outcome = next_line(format, block, line.next, &line);
        if (outcome != ROWS_FULL) return block->is_last ? ROWS_DECLINED : outcome;
        if (!is_utf8(line.begin, line.end)) return ROWS_DECLINED;
    }
    row->begin = first->begin, row->end = line.end, row->next = line.next;
    return cells.cells == format->width && (row->lines == 1 || is_cut) ? ROWS_FULL : ROWS_DECLINED;
}
