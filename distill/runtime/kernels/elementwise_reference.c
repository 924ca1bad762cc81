/* The specification of elementwise.c: bidirectional minGRU, SRU and QRNN with maximum and mean pooling, in scalar
 * float32.
 *
 * Written to be read; only the tests call it. With x the word vector, x' that of the word before it in the direction of
 * reading (0 for the first), c the previous state, and a[gate] = W [x, x'] + bias (W [x] + bias but for the QRNN):
 *
 *   minGRU (gates update, new; Feng et al. 2024, arXiv 2410.01201):
 *     c = (1 - sigmoid(a[0])) c + sigmoid(a[0]) tanh(a[1]),  h = c
 *   SRU (gates candidate, forget, reset; Lei et al. 2018, arXiv 1709.02755, without the highway connection):
 *     f = sigmoid(a[1] + v[0] c),  r = sigmoid(a[2] + v[1] c)
 *     c = f c + (1 - f) a[0],  h = r tanh(c)
 *   QRNN (gates new, forget, output; Bradbury et al. 2017, arXiv 1611.01576, window 2, fo-pooling):
 *     c = sigmoid(a[1]) c + (1 - sigmoid(a[1])) tanh(a[0]),  h = sigmoid(a[2]) c
 *
 * c begins as 0. The backward direction reads the words from last to first. A text's vector is the maximum, then the
 * mean, of h over the words; of no words, 0.
 */
#include "constants.h"
#include "layout.h"
#include "network.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    int32_t cell;                  /* MINGRU, SRU or QRNN */
    int32_t units;                 /* of a direction */
    int32_t width;                 /* of a word vector */
    const float *vectors;          /* [words][width] */
    const float *input_weights[2]; /* forward, backward: [width, of a QRNN 2 width][gates][units] */
    const float *bias[2];          /* [gates][units] */
    const float *state_weights[2]; /* SRU's v: [2][units] */
} ElementwiseReference;

EXPORT_LAYOUT(ElementwiseReference, FIELD(ElementwiseReference, cell), FIELD(ElementwiseReference, units),
              FIELD(ElementwiseReference, width), FIELD(ElementwiseReference, vectors),
              FIELD(ElementwiseReference, input_weights), FIELD(ElementwiseReference, bias),
              FIELD(ElementwiseReference, state_weights));

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* a[gate] of one unit; before is a null pointer for the first word. */
static float gate_input(const ElementwiseReference *net, int direction, int gate, int32_t unit, const float *vector,
                        const float *before) {
    const int32_t columns = (net->cell == MINGRU ? 2 : 3) * net->units, column = gate * net->units + unit;
    const float *weights = net->input_weights[direction] + column;
    float sum = net->bias[direction][column];
    for (int32_t k = 0; k < net->width; k++) {
        sum += vector[k] * weights[(int64_t)k * columns];
        if (net->cell == QRNN && before) sum += before[k] * weights[(int64_t)(net->width + k) * columns];
    }
    return sum;
}

/* One step of one unit: updates its state c and returns h. v_f and v_r are SRU's. */
static float step(int32_t cell, const float a[3], float v_f, float v_r, float *c) {
    const float before = *c;
    if (cell == MINGRU) {
        *c = (1.0f - sigmoid(a[0])) * before + sigmoid(a[0]) * tanhf(a[1]);
        return *c;
    }
    const float forget = sigmoid(a[1] + v_f * before);
    *c = forget * before + (1.0f - forget) * (cell == SRU ? a[0] : tanhf(a[0]));
    return cell == SRU ? sigmoid(a[2] + v_r * before) * tanhf(*c) : sigmoid(a[2]) * *c;
}

/* One unit of one direction over a text. */
static void run_unit(const ElementwiseReference *net, int direction, int32_t unit, const int32_t *words,
                     int32_t length, float *max, float *mean) {
    const float *v = net->state_weights[direction], *before = 0;
    float c = 0.0f;
    *max = *mean = 0.0f;
    for (int32_t i = 0; i < length; i++) {
        const float *vector = net->vectors + (int64_t)words[direction ? length - 1 - i : i] * net->width;
        float a[3];
        for (int gate = 0; gate < (net->cell == MINGRU ? 2 : 3); gate++)
            a[gate] = gate_input(net, direction, gate, unit, vector, before);
        const float h = step(net->cell, a, v ? v[unit] : 0.0f, v ? v[net->units + unit] : 0.0f, &c);
        if (i == 0 || h > *max) *max = h;
        *mean += h / length;
        before = vector;
    }
}

/* pooled [texts][max forward, max backward, mean forward, mean backward][units] */
int distill_elementwise_reference(const void *network, const EncodedTexts *texts, float *pooled) {
    const ElementwiseReference *net = network;
    const int32_t units = net->units;
    for (int64_t i = 0; i < texts->count; i++, pooled += 4 * units)
        for (int direction = 0; direction < 2; direction++)
            for (int32_t unit = 0; unit < units; unit++)
                run_unit(net, direction, unit, texts->ids + i * texts->max_length, texts->lengths[i],
                         pooled + direction * units + unit, pooled + (2 + direction) * units + unit);
    return OK;
}
