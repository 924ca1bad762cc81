/* Recurrent networks without a matrix between states, in two directions, pooled by maximum and mean over a text's
 * words. elementwise_reference.c is the specification: the same function in plain float32.
 *
 * A word's products with the input weights depend on the word alone. They are computed when the word first occurs, bias
 * included, and stored as a row of integers. A step is then elementwise, for each unit:
 *
 *   minGRU  h = keep h + new                                            row: keep = 1 - z and new = z n, in 8 bits
 *   SRU     f = sigmoid(F + v_f c), r = sigmoid(R + v_r c),             row: candidate X, F and R, in 16 bits
 *           c = f c + (1 - f) X, h = r tanh(c)
 *   QRNN    c = f c + (1 - f) z, h = o c, with z = tanh(Z + Z'),        row, in 16 bits: Z, F and O, and what the word
 *           f = sigmoid(F + F'), o = sigmoid(O + O')                    adds to the next word's step: Z', F' and O'
 *
 * A text of 15 words thus reads 30 rows and multiplies no matrix. Time goes by the bytes of the rows: those of two texts
 * should fit the first cache, because the rows of the next text are prefetched. Sigmoid and tanh are those of
 * recurrent.c; the factor 1/2 of a sigmoid's argument is part of the scales.
 *
 * Layout. Columns are in blocks of LANES units with their parts side by side: (block * parts + part) * LANES + lane. The
 * states of VECTORS blocks stay in registers over all steps.
 */
#include "constants.h"
#include "layout.h"
#include "network.h"
#include "once.h"
#include "projection.h"
#include "vectors.h"
#include "word_vectors.h"
#include <math.h>

#define VECTORS 4   /* blocks in registers: the state, maximum and sum of each */
#define MAX_PARTS 6 /* of a row: QRNN's */

typedef struct {
    int32_t cell;                   /* MINGRU, SRU or QRNN */
    int32_t parts;                  /* numbers of a unit in a row: 2, 3 or 6 */
    int32_t part_size;              /* bytes of each: 1 or 2 */
    int32_t units;                  /* of a direction, padded with weights of 0 to a multiple of 2 LANES */
    int32_t words;                  /* the row after those of the words is zero: the word before the first */
    WordVectors vectors;
    const float *input_weights[2];  /* forward, backward: [width][columns], divided by scale */
    const float *bias[2];           /* [columns], likewise */
    const float *scale[2];          /* [columns]: what a column of `rows` is multiplied by; of a minGRU 1 and unused */
    const float *state_weights[2];  /* SRU: [2][units], v_f and v_r, halved; else null pointers */
    uint8_t *rows;                  /* [words + 1][2][columns], numbers of part_size bytes */
    uint8_t *states;                /* [words]: whether the word's row is computed; see once.h */
} Elementwise;

EXPORT_LAYOUT(Elementwise, FIELD(Elementwise, cell), FIELD(Elementwise, parts), FIELD(Elementwise, part_size),
              FIELD(Elementwise, units), FIELD(Elementwise, words),
              FIELD(Elementwise, vectors), FIELD(Elementwise, input_weights), FIELD(Elementwise, bias),
              FIELD(Elementwise, scale), FIELD(Elementwise, state_weights), FIELD(Elementwise, rows),
              FIELD(Elementwise, states));

/* Bytes of a word's row in one direction. */
INLINE int64_t row_size(const Elementwise *net) { return (int64_t)net->part_size * net->parts * net->units; }

/* Part of a minGRU's row, from the products of z and n. */
static void write_gates(const float *sums, int32_t count, uint8_t *row) {
    for (int32_t block = 0; block < count; block += 2 * LANES)
        for (int32_t j = block; j < block + LANES; j++) {
            const float update = 1.0f / (1.0f + expf(-sums[j]));
            row[j] = (uint8_t)__builtin_rintf((1.0f - update) * KEEP_ONE);
            row[j + LANES] = (uint8_t)(int8_t)__builtin_rintf(update * tanhf(sums[j + LANES]) * NEW_ONE);
        }
}

/* Compute the word's row in both directions. */
static void compute_row(const Elementwise *net, int32_t word) {
    const int32_t columns = net->parts * net->units;
    const int32_t width = net->vectors.width;
    float vector[width], sums[PROJECTION_BLOCK];
    read_vector(&net->vectors, word, vector);
    for (int direction = 0; direction < 2; direction++) {
        uint8_t *row = net->rows + ((int64_t)word * 2 + direction) * row_size(net);
        for (int32_t first = 0; first < columns; first += PROJECTION_BLOCK) {
            const int32_t count = columns - first < PROJECTION_BLOCK ? columns - first : PROJECTION_BLOCK;
            project(vector, width, net->input_weights[direction], net->bias[direction], columns, first, count, sums);
            if (net->cell == MINGRU) write_gates(sums, count, row + first);
            else
                for (int32_t j = 0; j < count; j++) ((int16_t *)row)[first + j] = (int16_t)__builtin_rintf(sums[j]);
        }
    }
    set_ready(&net->states[word]);
}

/* 2 sigmoid(2x) as a fraction. */
INLINE Fraction double_sigmoid(F32 x) {
    const Fraction tanh = tanh_fraction(x);
    return (Fraction){sigmoid_numerator(tanh), tanh.denominator};
}

/* The state is in units of 1 / NEW_ONE. */
INLINE F32 mingru_step(const F32 part[MAX_PARTS], F32 *state) {
    *state = part[0] * (1.0f / KEEP_ONE) * *state + part[1];
    return *state;
}

/* `weight`: v_f and v_r of the block. */
INLINE F32 sru_step(const F32 part[MAX_PARTS], const F32 weight[2], F32 *state) {
    const Fraction forget = double_sigmoid(part[1] + weight[0] * *state);
    const Fraction reset = double_sigmoid(part[2] + weight[1] * *state);
    *state = part[0] + forget.numerator * (*state - part[0]) / (2.0f * forget.denominator);
    const Fraction tanh = tanh_fraction(*state);
    return reset.numerator * tanh.numerator / (2.0f * reset.denominator * tanh.denominator);
}

INLINE F32 qrnn_step(const F32 part[MAX_PARTS], F32 *state) {
    const Fraction new = tanh_fraction(part[0]), forget = double_sigmoid(part[1]), output = double_sigmoid(part[2]);
    const F32 denominator = 2.0f * forget.denominator * new.denominator;
    *state = (forget.numerator * new.denominator * *state +
              (2.0f * forget.denominator - forget.numerator) * new.numerator) / denominator;
    return output.numerator * *state / (2.0f * output.denominator);
}

/* The parts of a block from the word's row, and for a QRNN from that of the word before; a minGRU's are not scaled. */
INLINE void load_parts(const uint8_t *row, const uint8_t *before, const float *scale, const int cell, F32 *part) {
    if (cell == MINGRU) {
        part[0] = load_u8_as_f32(row);
        part[1] = load_i8_as_f32((const int8_t *)row + LANES);
        return;
    }
    UNROLLED for (int p = 0; p < 3; p++) {
        part[p] = load_i16_as_f32((const int16_t *)row + p * LANES);
        if (cell == QRNN) part[p] += load_i16_as_f32((const int16_t *)before + (3 + p) * LANES);
        part[p] *= load_f32(scale + p * LANES);
    }
}

/* Run `vectors` blocks of one direction over a text; maximum and mean of their states go to max and mean. `cell` and
 * `vectors` are compile-time constants. */
INLINE void run_blocks(const Elementwise *net, int direction, int32_t block, const int32_t *words, int32_t length,
                       const int cell, const int vectors, float *max, float *mean) {
    const int64_t size = row_size(net), columns = (int64_t)net->parts * LANES; /* of a block */
    const uint8_t *rows = net->rows + direction * size + block * columns * net->part_size;
    const uint8_t *before = rows + net->words * 2 * size;
    const float *scale = net->scale[direction] + block * columns;
    F32 state[VECTORS] = {}, top[VECTORS], sum[VECTORS] = {}, weight[VECTORS][2] = {};
    UNROLLED for (int v = 0; v < vectors; v++) {
        top[v] = (F32){} - INFINITY;
        if (cell == SRU)
            for (int gate = 0; gate < 2; gate++)
                weight[v][gate] = load_f32(net->state_weights[direction] + gate * net->units + (block + v) * LANES);
    }
    for (int32_t step = 0; step < length; step++) {
        const uint8_t *row = rows + words[direction ? length - 1 - step : step] * 2 * size;
        UNROLLED for (int v = 0; v < vectors; v++) {
            F32 part[MAX_PARTS];
            const int64_t start = v * columns * net->part_size;
            load_parts(row + start, before + start, scale + v * columns, cell, part);
            const F32 out = cell == MINGRU ? mingru_step(part, &state[v])
                : cell == SRU              ? sru_step(part, weight[v], &state[v])
                                           : qrnn_step(part, &state[v]);
            top[v] = max_f32(top[v], out);
            sum[v] += out;
        }
        before = row;
    }
    const float unit = cell == MINGRU ? 1.0f / NEW_ONE : 1.0f;
    UNROLLED for (int v = 0; v < vectors; v++) {
        store_f32(max + v * LANES, top[v] * unit);
        store_f32(mean + v * LANES, sum[v] * (unit / length));
    }
}

/* One text: pooled [max forward, max backward, mean forward, mean backward][units] */
INLINE void run_text(const Elementwise *net, const int32_t *words, int32_t length, const int cell, float *pooled) {
    for (int direction = 0; direction < 2; direction++) {
        int32_t block = 0;
        float *max = pooled + direction * net->units, *mean = max + 2 * net->units;
        for (; block + VECTORS <= net->units / LANES; block += VECTORS)
            run_blocks(net, direction, block, words, length, cell, VECTORS, max + block * LANES, mean + block * LANES);
        if (block < net->units / LANES) /* units are a multiple of 2 LANES */
            run_blocks(net, direction, block, words, length, cell, 2, max + block * LANES, mean + block * LANES);
    }
}

/* Compute the rows of a text's words that are missing, and prefetch the others. */
INLINE void prepare_rows(const Elementwise *net, const int32_t *words, int32_t length) {
    const int64_t size = 2 * row_size(net);
    for (int32_t i = 0; i < length; i++) {
        uint8_t *state = &net->states[words[i]];
        if (!is_ready(state) && must_compute(state)) compute_row(net, words[i]);
        prefetch(net->rows + words[i] * size, size);
    }
}

/* pooled [texts][max forward, max backward, mean forward, mean backward][units]; zeros for a text without words */
int distill_elementwise(const void *network, const EncodedTexts *texts, float *pooled) {
    const Elementwise *net = network;
    if (texts->count) prepare_rows(net, texts->ids, texts->lengths[0]);
    for (int64_t i = 0; i < texts->count; i++, pooled += 4 * net->units) {
        const int32_t *words = texts->ids + i * texts->max_length, length = texts->lengths[i];
        if (i + 1 < texts->count) prepare_rows(net, words + texts->max_length, texts->lengths[i + 1]);
        if (!length) memset(pooled, 0, sizeof(float) * 4 * net->units);
        else if (net->cell == MINGRU) run_text(net, words, length, MINGRU, pooled);
        else if (net->cell == SRU) run_text(net, words, length, SRU, pooled);
        else run_text(net, words, length, QRNN, pooled);
    }
    return OK;
}
