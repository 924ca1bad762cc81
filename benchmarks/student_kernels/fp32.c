/* The biLSTM of distill/runtime/kernels/recurrent.c with floats where that has integers: what do they buy?
 * Its cell and vectors are used as they are, and its order of states and weights. Folded rows are [gate][units]. */
#include "../../distill/runtime/kernels/recurrent.c"

typedef struct {
    float *before, *after, *cell, *most, *sum; /* states [TILE][units], and the rest as in Tile */
    const float *row[TILE];                    /* of the folded table, for this step */
} FloatTile;

/* recurrent products of `rows` texts with the gates of one block of units; weights [units][4][LANES] */
#define FLOAT_PRODUCT(name, rows)                                                                                     \
    static __attribute__((noinline)) void name(const float *states, int32_t units, const float *weights,              \
                                               Floats found[LSTM_ROWS][4]) {                                          \
        Floats sums[rows][4] = {}, columns[4];                                                                        \
        for (int32_t k = 0; k < units; k++, states++, weights += 4 * LANES) {                                         \
            UNROLLED for (int gate = 0; gate < 4; gate++) columns[gate] = floats(weights + gate * LANES);             \
            UNROLLED for (int gate = 0; gate < 4; gate++) IN_REGISTER(columns[gate]);                                 \
            UNROLLED for (int row = 0; row < rows; row++)                                                             \
                UNROLLED for (int gate = 0; gate < 4; gate++) sums[row][gate] += columns[gate] * states[row * units]; \
        }                                                                                                             \
        memcpy(found, sums, sizeof sums);                                                                             \
    }
FLOAT_PRODUCT(float_products, LSTM_ROWS)
FLOAT_PRODUCT(float_product, 1)

/* one step of `rows` texts from `first` on, one block of units */
INLINE void float_block(const float *weights, int32_t units, const FloatTile *tile, int32_t block, int32_t first,
                        const int rows) {
    Floats gates[LSTM_ROWS][4];
    (rows == 1 ? float_product : float_products)(tile->before + first * units, units, weights, gates);
    for (int row = 0; row < rows; row++) {
        const int64_t place = ((int64_t)block * TILE + first + row) * LANES;
        for (int gate = 0; gate < 4; gate++)
            gates[row][gate] += floats(tile->row[first + row] + gate * units + block * LANES);
        const Floats state = lstm(gates[row], tile->cell + place);
        keep(tile->most + place, most(floats(tile->most + place), state));
        keep(tile->sum + place, floats(tile->sum + place) + state);
        keep(tile->after + (first + row) * units + block * LANES, state);
    }
}

static void float_walk(const float *folded, const float *weights, int32_t units, FloatTile *tile, int direction,
                       const int32_t *ids, const int32_t *lengths, int32_t texts, int32_t longest) {
    for (int32_t i = 0; i < TILE * units; i++) tile->before[i] = tile->cell[i] = tile->sum[i] = 0, tile->most[i] = -2;
    for (int32_t place = 0; texts; place++) {
        while (texts && lengths[texts - 1] <= place) texts--;
        for (int32_t i = 0; i < texts; i++) {
            const int64_t word = ids[(int64_t)i * longest + (direction ? lengths[i] - 1 - place : place)];
            tile->row[i] = folded + (word * 2 + direction) * 4 * units;
            for (int32_t at = 0; at < 4 * units; at += 16) __builtin_prefetch(tile->row[i] + at);
        }
        for (int32_t block = 0; block < units / LANES; block++) {
            const float *own = weights + (int64_t)(direction * units / LANES + block) * units * 4 * LANES;
            int32_t first = 0;
            for (; first + LSTM_ROWS <= texts; first += LSTM_ROWS)
                float_block(own, units, tile, block, first, LSTM_ROWS);
            for (; first < texts; first++) float_block(own, units, tile, block, first, 1);
        }
        float *swap = tile->before;
        tile->before = tile->after, tile->after = swap;
    }
}

/* folded [words][2][4][units], weights [2][units / LANES][units][4][LANES], ids [texts][longest], longest text first,
 * room [5][TILE][units] -> pooled [texts][4 units] as recurrent.c has it */
void float_recurrent(const float *folded, const float *weights, int32_t units, const int32_t *ids,
                     const int32_t *lengths, int32_t texts, int32_t longest, float *room, float *pooled) {
    const int32_t size = TILE * units;
    FloatTile tile = {room, room + size, room + 2 * size, room + 3 * size, room + 4 * size, {0}};
    for (; texts > 0; texts -= TILE, ids += TILE * longest, lengths += TILE, pooled += 4 * size)
        for (int direction = 0; direction < 2; direction++) {
            const int32_t count = texts < TILE ? texts : TILE;
            float_walk(folded, weights, units, &tile, direction, ids, lengths, count, longest);
            for (int32_t i = 0; i < count * units; i++) {
                const int32_t text = i / units, place = (i % units / LANES * TILE + text) * LANES + i % LANES;
                float *target = pooled + text * 4 * units + direction * units + i % units;
                target[0] = tile.most[place], target[2 * units] = tile.sum[place] / lengths[text];
            }
        }
}
