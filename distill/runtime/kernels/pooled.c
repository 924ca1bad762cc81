/* Students without recurrence (average, textcnn), hashed n-grams, and the dense layer that all end with. */
#include "kernels.h"
#include "vectors.h"
#include <stdlib.h>

#define WIDE 2 /* vectors of columns that a row's sums take in a dense layer */

/* a table of vectors in 16 bits; number = entry * scale of its column */
typedef struct {
    const int16_t *rows; /* [rows][width] */
    const float *scale;  /* [width] */
    int32_t width;       /* a multiple of LANES */
} Table;

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

/* mean and maximum of a text's words and, where ngrams is given, of its n-grams: [texts][2 or 4][width] */
void distill_average(const Table *words, const int32_t *ids, const int32_t *lengths, int64_t texts, int32_t longest,
                     const Table *ngrams, const int32_t *rows, const int64_t *starts, float *pooled) {
    for (int64_t i = 0; i < texts; i++, pooled += (ngrams ? 4 : 2) * words->width) {
        mean_and_most(words, ids + i * longest, lengths[i], pooled, pooled + words->width);
        if (ngrams)
            mean_and_most(ngrams, rows + starts[i], starts[i + 1] - starts[i], pooled + 2 * words->width,
                          pooled + 3 * words->width);
    }
}

/* adds to logits [texts][classes] the mean of what each of a text's n-grams says [rows][classes] */
void distill_add_ngrams(const float *says, const int32_t *rows, const int64_t *starts, int64_t texts, int32_t classes,
                        float *logits) {
    for (int64_t i = 0; i < texts; i++, logits += classes) {
        const float share = starts[i + 1] > starts[i] ? 1.0f / (starts[i + 1] - starts[i]) : 0.0f;
        for (int64_t place = starts[i]; place < starts[i + 1]; place++) {
            const float *row = says + (int64_t)rows[place] * classes;
            for (int32_t j = 0; j < classes; j++) logits[j] += row[j] * share;
        }
    }
}

INLINE void dense_block(const float *in, int32_t width, const float *weights, const float *bias, int32_t out_width,
                        const int rows, int relu, float *out) {
    Floats sums[4][WIDE];
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < WIDE; v++) sums[row][v] = floats(bias + v * LANES);
    for (int32_t k = 0; k < width; k++, weights += WIDE * LANES)
        for (int row = 0; row < rows; row++)
            for (int v = 0; v < WIDE; v++) sums[row][v] += in[(int64_t)row * width + k] * floats(weights + v * LANES);
    for (int row = 0; row < rows; row++)
        for (int v = 0; v < WIDE; v++)
            keep(out + (int64_t)row * out_width + v * LANES, relu ? most(sums[row][v], (Floats){}) : sums[row][v]);
}

/* out [texts][out_width] = in [texts][width] . weights + bias; out_width a multiple of 2 LANES, and weights in blocks
 * [out_width / 2 LANES][width][2 LANES] */
void distill_dense(const float *in, int64_t texts, int32_t width, const float *weights, const float *bias,
                   int32_t out_width, int32_t relu, float *out) {
    for (int32_t j = 0; j < out_width; j += WIDE * LANES) {
        const float *block = weights + (int64_t)j * width;
        int64_t i = 0;
        for (; i + 4 <= texts; i += 4)
            dense_block(in + i * width, width, block, bias + j, out_width, 4, relu, out + i * out_width + j);
        for (; i < texts; i++)
            dense_block(in + i * width, width, block, bias + j, out_width, 1, relu, out + i * out_width + j);
    }
}

typedef struct {
    int32_t spans;           /* filters of 1, 2, …, spans words */
    int32_t filters;         /* of each span, a multiple of 2 LANES */
    int32_t width;           /* of a word vector */
    const float *vectors;    /* [words][width] */
    const float *taps;       /* [width][spans (spans + 1) / 2][filters], divided by scale: span 1's, span 2's two, … */
    const float *scale;      /* [spans][filters] */
    const float *bias;       /* [spans][filters] */
    int16_t *folded;         /* [words][spans (spans + 1) / 2][filters]: a convolution is additions of these */
    uint8_t *known;          /* [words] */
} Convolutions;

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

/* ids [texts][longest] -> pooled [texts][spans][filters], ReLU done; 0, or 1 without memory */
int32_t distill_textcnn(const Convolutions *net, const int32_t *ids, const int32_t *lengths, int64_t texts,
                        int32_t longest, float *pooled) {
    const int16_t **rows = malloc(sizeof *rows * longest);
    if (!rows) return 1;
    for (int64_t i = 0; i < texts; i++) {
        for (int32_t k = 0; k < lengths[i]; k++) rows[k] = taps_of(net, ids[i * longest + k]);
        for (int32_t span = 1; span <= net->spans; span++, pooled += net->filters)
            highest(net, rows, lengths[i], span, pooled);
    }
    free(rows);
    return 0;
}
