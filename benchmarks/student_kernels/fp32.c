/* The biLSTM of distill/runtime/kernels/recurrent.c in float32 instead of integers, to measure what integers gain.
 *
 * It shares that file's cell, vectors and the order of its states. Rows of the projection table are [gate][units].
 */
#include "../../distill/runtime/kernels/recurrent.c"

typedef struct {
    float *states, *next_states, *cell, *max, *sum; /* states [TILE][units], the others as in Tile */
    const float *projection[TILE];                  /* rows of the table for this step */
} FloatTile;

/* Recurrent product of `rows` texts with the gates of one block of units; weights [units][4][LANES]. */
#define FLOAT_PRODUCT(name, rows)                                                                                     \
    static __attribute__((noinline)) void name(const float *states, int32_t units, const float *weights,              \
                                               F32 product[LSTM_ROWS][4]) {                                           \
        F32 sums[rows][4] = {}, columns[4];                                                                           \
        for (int32_t k = 0; k < units; k++, states++, weights += 4 * LANES) {                                         \
            UNROLLED for (int gate = 0; gate < 4; gate++) columns[gate] = load_f32(weights + gate * LANES);           \
            UNROLLED for (int gate = 0; gate < 4; gate++) IN_REGISTER(columns[gate]);                                 \
            UNROLLED for (int row = 0; row < rows; row++)                                                             \
                UNROLLED for (int gate = 0; gate < 4; gate++) sums[row][gate] += columns[gate] * states[row * units]; \
        }                                                                                                             \
        memcpy(product, sums, sizeof sums);                                                                           \
    }
FLOAT_PRODUCT(float_product, LSTM_ROWS)
FLOAT_PRODUCT(float_product_single, 1)

/* One step of one block, for `rows` texts from `first` on. */
INLINE void float_block(const float *weights, int32_t units, const FloatTile *tile, int32_t block, int32_t first,
                        const int rows) {
    F32 gates[LSTM_ROWS][4];
    (rows == 1 ? float_product_single : float_product)(tile->states + first * units, units, weights, gates);
    for (int row = 0; row < rows; row++) {
        const int64_t offset = ((int64_t)block * TILE + first + row) * LANES;
        for (int gate = 0; gate < 4; gate++)
            gates[row][gate] += load_f32(tile->projection[first + row] + gate * units + block * LANES);
        const F32 state = lstm_cell(gates[row], tile->cell + offset);
        store_f32(tile->max + offset, max_f32(load_f32(tile->max + offset), state));
        store_f32(tile->sum + offset, load_f32(tile->sum + offset) + state);
        store_f32(tile->next_states + (first + row) * units + block * LANES, state);
    }
}

static void run_float_direction(const float *projections, const float *weights, int32_t units, FloatTile *tile,
                                int direction, const int32_t *ids, const int32_t *lengths, int32_t texts,
                                int32_t max_length) {
    for (int32_t i = 0; i < TILE * units; i++) tile->states[i] = tile->cell[i] = tile->sum[i] = 0, tile->max[i] = -2;
    for (int32_t step = 0; texts; step++) {
        while (texts && lengths[texts - 1] <= step) texts--;
        for (int32_t i = 0; i < texts; i++) {
            const int64_t word = ids[(int64_t)i * max_length + (direction ? lengths[i] - 1 - step : step)];
            tile->projection[i] = projections + (word * 2 + direction) * 4 * units;
            for (int32_t j = 0; j < 4 * units; j += 16) __builtin_prefetch(tile->projection[i] + j);
        }
        for (int32_t block = 0; block < units / LANES; block++) {
            const float *block_weights = weights + (int64_t)(direction * units / LANES + block) * units * 4 * LANES;
            int32_t first = 0;
            for (; first + LSTM_ROWS <= texts; first += LSTM_ROWS)
                float_block(block_weights, units, tile, block, first, LSTM_ROWS);
            for (; first < texts; first++) float_block(block_weights, units, tile, block, first, 1);
        }
        float *swap = tile->states;
        tile->states = tile->next_states, tile->next_states = swap;
    }
}

/* projections [words][2][4][units], weights [2][units / LANES][units][4][LANES], ids [texts][max_length], longest text
 * first; buffer [5][TILE][units]; pooled [texts][4 units] as in recurrent.c. */
void float_recurrent(const float *projections, const float *weights, int32_t units, const int32_t *ids,
                     const int32_t *lengths, int32_t texts, int32_t max_length, float *buffer, float *pooled) {
    const int32_t size = TILE * units;
    FloatTile tile = {buffer, buffer + size, buffer + 2 * size, buffer + 3 * size, buffer + 4 * size, {0}};
    for (; texts > 0; texts -= TILE, ids += TILE * max_length, lengths += TILE, pooled += 4 * size)
        for (int direction = 0; direction < 2; direction++) {
            const int32_t count = texts < TILE ? texts : TILE;
            run_float_direction(projections, weights, units, &tile, direction, ids, lengths, count, max_length);
            for (int32_t i = 0; i < count * units; i++) {
                const int32_t text = i / units, offset = (i % units / LANES * TILE + text) * LANES + i % LANES;
                float *target = pooled + text * 4 * units + direction * units + i % units;
                target[0] = tile.max[offset], target[2 * units] = tile.sum[offset] / lengths[text];
            }
        }
}
