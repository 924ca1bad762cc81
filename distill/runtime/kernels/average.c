/* The averaging student: mean and maximum over the vectors of a text's words, and of its n-grams if there are any.
 *
 * Vectors are 16-bit integers with one float32 scale per column: vector[j] = row[j] * scale[j]. Sums and maxima are
 * computed on the integers (as float32) and scaled once. A text without n-grams gets zeros.
 */
#include "layout.h"
#include "network.h"
#include "vectors.h"

typedef struct {
    const int16_t *rows; /* [rows][width]; a null pointer: there is no such table */
    const float *scale;  /* [width] */
    int32_t width;       /* a multiple of LANES */
} EmbeddingTable;

typedef struct {
    EmbeddingTable words, ngrams; /* of the same width */
} AverageNetwork;

EXPORT_LAYOUT(EmbeddingTable, FIELD(EmbeddingTable, rows), FIELD(EmbeddingTable, scale), FIELD(EmbeddingTable, width));
EXPORT_LAYOUT(AverageNetwork, FIELD(AverageNetwork, words), FIELD(AverageNetwork, ngrams));

/* Mean and maximum of `count` rows of a table; zeros if there are none. */
INLINE void pool_rows(const EmbeddingTable *table, const int32_t *rows, int64_t count, float *mean, float *max) {
    for (int32_t j = 0; j < table->width; j += LANES) {
        F32 sum = {}, top = (F32){} - (count ? 40000.0f : 0.0f); /* below every 16-bit integer */
        for (int64_t i = 0; i < count; i++) {
            const F32 row = load_i16_as_f32(table->rows + (int64_t)rows[i] * table->width + j);
            sum += row;
            top = max_f32(top, row);
        }
        const F32 scale = load_f32(table->scale + j);
        store_f32(mean + j, sum * scale / (count ? (float)count : 1.0f));
        store_f32(max + j, top * scale);
    }
}

/* Prefetch the rows of the next text: they are scattered over a table that is larger than the caches. */
INLINE void prefetch_rows(const EmbeddingTable *table, const int32_t *rows, int64_t count) {
    const int64_t width = table->width;
    for (int64_t i = 0; i < count; i++) prefetch(table->rows + rows[i] * width, width * (int64_t)sizeof *table->rows);
}

/* pooled [texts][mean of words, max of words (, mean of n-grams, max of n-grams)][width] */
int distill_average(const void *network, const EncodedTexts *texts, float *pooled) {
    const AverageNetwork *net = network;
    const int32_t width = net->words.width;
    for (int64_t i = 0; i < texts->count; i++) {
        const int32_t *words = texts->ids + i * texts->max_length;
        const int has_next = i + 1 < texts->count;
        if (has_next) prefetch_rows(&net->words, words + texts->max_length, texts->lengths[i + 1]);
        pool_rows(&net->words, words, texts->lengths[i], pooled, pooled + width);
        pooled += 2 * width;
        if (!net->ngrams.rows) continue;
        const int64_t start = texts->ngram_starts[i], next = texts->ngram_starts[i + 1];
        if (has_next) prefetch_rows(&net->ngrams, texts->ngram_rows + next, texts->ngram_starts[i + 2] - next);
        pool_rows(&net->ngrams, texts->ngram_rows + start, next - start, pooled, pooled + width);
        pooled += 2 * width;
    }
    return OK;
}
