/* The convolutional student (TextCNN): filters of 1 .. max_span words, maximum over the positions, then ReLU.
 *
 * A filter's value at a position is the sum, over the words it covers, of (word vector . the filter's weights at that
 * tap). Such a product depends on the word alone, so all products of a word are computed when the word first occurs and
 * stored in a table of 16-bit integers, `projections`. A convolution is then only table look-ups and 16-bit additions:
 *
 *   value = sum of projections * scale + bias
 *
 * The scale of a filter is such that the sum over its taps cannot overflow 16 bits (distill/runtime/textcnn.py).
 */
#include "layout.h"
#include "network.h"
#include "once.h"
#include "vectors.h"
#include "word_vectors.h"
#include <stdlib.h>

typedef struct {
    int32_t max_span;     /* filters cover 1, 2, .., max_span words */
    int32_t filters;      /* of each span, a multiple of 2 LANES */
    WordVectors vectors;
    const float *taps;    /* [width][max_span (max_span + 1) / 2][filters], divided by scale; those of span 1 first */
    const float *scale;   /* [max_span][filters] */
    const float *bias;    /* [max_span][filters] */
    int16_t *projections; /* [words][max_span (max_span + 1) / 2][filters] */
    uint8_t *states;      /* [words]: whether the word's row of `projections` is computed; see once.h */
} TextCNNNetwork;

EXPORT_LAYOUT(TextCNNNetwork, FIELD(TextCNNNetwork, max_span), FIELD(TextCNNNetwork, filters),
              FIELD(TextCNNNetwork, vectors), FIELD(TextCNNNetwork, taps),
              FIELD(TextCNNNetwork, scale), FIELD(TextCNNNetwork, bias), FIELD(TextCNNNetwork, projections),
              FIELD(TextCNNNetwork, states));

/* The word's row of `projections`, computed when the word first occurs. */
static const int16_t *projection_row(const TextCNNNetwork *net, int32_t word) {
    const int32_t columns = net->max_span * (net->max_span + 1) / 2 * net->filters;
    int16_t *target = net->projections + (int64_t)word * columns;
    if (is_ready(&net->states[word]) || !must_compute(&net->states[word])) return target;
    const int32_t width = net->vectors.width;
    float vector[width];
    read_vector(&net->vectors, word, vector);
    for (int32_t first = 0; first < columns; first += LANES) {
        F32 sums = {};
        for (int32_t k = 0; k < width; k++) sums += vector[k] * load_f32(net->taps + (int64_t)k * columns + first);
        const I16 rounded = round_to_i16(sums);
        memcpy(target + first, &rounded, sizeof rounded);
    }
    set_ready(&net->states[word]);
    return target;
}

/* The filters of one span: maximum over the positions, then scale, bias and ReLU. rows [length]: the words'
 * projections. Beyond the last word filters see zeros. */
INLINE void max_over_positions(const TextCNNNetwork *net, const int16_t *const *rows, int32_t length, int32_t span,
                               float *out) {
    const int32_t first_tap = span * (span - 1) / 2 * net->filters;
    const float *scale = net->scale + (span - 1) * net->filters, *bias = net->bias + (span - 1) * net->filters;
    for (int32_t j = 0; j < net->filters; j += 2 * LANES) {
        I16x2 max = (I16x2){} - 32767;
        for (int32_t position = 0; position < length; position++) {
            I16x2 sum = {}, tap;
            for (int32_t k = 0; k < span && position + k < length; k++) {
                memcpy(&tap, rows[position + k] + first_tap + k * net->filters + j, sizeof tap);
                sum += tap;
            }
            const I16x2 is_greater = sum > max;
            max = (sum & is_greater) | (max & ~is_greater);
        }
        int16_t maxima[2 * LANES];
        memcpy(maxima, &max, sizeof max);
        for (int32_t half = 0; half < 2 * LANES; half += LANES) {
            const F32 value =
                load_i16_as_f32(maxima + half) * load_f32(scale + j + half) + load_f32(bias + j + half);
            store_f32(out + j + half, max_f32(value, (F32){}));
        }
    }
}

/* pooled [texts][max_span][filters] */
int distill_textcnn(const void *network, const EncodedTexts *texts, float *pooled) {
    const TextCNNNetwork *net = network;
    const int16_t **rows = malloc(sizeof *rows * texts->max_length);
    if (!rows) return NO_MEMORY;
    for (int64_t i = 0; i < texts->count; i++) {
        for (int32_t k = 0; k < texts->lengths[i]; k++)
            rows[k] = projection_row(net, texts->ids[i * texts->max_length + k]);
        for (int32_t span = 1; span <= net->max_span; span++, pooled += net->filters)
            max_over_positions(net, rows, texts->lengths[i], span, pooled);
    }
    free(rows);
    return OK;
}
