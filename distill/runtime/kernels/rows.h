/* Rows of text files in UTF-8, and the text in each; see rows.c. */
#ifndef DISTILL_ROWS_H
#define DISTILL_ROWS_H

#include "constants.h"
#include "utf8.h"

/* How the rows of a file are read. */
typedef struct {
    int32_t kind;               /* TABLE_ROWS … LABEL_FIRST_ROWS */
    int32_t delimiter;          /* of a table */
    int32_t width;              /* cells of its rows */
    int32_t text;               /* index of the cell with the text */
    int32_t has_quoted_cells;   /* a quote at the beginning of a cell is a quotation mark */
    int32_t declines_formulas;  /* rows with a cell that a spreadsheet would evaluate are left to Python */
    const uint8_t *keys;        /* of JSON objects: that of the text, then those that leave an object to Python */
    const int64_t *key_starts;  /* [key_count + 1] */
    int64_t key_count;
    int64_t max_line;      /* bytes of a line, with its line end; longer ones are left to Python */
    int64_t max_row;       /* bytes of a row with quotes */
    int64_t max_row_lines; /* its lines */
} RowFormat;

/* A part of a file, and how much of it was read. */
typedef struct {
    const uint8_t *bytes;
    int64_t at, end;  /* the position, which moves forward, and the size of the block */
    int64_t stop;     /* no row begins here or later */
    int64_t lines;    /* how many lines were passed */
    int32_t is_last;  /* nothing follows the block */
} LineBlock;

/* Rows without their line ends. A text is part of its row, or follows it if escapes in it had to be replaced. */
typedef struct {
    uint8_t *content;
    int64_t *rows;  /* [max_rows][2]: begin and end in content */
    int64_t *texts; /* [max_rows][2] */
    int64_t count, max_rows;
    int64_t size, capacity; /* of content, in bytes */
} RowBuffer;

/* What follows each row: the bytes of its class, its probability, and the same bytes for all rows. */
typedef struct {
    const uint8_t *labels;
    const int64_t *label_starts; /* [classes + 1] */
    const uint8_t *end;
    int64_t end_size;
} RowEnding;

/* A line without its line end, and where the next one begins. */
typedef struct {
    const uint8_t *begin, *end, *next;
} Line;

enum { NO_ESCAPES, DOUBLED_QUOTES, JSON_ESCAPES };

/* A row that was found: its lines and the bytes that are written of it, and its text with escapes of one kind. */
typedef struct {
    const uint8_t *begin, *end, *next;
    const uint8_t *text, *text_end;
    int64_t lines;
    int32_t escapes;
} FoundRow;

/* Find a line; ROWS_FULL if there is one. */
int next_line(const RowFormat *format, const LineBlock *block, const uint8_t *begin, Line *line);

/* Find the row that begins with a line; ROWS_FULL if there is one. Rows in any unusual form are declined. */
int find_table_row(const RowFormat *format, const LineBlock *block, const Line *line, FoundRow *row);
int find_json_row(const RowFormat *format, const Line *line, FoundRow *row);

/* Copy a text without its escapes, which never makes it longer; the end of the copy, or 0 if Python must do it. */
uint8_t *copy_json_text(const uint8_t *text, const uint8_t *end, uint8_t *to);

#endif
