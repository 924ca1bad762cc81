/* Bidirectional LSTM and GRU, pooled over a text's words by maximum and mean. recurrent_reference.c is the
 * specification: the same function in plain float32. This file computes it in integers and without padding.
 *
 * One step of one direction, for a text with the previous state h and cell c:
 *
 *   gates   = projection[word] * projection_scale + (W h) * recurrent_scale      one value per column, gates x units
 *   LSTM:     c = sigmoid(forget) c + sigmoid(input) tanh(cell),  h = sigmoid(output) tanh(c)
 *   GRU:      n = tanh(new + sigmoid(reset) ((W h)_new + recurrent_bias)),  h = (1 - z) n + z h,  z = sigmoid(update)
 *
 * Input projections. A word's product with the input weights depends on the word alone. It is computed when the word
 * first occurs, bias included, and stored as 16-bit integers in a table with one row per word (`projections`).
 *
 * Recurrent product. States are stored as unsigned bytes, u = round((h + 1) * STATE_ONE), and weights as signed bytes w
 * with one scale per column, so W h = recurrent_scale * (sum of u w - STATE_ONE * sum of w). The last term is the
 * zero-point correction, with which the accumulators start. Products of STATE_GROUP states are summed in 16 bits (or in
 * 32 where the processor can), then added to 32-bit accumulators. Cells, GRU states and pooling are float32.
 *
 * Sigmoids. sigmoid(x) = (1 + tanh(x / 2)) / 2, and the 1/2 of the argument is part of the scales. tanh is a fraction
 * (vectors.h), so that each step takes two divisions.
 *
 * Layout. A block is LANES units of one direction. The columns of a block are its gates side by side: column
 * (block * gates + gate) * LANES + lane. All gates of a block are thus in registers when the step is computed.
 *
 * Tiles. Texts are sorted by decreasing length and processed in tiles of TILE texts whose states fit the cache. The texts
 * of a tile that have ended are always its last ones, so a step simply processes fewer texts.
 */
#include "constants.h"
#include "layout.h"
#include "network.h"
#include "once.h"
#include "projection.h"
#include "vectors.h"
#include "word_vectors.h"
#include <stdlib.h>

typedef struct {
    int32_t gates;                      /* 4: LSTM's input, forget, cell, output; 3: GRU's reset, update, new */
    int32_t units;                      /* of a direction, padded with weights of 0 to a multiple of 2 LANES */
    int32_t sentence;                   /* the mean of the words is the only step */
    WordVectors vectors;
    const float *input_weights[2];      /* forward, backward: [width][columns], divided by projection_scale */
    const float *bias[2];               /* [columns], likewise */
    const float *projection_scale[2];   /* [columns] */
    const int8_t *recurrent_weights[2]; /* [units / LANES][units / 4][gates][LANES][4] */
    const int32_t *zero_point[2];       /* [columns]: -STATE_ONE * the sum of a column's weights */
    const float *recurrent_scale[2];    /* [columns] */
    const float *recurrent_bias[2];     /* [columns]: of GRU's new gate, else 0 */
    int16_t *projections;               /* [words][2][columns] */
    uint8_t *states;                    /* [words]: whether the word's row of `projections` is computed; see once.h */
} Recurrent;

EXPORT_LAYOUT(WordVectors, FIELD(WordVectors, rows), FIELD(WordVectors, scale), FIELD(WordVectors, width),
              FIELD(WordVectors, size));
EXPORT_LAYOUT(Recurrent, FIELD(Recurrent, gates), FIELD(Recurrent, units), FIELD(Recurrent, sentence),
              FIELD(Recurrent, vectors), FIELD(Recurrent, input_weights),
              FIELD(Recurrent, bias), FIELD(Recurrent, projection_scale), FIELD(Recurrent, recurrent_weights),
              FIELD(Recurrent, zero_point), FIELD(Recurrent, recurrent_scale), FIELD(Recurrent, recurrent_bias),
              FIELD(Recurrent, projections), FIELD(Recurrent, states));

#define MAX_ROWS GRU_ROWS   /* the larger of GRU_ROWS and LSTM_ROWS */

/* Working memory for the texts of a tile. */
typedef struct {
    uint8_t *states, *next_states; /* 8-bit states [TILE][units], before and after the step */
    float *cell;                   /* LSTM's cell or GRU's state [units / LANES][TILE][LANES], contiguous in a block */
    float *max, *sum;              /* of the states over the steps, in the same layout */
    const int16_t *projection[TILE], *next_projection[TILE]; /* rows of `projections` for this and the next step */
} Tile;

/* Compute the word's row of `projections` in both directions. */
static void cache_projection(const Recurrent *net, int32_t word) {
    const int32_t columns = net->gates * net->units;
    const int32_t width = net->vectors.width;
    float vector[width], sums[PROJECTION_BLOCK];
    read_vector(&net->vectors, word, vector);
    for (int direction = 0; direction < 2; direction++) {
        int16_t *target = net->projections + ((int64_t)word * 2 + direction) * columns;
        for (int32_t first = 0; first < columns; first += PROJECTION_BLOCK) {
            const int32_t count = columns - first < PROJECTION_BLOCK ? columns - first : PROJECTION_BLOCK;
            project(vector, width, net->input_weights[direction], net->bias[direction], columns, first, count, sums);
            for (int32_t j = 0; j < count; j++) target[first + j] = (int16_t)__builtin_rintf(sums[j]);
        }
    }
    set_ready(&net->states[word]);
}

INLINE const int16_t *projection_row(const Recurrent *net, int32_t word, int direction) {
    if (!is_ready(&net->states[word]) && must_compute(&net->states[word])) cache_projection(net, word);
    return net->projections + ((int64_t)word * 2 + direction) * net->gates * net->units;
}

/* Add the dot products of STATE_GROUP states and their weights to the sums of `rows` texts and the gates of one block.
 * `rows` and `gates` are compile-time constants. */
INLINE void add_products(const uint8_t *states, int32_t units, const int8_t *weights, const int rows, const int gates,
                         Accumulator sums[MAX_ROWS][4]) {
    UNROLLED for (int32_t k = 0; k < STATE_GROUP; k += 4, weights += gates * 4 * LANES) {
        I8x4 columns[4];
        if (rows == 1) prefetch(weights + 1024, gates * 4 * LANES); /* memory-bound */
        UNROLLED for (int gate = 0; gate < gates; gate++) {
            memcpy(&columns[gate], weights + gate * 4 * LANES, sizeof columns[gate]);
            IN_REGISTER(columns[gate]); /* load once for all rows: the load ports are the bottleneck */
        }
        UNROLLED for (int row = 0; row < rows; row++) {
            int32_t four_states;
            memcpy(&four_states, states + row * units + k, sizeof four_states);
            const I8x4 state = (I8x4)((I32){} + four_states);
            UNROLLED for (int gate = 0; gate < gates; gate++) {
                sums[row][gate] = dot_u8_i8(sums[row][gate], state, columns[gate]);
                IN_REGISTER(sums[row][gate]); /* add now: pending products would fill the registers */
            }
        }
    }
}

/* sums[row][gate] = zero-point correction + dot product of the text's state and the weights. */
INLINE void recurrent_product(const uint8_t *states, int32_t units, const int8_t *weights, const int32_t *zero_point,
                              const int rows, const int gates, I32 sums[MAX_ROWS][4]) {
    Accumulator group_sums[MAX_ROWS][4] = {};
    UNROLLED for (int row = 0; row < rows; row++)
        UNROLLED for (int gate = 0; gate < gates; gate++) sums[row][gate] = load_i32(zero_point + gate * LANES);
    for (int32_t group = 0; group < units; group += STATE_GROUP, weights += gates * STATE_GROUP * LANES) {
        add_products(states + group, units, weights, rows, gates, group_sums);
        if (!SUMS_OVERFLOW && group + STATE_GROUP < units) continue; /* one addition, after the last group */
        __asm__("" ::: "memory"); /* keep `sums` in memory: they do not fit the registers next to group_sums */
        UNROLLED for (int row = 0; row < rows; row++)
            UNROLLED for (int gate = 0; gate < gates; gate++) {
                sums[row][gate] += lane_sums(group_sums[row][gate]);
                group_sums[row][gate] = (Accumulator){};
            }
    }
}

/* Instances that are not inlined: within their callers the compiler would run out of registers, and accumulators in
 * memory make a step 50 % slower. */
#define RECURRENT_PRODUCT(name, rows, gates)                                                                        \
    static __attribute__((noinline)) void name(const uint8_t *states, int32_t units, const int8_t *weights,         \
                                               const int32_t *zero_point, I32 sums[MAX_ROWS][4]) {                  \
        recurrent_product(states, units, weights, zero_point, rows, gates, sums);                                   \
    }
RECURRENT_PRODUCT(lstm_product, LSTM_ROWS, 4)
RECURRENT_PRODUCT(lstm_product_single, 1, 4)
RECURRENT_PRODUCT(gru_product, GRU_ROWS, 3)
RECURRENT_PRODUCT(gru_product_single, 1, 3)

/* The next state of LANES units; updates the cell. Arguments of sigmoids are already halved. */
INLINE F32 lstm_cell(const F32 gate[4], float *cell) {
    const Fraction input = tanh_fraction(gate[0]), forget = tanh_fraction(gate[1]);
    const Fraction candidate = tanh_fraction(gate[2]), output = tanh_fraction(gate[3]);
    const F32 common = input.denominator * candidate.denominator;
    const F32 next_cell = (sigmoid_numerator(forget) * load_f32(cell) * common
                           + sigmoid_numerator(input) * candidate.numerator * forget.denominator)
        / (forget.denominator * (common + common));
    store_f32(cell, next_cell);
    const Fraction squashed = tanh_fraction(next_cell);
    return sigmoid_numerator(output) * squashed.numerator
        / (output.denominator * (squashed.denominator + squashed.denominator));
}

/* Likewise for a GRU. recurrent_new, which the reset gate is multiplied with, is halved too, for the sigmoid's 1/2. */
INLINE F32 gru_cell(const F32 gate[4], F32 recurrent_new, float *state) {
    const Fraction reset = tanh_fraction(gate[0]), update = tanh_fraction(gate[1]);
    const Fraction candidate =
        tanh_fraction(gate[2] + recurrent_new * sigmoid_numerator(reset) / reset.denominator);
    const F32 next_state = ((update.denominator - update.numerator) * candidate.numerator
                            + sigmoid_numerator(update) * candidate.denominator * load_f32(state))
        / (update.denominator * (candidate.denominator + candidate.denominator));
    store_f32(state, next_state);
    return next_state;
}

/* Recurrent product of one block, for `rows` texts from `first` on. */
INLINE void block_product(const Recurrent *net, const Tile *tile, int direction, int32_t block, int32_t first,
                          const int rows, const int gates, I32 sums[MAX_ROWS][4]) {
    const int32_t units = net->units, column = block * gates * LANES;
    (gates == 4 ? (rows == 1 ? lstm_product_single : lstm_product)
                : (rows == 1 ? gru_product_single : gru_product))(
        tile->states + first * units, units, net->recurrent_weights[direction] + (int64_t)column * units,
        net->zero_point[direction] + column, sums);
}

/* Gates, next state and pooling of one block, from its recurrent product. */
INLINE void block_gates(const Recurrent *net, const Tile *tile, int direction, int32_t block, int32_t first,
                        const int rows, const int gates, I32 sums[MAX_ROWS][4]) {
    const int32_t column = block * gates * LANES;
    UNROLLED for (int row = 0; row < rows; row++) {
        const int64_t offset = ((int64_t)block * TILE + first + row) * LANES;
        F32 gate[4], product = {};
        prefetch(tile->next_projection[first + row] + column, 2 * gates * LANES); /* the table exceeds the caches */
        UNROLLED for (int g = 0; g < gates; g++) {
            const int32_t j = column + g * LANES;
            const F32 projection = load_i16_as_f32(tile->projection[first + row] + j);
            gate[g] = projection * load_f32(net->projection_scale[direction] + j);
            product = __builtin_convertvector(sums[row][g], F32) * load_f32(net->recurrent_scale[direction] + j);
            if (gates == 4 || g < 2) gate[g] += product;
        }
        const F32 state = gates == 4
            ? lstm_cell(gate, tile->cell + offset)
            : gru_cell(gate, product + load_f32(net->recurrent_bias[direction] + column + 2 * LANES),
                       tile->cell + offset);
        store_f32(tile->max + offset, max_f32(load_f32(tile->max + offset), state));
        store_f32(tile->sum + offset, load_f32(tile->sum + offset) + state);
        const U8 rounded = round_to_u8(state * STATE_ONE + STATE_ONE);
        memcpy(tile->next_states + (first + row) * net->units + block * LANES, &rounded, sizeof rounded);
    }
}

/* One step of one block. Before the first step all states are 0, and so is the product. */
INLINE void block_step(const Recurrent *net, const Tile *tile, int direction, int32_t block, int32_t first,
                       int is_first_step, const int rows, const int gates, I32 sums[MAX_ROWS][4]) {
    if (!is_first_step) block_product(net, tile, direction, block, first, rows, gates, sums);
    block_gates(net, tile, direction, block, first, rows, gates, sums);
}

/* One step of a single text. The gates of a block depend on one another, so four blocks are interleaved. */
INLINE void single_step(const Recurrent *net, const Tile *tile, int direction, int is_first_step, const int gates) {
    for (int32_t block = 0; block < net->units / LANES; block += 4) {
        const int32_t blocks = net->units / LANES - block < 4 ? net->units / LANES - block : 4;
        I32 sums[4][MAX_ROWS][4] = {};
        for (int32_t i = 0; i < blocks && !is_first_step; i++)
            block_product(net, tile, direction, block + i, 0, 1, gates, sums[i]);
        for (int32_t i = 0; i < blocks; i++) block_gates(net, tile, direction, block + i, 0, 1, gates, sums[i]);
    }
}

/* One step of the first `texts` texts of a tile. */
INLINE void tile_step(const Recurrent *net, const Tile *tile, int direction, int32_t texts, int is_first_step,
                      const int gates) {
    const int rows = gates == 4 ? LSTM_ROWS : GRU_ROWS;
    if (texts == 1) {
        single_step(net, tile, direction, is_first_step, gates);
        return;
    }
    for (int32_t block = 0; block < net->units / LANES; block++) {
        I32 sums[MAX_ROWS][4] = {};
        int32_t first = 0;
        for (; first + rows <= texts; first += rows)
            block_step(net, tile, direction, block, first, is_first_step, rows, gates, sums);
        for (; first < texts; first++) block_step(net, tile, direction, block, first, is_first_step, 1, gates, sums);
    }
}

/* Run one direction over a tile's texts, longest first; leaves maximum and sum of the states in the tile. mean_rows are
 * the texts' rows in sentence mode, else a null pointer. */
static void run_direction(const Recurrent *net, Tile *tile, int direction, const int32_t *const *words,
                          const int32_t *lengths, int32_t texts, const int16_t *mean_rows) {
    for (int32_t i = 0; i < texts; i++) {
        tile->next_projection[i] = mean_rows ? mean_rows + (2 * i + direction) * net->gates * net->units
            : projection_row(net, words[i][direction ? lengths[i] - 1 : 0], direction);
        prefetch(tile->next_projection[i], 2 * net->gates * net->units);
    }
    const int64_t size = (int64_t)TILE * net->units;
    memset(tile->cell, 0, sizeof(float) * size);
    memset(tile->sum, 0, sizeof(float) * size);
    for (int64_t i = 0; i < size; i++) tile->max[i] = -2.0f; /* below every state: they lie between -1 and 1 */
    for (int32_t step = 0; texts; step++) {
        while (texts && lengths[texts - 1] <= step) texts--;
        for (int32_t i = 0; i < texts; i++) {
            tile->projection[i] = tile->next_projection[i];
            if (step + 1 < lengths[i])
                tile->next_projection[i] =
                    projection_row(net, words[i][direction ? lengths[i] - 2 - step : step + 1], direction);
        }
        if (net->gates == 4) tile_step(net, tile, direction, texts, step == 0, 4);
        else tile_step(net, tile, direction, texts, step == 0, 3);
        uint8_t *swap = tile->states;
        tile->states = tile->next_states, tile->next_states = swap;
    }
}

/* Sentence mode: the mean of the words' projections, rounded to 16 bits, in both directions. */
static void mean_projection(const Recurrent *net, const int32_t *words, int32_t length, int16_t *row) {
    const int32_t columns = 2 * net->gates * net->units; /* both directions lie side by side */
    for (int32_t i = 0; i < length; i++) projection_row(net, words[i], 0);
    for (int32_t j = 0; j < columns; j += LANES) {
        F32 sum = {};
        for (int32_t i = 0; i < length; i++) sum += load_i16_as_f32(net->projections + (int64_t)words[i] * columns + j);
        const I16 rounded = round_to_i16(sum / (float)length);
        memcpy(row + j, &rounded, sizeof rounded);
    }
}

/* Indices of the texts by decreasing length: a counting sort. starts [max_length + 1] is working memory. */
static void sort_by_length(const int32_t *lengths, int64_t texts, int32_t max_length, int64_t *starts, int64_t *order) {
    memset(starts, 0, sizeof(int64_t) * (max_length + 1));
    for (int64_t i = 0; i < texts; i++) starts[max_length - lengths[i]]++;
    for (int64_t start = 0, i = 0; i <= max_length; i++) {
        const int64_t count = starts[i];
        starts[i] = start;
        start += count;
    }
    for (int64_t i = 0; i < texts; i++) order[starts[max_length - lengths[i]]++] = i;
}

/* Pool one tile of texts, given by their indices, into [max forward, max backward, mean forward, mean backward][units]
 * per text. mean_rows [TILE][2][columns] is working memory for sentence mode. */
static void pool_tile(const Recurrent *net, Tile *tile, const EncodedTexts *texts, const int64_t *order, int32_t count,
                      int16_t *mean_rows, float *pooled) {
    const int32_t *words[TILE];
    int32_t steps[TILE];
    const int32_t units = net->units, columns = net->gates * units;
    for (int32_t i = 0; i < count; i++) {
        const int32_t length = texts->lengths[order[i]];
        words[i] = texts->ids + order[i] * texts->max_length;
        steps[i] = net->sentence ? 1 : length;
        if (net->sentence) mean_projection(net, words[i], length, mean_rows + (int64_t)i * 2 * columns);
    }
    for (int direction = 0; direction < 2; direction++) {
        run_direction(net, tile, direction, words, steps, count, net->sentence ? mean_rows : NULL);
        for (int32_t i = 0; i < count; i++) {
            float *target = pooled + order[i] * 4 * units + direction * units;
            for (int32_t j = 0; j < units; j += LANES, target += LANES) {
                const int64_t offset = (int64_t)j * TILE + i * LANES;
                store_f32(target, load_f32(tile->max + offset));
                store_f32(target + 2 * units, load_f32(tile->sum + offset) / (float)steps[i]);
            }
        }
    }
}

/* pooled [texts][max forward, max backward, mean forward, mean backward][units]; zeros for a text without words */
int distill_recurrent(const void *network, const EncodedTexts *texts, float *pooled) {
    const Recurrent *net = network;
    const int64_t size = (int64_t)TILE * net->units, columns = (int64_t)net->gates * net->units;
    int64_t *order = malloc(sizeof(int64_t) * (texts->count + texts->max_length + 1));
    float *buffer = aligned_alloc(64, sizeof(float) * size * 3 + sizeof(int16_t) * TILE * 2 * columns + size * 2);
    if (order && buffer) {
        int16_t *mean_rows = (int16_t *)(buffer + 3 * size);
        uint8_t *states = (uint8_t *)(mean_rows + TILE * 2 * columns);
        Tile tile = {states, states + size, buffer, buffer + size, buffer + 2 * size, {0}, {0}};
        sort_by_length(texts->lengths, texts->count, texts->max_length, order + texts->count, order);
        int64_t count = texts->count;
        for (; count && !texts->lengths[order[count - 1]]; count--)
            memset(pooled + order[count - 1] * 4 * net->units, 0, sizeof(float) * 4 * net->units);
        for (int64_t first = 0; first < count; first += TILE) {
            const int64_t left = count - first;
            pool_tile(net, &tile, texts, order + first, left < TILE ? left : TILE, mean_rows, pooled);
        }
    }
    const int status = order && buffer ? OK : NO_MEMORY;
    free(order), free(buffer);
    return status;
}
