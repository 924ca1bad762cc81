/* Students without recurrence (average, textcnn), and the dense layer that all end with. */
#include "networks.h"
#include "vectors.h"
#include <stdlib.h>

#define LINE 32      /* 16-bit numbers in a line of the cache */
#define DENSE_ROWS 6 /* texts that a dense layer takes at a time: 6 x 2 sums + 2 weights of 16 registers */
#define WIDE 2       /* vectors of columns that a row's sums take there */

/* mean and maximum of some rows of a table; zeros of none */
INLINE void mean_and_most(const Table *table, const int32_t *rows, int64_t count, float *mean, float *highest) {
    for (int32_t j = 0; j < table->width; j += LANES) {
        Floats sum = {}, top = (Floats){} - (count ? 40000.0f : 0.0f);
        for (int64_t i = 0; i < count; i++) {
            const Floats row = shorts_as_floats(table->rows + (int64_t)rows[i] * table->width + j);
            sum += row;
            top = most(top, row);
        }
        const Floats scale = floats(table->scale + j);
        keep(mean + j, sum * scale / (count ? (float)count : 1.0f));
        keep(highest + j, top * scale);
    }
}

/* rows of a table that are needed next: they lie anywhere in more memory than the caches hold */
INLINE void expect_rows(const Table *table, const int32_t *rows, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        for (int32_t j = 0; j < table->width; j += LINE)
            __builtin_prefetch(table->rows + (int64_t)rows[i] * table->width + j);
}

/* mean and maximum of a text's words and, where there is a table of them, of its n-grams: [texts][2 or 4][width] */
int average(const Average *net, const Encoded *texts, float *pooled) {
    const int32_t width = net->words.width;
    for (int64_t i = 0; i < texts->texts; i++) {
        const int32_t *words = texts->ids + i * texts->longest;
        const int has_next = i + 1 < texts->texts;
        if (has_next) expect_rows(&net->words, words + texts->longest, texts->lengths[i + 1]);
        mean_and_most(&net->words, words, texts->lengths[i], pooled, pooled + width);
        pooled += 2 * width;
        if (!net->ngrams.rows) continue;
        const int64_t start = texts->starts[i], next = texts->starts[i + 1];
        if (has_next) expect_rows(&net->ngrams, texts->rows + next, texts->starts[i + 2] - next);
        mean_and_most(&net->ngrams, texts->rows + start, next - start, pooled, pooled + width);
        pooled += 2 * width;
    }
    return 0;
}

INLINE void dense_block(const float *in, int32_t width, const float *weights, const float *bias, int32_t out_width,
                        const int rows, int relu, float *out) {
    Floats sums[DENSE_ROWS][WIDE];
    UNROLLED for (int row = 0; row < rows; row++)
        UNROLLED for (int v = 0; v < WIDE; v++) sums[row][v] = floats(bias + v * LANES);
    for (int32_t k = 0; k < width; k++, weights += WIDE * LANES) {
        Floats columns[WIDE];
        UNROLLED for (int v = 0; v < WIDE; v++) {
            columns[v] = floats(weights + v * LANES);
            IN_REGISTER(columns[v]);
        }
        UNROLLED for (int row = 0; row < rows; row++)
            UNROLLED for (int v = 0; v < WIDE; v++) sums[row][v] += in[(int64_t)row * width + k] * columns[v];
    }
    UNROLLED for (int row = 0; row < rows; row++)
        UNROLLED for (int v = 0; v < WIDE; v++)
            keep(out + (int64_t)row * out_width + v * LANES, relu ? most(sums[row][v], (Floats){}) : sums[row][v]);
}

void dense(const Dense *layer, const float *in, int64_t texts, int32_t width, int relu, float *out) {
    for (int32_t j = 0; j < layer->out; j += WIDE * LANES) {
        const float *block = layer->weight + (int64_t)j * width, *bias = layer->bias + j;
        int64_t i = 0;
        for (; i + DENSE_ROWS <= texts; i += DENSE_ROWS)
            dense_block(in + i * width, width, block, bias, layer->out, DENSE_ROWS, relu, out + i * layer->out + j);
        for (; i < texts; i++)
            dense_block(in + i * width, width, block, bias, layer->out, 1, relu, out + i * layer->out + j);
    }
}

static const int16_t *taps_of(const Convolutions *net, int32_t word) {
    const int32_t columns = net->spans * (net->spans + 1) / 2 * net->filters;
    int16_t *target = net->folded + (int64_t)word * columns;
    if (__atomic_load_n(&net->known[word], __ATOMIC_ACQUIRE)) return target;
    const float *vector = net->vectors + (int64_t)word * net->width;
    for (int32_t first = 0; first < columns; first += LANES) {
        Floats sums = {};
        for (int32_t k = 0; k < net->width; k++) sums += vector[k] * floats(net->taps + (int64_t)k * columns + first);
        const Shorts whole = rounded(sums);
        memcpy(target + first, &whole, sizeof whole);
    }
    __atomic_store_n(&net->known[word], 1, __ATOMIC_RELEASE); /* another thread may write the same numbers: harmless */
    return target;
}

typedef int16_t Whole __attribute__((vector_size(4 * LANES)));

/* highest sum of one span's filters over the words; rows [length] are the words' taps */
INLINE void highest(const Convolutions *net, const int16_t *const *rows, int32_t length, int32_t span, float *out) {
    const int32_t before = span * (span - 1) / 2 * net->filters;
    const float *scale = net->scale + (span - 1) * net->filters, *bias = net->bias + (span - 1) * net->filters;
    for (int32_t j = 0; j < net->filters; j += 2 * LANES) {
        Whole top = (Whole){} - 32767;
        for (int32_t first = 0; first < length; first++) {
            Whole sum = {}, tap;
            for (int32_t k = 0; k < span && first + k < length; k++) {
                memcpy(&tap, rows[first + k] + before + k * net->filters + j, sizeof tap);
                sum += tap;
            }
            const Whole more = sum > top;
            top = (sum & more) | (top & ~more);
        }
        int16_t tops[2 * LANES];
        memcpy(tops, &top, sizeof top);
        for (int32_t half = 0; half < 2 * LANES; half += LANES) {
            const Floats value = shorts_as_floats(tops + half) * floats(scale + j + half) + floats(bias + j + half);
            keep(out + j + half, most(value, (Floats){}));
        }
    }
}

/* pooled [texts][spans][filters], ReLU done */
int convolutions(const Convolutions *net, const Encoded *texts, float *pooled) {
    const int16_t **rows = malloc(sizeof *rows * texts->longest);
    if (!rows) return 1;
    for (int64_t i = 0; i < texts->texts; i++) {
        for (int32_t k = 0; k < texts->lengths[i]; k++) rows[k] = taps_of(net, texts->ids[i * texts->longest + k]);
        for (int32_t span = 1; span <= net->spans; span++, pooled += net->filters)
            highest(net, rows, texts->lengths[i], span, pooled);
    }
    free(rows);
    return 0;
}
