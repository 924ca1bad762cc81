/* The specification of recurrent.c: bidirectional LSTM and GRU with maximum and mean pooling, in scalar float32.
 *
 * Written to be read; only the tests call it. With x the word vector, h the previous state, c the previous cell, and
 * a[gate] = W_input x + bias, r[gate] = W_recurrent h + recurrent_bias:
 *
 *   LSTM (gates input, forget, cell, output; Hochreiter and Schmidhuber 1997, with forget gate):
 *     c = sigmoid(a[1] + r[1]) c + sigmoid(a[0] + r[0]) tanh(a[2] + r[2])
 *     h = sigmoid(a[3] + r[3]) tanh(c)
 *   GRU (gates reset, update, new; Cho et al. 2014, in PyTorch's form):
 *     n = tanh(a[2] + sigmoid(a[0] + r[0]) r[2])
 *     h = (1 - sigmoid(a[1] + r[1])) n + sigmoid(a[1] + r[1]) h
 *
 * h and c begin as 0. The backward direction reads the words from last to first. In sentence mode the mean of the word
 * vectors is the only step. A text's vector is the maximum, then the mean, of h over the steps; of no steps, 0.
 */
#include "layout.h"
#include "network.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    int32_t gates;                     /* 4: LSTM, 3: GRU */
    int32_t units;                     /* of a direction */
    int32_t width;                     /* of a word vector */
    int32_t sentence;                  /* the mean of the words is the only step */
    const float *vectors;              /* [words][width] */
    const float *input_weights[2];     /* forward, backward: [width][gates][units] */
    const float *bias[2];              /* [gates][units] */
    const float *recurrent_weights[2]; /* [units][gates][units] */
    const float *recurrent_bias[2];    /* [gates][units] */
} RecurrentReference;

EXPORT_LAYOUT(RecurrentReference, FIELD(RecurrentReference, gates), FIELD(RecurrentReference, units),
              FIELD(RecurrentReference, width), FIELD(RecurrentReference, sentence),
              FIELD(RecurrentReference, vectors), FIELD(RecurrentReference, input_weights),
              FIELD(RecurrentReference, bias), FIELD(RecurrentReference, recurrent_weights),
              FIELD(RecurrentReference, recurrent_bias));

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* out [columns] = in [rows] . weights [rows][columns] + bias [columns] */
static void affine(const float *in, int32_t rows, const float *weights, const float *bias, int32_t columns,
                   float *out) {
    for (int32_t j = 0; j < columns; j++) {
        out[j] = bias[j];
        for (int32_t k = 0; k < rows; k++) out[j] += in[k] * weights[k * columns + j];
    }
}

static void lstm_step(const float *a, const float *r, int32_t units, float *h, float *c) {
    for (int32_t j = 0; j < units; j++) {
        const float input = sigmoid(a[j] + r[j]);
        const float forget = sigmoid(a[units + j] + r[units + j]);
        const float candidate = tanhf(a[2 * units + j] + r[2 * units + j]);
        const float output = sigmoid(a[3 * units + j] + r[3 * units + j]);
        c[j] = forget * c[j] + input * candidate;
        h[j] = output * tanhf(c[j]);
    }
}

static void gru_step(const float *a, const float *r, int32_t units, float *h) {
    for (int32_t j = 0; j < units; j++) {
        const float reset = sigmoid(a[j] + r[j]);
        const float update = sigmoid(a[units + j] + r[units + j]);
        const float candidate = tanhf(a[2 * units + j] + reset * r[2 * units + j]);
        h[j] = (1.0f - update) * candidate + update * h[j];
    }
}

/* One direction over inputs [steps][width]; max and mean [units]. buffer [2 (gates + 1) units] is working memory. */
static void run_direction(const RecurrentReference *net, int direction, const float *inputs, int32_t steps,
                          float *buffer, float *max, float *mean) {
    const int32_t units = net->units, columns = net->gates * units;
    float *h = buffer, *c = h + units, *a = c + units, *r = a + columns;
    for (int32_t j = 0; j < units; j++) h[j] = c[j] = max[j] = mean[j] = 0.0f;
    for (int32_t step = 0; step < steps; step++) {
        const int32_t position = direction ? steps - 1 - step : step;
        const float *x = inputs + position * net->width;
        affine(x, net->width, net->input_weights[direction], net->bias[direction], columns, a);
        affine(h, units, net->recurrent_weights[direction], net->recurrent_bias[direction], columns, r);
        if (net->gates == 4) lstm_step(a, r, units, h, c);
        else gru_step(a, r, units, h);
        for (int32_t j = 0; j < units; j++) {
            if (step == 0 || h[j] > max[j]) max[j] = h[j];
            mean[j] += h[j] / steps;
        }
    }
}

/* The network's inputs for one text, [steps][width]; returns the number of steps. */
static int32_t embed(const RecurrentReference *net, const int32_t *words, int32_t length, float *inputs) {
    for (int32_t i = 0; i < length; i++)
        for (int32_t k = 0; k < net->width; k++)
            inputs[i * net->width + k] = net->vectors[(int64_t)words[i] * net->width + k];
    if (!net->sentence || length == 0) return length;
    for (int32_t k = 0; k < net->width; k++) {
        float sum = 0.0f;
        for (int32_t i = 0; i < length; i++) sum += inputs[i * net->width + k];
        inputs[k] = sum / length;
    }
    return 1;
}

/* pooled [texts][max forward, max backward, mean forward, mean backward][units] */
int distill_recurrent_reference(const void *network, const EncodedTexts *texts, float *pooled) {
    const RecurrentReference *net = network;
    const int32_t units = net->units;
    float *buffer = malloc(sizeof(float) * (2 * (net->gates + 1) * units + texts->max_length * net->width));
    if (!buffer) return NO_MEMORY;
    float *inputs = buffer + 2 * (net->gates + 1) * units;
    for (int64_t i = 0; i < texts->count; i++, pooled += 4 * units) {
        const int32_t steps = embed(net, texts->ids + i * texts->max_length, texts->lengths[i], inputs);
        for (int direction = 0; direction < 2; direction++)
            run_direction(net, direction, inputs, steps, buffer, pooled + direction * units,
                          pooled + (2 + direction) * units);
    }
    free(buffer);
    return OK;
}
