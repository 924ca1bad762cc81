/* biLSTM and biGRU: maximum and mean of the states of each text, for texts of any lengths and without padding.
 *
 * A word's product with the input weights depends on the word alone, so it is made once a word, when the word is first
 * met, and kept in 16 bits ("folded"). What is left of a step is the recurrent product, in 8-bit integers. Columns stand
 * in blocks of LANES units with their gates side by side, so that a block's gates meet in registers.
 */
#include "networks.h"
#include "vectors.h"
#include <stdlib.h>

#define ROWS GRU_ROWS /* the larger of the two */
#define STATE_ONE 127.0f /* a state of 1 as an integer; what is kept is the state plus 1 */
#define GROUP 16         /* states whose products are summed in 16 bits */

typedef struct {
    uint8_t *before, *after; /* states as integers [TILE][units] */
    float *cell;             /* LSTM's cell, GRU's state [units / LANES][TILE][LANES]: what a block needs is together */
    float *most, *sum;       /* over the steps, likewise */
    const int16_t *row[TILE], *next[TILE]; /* of the folded table, for this step and the one after */
} Tile;

static void fold(const Recurrent *net, int32_t word) {
    const int32_t columns = net->gates * net->units;
    const float *vector = net->vectors + (int64_t)word * net->width;
    float sums[64];
    for (int direction = 0; direction < 2; direction++) {
        int16_t *target = net->folded + ((int64_t)word * 2 + direction) * columns;
        for (int32_t first = 0; first < columns; first += 64) {
            const int32_t count = columns - first < 64 ? columns - first : 64;
            memcpy(sums, net->bias[direction] + first, sizeof(float) * count);
            for (int32_t k = 0; k < net->width; k++) {
                const float *weights = net->input[direction] + (int64_t)k * columns + first;
                for (int32_t j = 0; j < count; j++) sums[j] += vector[k] * weights[j];
            }
            for (int32_t j = 0; j < count; j++) target[first + j] = (int16_t)__builtin_rintf(sums[j]);
        }
    }
    __atomic_store_n(&net->known[word], 1, __ATOMIC_RELEASE); /* another thread may write the same numbers: harmless */
}

INLINE const int16_t *folded_row(const Recurrent *net, int32_t word, int direction) {
    if (!__atomic_load_n(&net->known[word], __ATOMIC_ACQUIRE)) fold(net, word);
    return net->folded + ((int64_t)word * 2 + direction) * net->gates * net->units;
}

/* recurrent products of `rows` texts with the gates of one block of units */
INLINE void products(const uint8_t *states, int32_t units, const int8_t *weights, const int32_t *rest, const int rows,
                     const int gates, Ints found[ROWS][4]) {
    UNROLLED for (int row = 0; row < rows; row++)
        UNROLLED for (int gate = 0; gate < gates; gate++) found[row][gate] = ints(rest + gate * LANES);
    for (int32_t group = 0; group < units; group += GROUP) {
        Sums sums[ROWS][4] = {};
        UNROLLED for (int32_t k = group; k < group + GROUP; k += 4, weights += gates * 4 * LANES) {
            Bytes columns[4];
            if (rows == 1) __builtin_prefetch(weights + 1024), __builtin_prefetch(weights + 1088); /* it waits for them */
            UNROLLED for (int gate = 0; gate < gates; gate++) {
                memcpy(&columns[gate], weights + gate * 4 * LANES, sizeof columns[gate]);
                IN_REGISTER(columns[gate]); /* read once for all rows: loads are what is short */
            }
            UNROLLED for (int row = 0; row < rows; row++) {
                int32_t four;
                memcpy(&four, states + row * units + k, sizeof four);
                const Bytes state = (Bytes)((Ints){} + four);
                UNROLLED for (int gate = 0; gate < gates; gate++) {
                    sums[row][gate] = dot(sums[row][gate], state, columns[gate]);
                    IN_REGISTER(sums[row][gate]); /* now: products that wait to be added would fill the registers */
                }
            }
        }
        __asm__("" ::: "memory"); /* `found` from memory: it does not fit the registers beside the sums */
        UNROLLED for (int row = 0; row < rows; row++)
            UNROLLED for (int gate = 0; gate < gates; gate++) found[row][gate] += total(sums[row][gate]);
    }
}

/* each in a function of its own: where the compiler puts them into others it runs out of registers, and sums in memory
 * take half as long again */
#define PRODUCTS(name, rows, gates)                                                                                 \
    static __attribute__((noinline)) void name(const uint8_t *states, int32_t units, const int8_t *weights,         \
                                               const int32_t *rest, Ints found[ROWS][4]) {                          \
        products(states, units, weights, rest, rows, gates, found);                                                 \
    }
PRODUCTS(lstm_products, LSTM_ROWS, 4)
PRODUCTS(lstm_product, 1, 4)
PRODUCTS(gru_products, GRU_ROWS, 3)
PRODUCTS(gru_product, 1, 3)

/* What goes into a sigmoid comes halved, by its scale, as sigmoids are made of tanh; what a GRU's reset gate is
 * multiplied with comes halved too, for the 2 under a sigmoid. */
INLINE Floats lstm(const Floats gate[4], float *cell) {
    const Fraction in = tanh_of(gate[0]), forget = tanh_of(gate[1]), new = tanh_of(gate[2]), out = tanh_of(gate[3]);
    const Floats both = in.under * new.under;
    const Floats state = (opened(forget) * floats(cell) * both + opened(in) * new.over * forget.under)
        / (forget.under * (both + both));
    keep(cell, state);
    const Fraction squashed = tanh_of(state);
    return opened(out) * squashed.over / (out.under * (squashed.under + squashed.under));
}

INLINE Floats gru(const Floats gate[4], Floats recurrent_new, float *state) {
    const Fraction reset = tanh_of(gate[0]), update = tanh_of(gate[1]);
    const Fraction new = tanh_of(gate[2] + recurrent_new * opened(reset) / reset.under);
    const Floats next = ((update.under - update.over) * new.over + opened(update) * new.under * floats(state))
        / (update.under * (new.under + new.under));
    keep(state, next);
    return next;
}

/* recurrent products of one step of `rows` texts from `first` on, one block of units */
INLINE void block_products(const Recurrent *net, const Tile *tile, int direction, int32_t block, int32_t first,
                           const int rows, const int gates, Ints sums[ROWS][4]) {
    const int32_t units = net->units, column = block * gates * LANES;
    (gates == 4 ? (rows == 1 ? lstm_product : lstm_products) : (rows == 1 ? gru_product : gru_products))(
        tile->before + first * units, units, net->recurrent[direction] + (int64_t)column * units,
        net->rest[direction] + column, sums);
}

/* what the step makes of them */
INLINE void block_gates(const Recurrent *net, const Tile *tile, int direction, int32_t block, int32_t first,
                        const int rows, const int gates, Ints sums[ROWS][4]) {
    const int32_t column = block * gates * LANES;
    UNROLLED for (int row = 0; row < rows; row++) {
        const int64_t place = ((int64_t)block * TILE + first + row) * LANES;
        Floats gate[4], product = {};
        __builtin_prefetch(tile->next[first + row] + column); /* a row lies anywhere in a table larger than the caches */
        UNROLLED for (int g = 0; g < gates; g++) {
            const int32_t at = column + g * LANES;
            gate[g] = shorts_as_floats(tile->row[first + row] + at) * floats(net->folded_scale[direction] + at);
            product = __builtin_convertvector(sums[row][g], Floats) * floats(net->recurrent_scale[direction] + at);
            if (gates == 4 || g < 2) gate[g] += product;
        }
        const Floats state = gates == 4 ? lstm(gate, tile->cell + place)
            : gru(gate, product + floats(net->recurrent_bias[direction] + column + 2 * LANES), tile->cell + place);
        keep(tile->most + place, most(floats(tile->most + place), state));
        keep(tile->sum + place, floats(tile->sum + place) + state);
        const Few whole = rounded_bytes(state * STATE_ONE + STATE_ONE);
        memcpy(tile->after + (first + row) * net->units + block * LANES, &whole, sizeof whole);
    }
}

/* both, one after the other; before the first step all states are 0, and so are the sums */
INLINE void block_step(const Recurrent *net, const Tile *tile, int direction, int32_t block, int32_t first,
                       int is_first_step, const int rows, const int gates, Ints sums[ROWS][4]) {
    if (!is_first_step) block_products(net, tile, direction, block, first, rows, gates, sums);
    block_gates(net, tile, direction, block, first, rows, gates, sums);
}

/* one step of a single text: its gates wait for one another, those of several blocks do not */
INLINE void single_step(const Recurrent *net, const Tile *tile, int direction, int is_first, const int gates) {
    for (int32_t block = 0; block < net->units / LANES; block += 4) {
        const int32_t some = net->units / LANES - block < 4 ? net->units / LANES - block : 4;
        Ints sums[4][ROWS][4] = {};
        for (int32_t i = 0; i < some && !is_first; i++)
            block_products(net, tile, direction, block + i, 0, 1, gates, sums[i]);
        for (int32_t i = 0; i < some; i++) block_gates(net, tile, direction, block + i, 0, 1, gates, sums[i]);
    }
}

/* one step of all texts */
INLINE void step(const Recurrent *net, const Tile *tile, int direction, int32_t texts, int is_first, const int gates) {
    const int rows = gates == 4 ? LSTM_ROWS : GRU_ROWS;
    if (texts == 1) {
        single_step(net, tile, direction, is_first, gates);
        return;
    }
    for (int32_t block = 0; block < net->units / LANES; block++) {
        Ints sums[ROWS][4] = {};
        int32_t first = 0;
        for (; first + rows <= texts; first += rows)
            block_step(net, tile, direction, block, first, is_first, rows, gates, sums);
        for (; first < texts; first++) block_step(net, tile, direction, block, first, is_first, 1, gates, sums);
    }
}

/* the states of a tile's texts, longest first, in one direction, pooled into `most` and `sum` */
static void walk(const Recurrent *net, Tile *tile, int direction, const int32_t *const *words, const int32_t *lengths,
                 int32_t texts, const int16_t *means) {
    for (int32_t i = 0; i < texts; i++) {
        tile->next[i] = means ? means + (2 * i + direction) * net->gates * net->units
            : folded_row(net, words[i][direction ? lengths[i] - 1 : 0], direction);
        for (int32_t j = 0; j < net->gates * net->units; j += 32) __builtin_prefetch(tile->next[i] + j);
    }
    const int64_t numbers = (int64_t)TILE * net->units;
    memset(tile->cell, 0, sizeof(float) * numbers);
    memset(tile->sum, 0, sizeof(float) * numbers);
    for (int64_t i = 0; i < numbers; i++) tile->most[i] = -2.0f; /* states lie between -1 and 1 */
    for (int32_t place = 0; texts; place++) {
        while (texts && lengths[texts - 1] <= place) texts--;
        for (int32_t i = 0; i < texts; i++) {
            tile->row[i] = tile->next[i];
            if (place + 1 < lengths[i])
                tile->next[i] = folded_row(net, words[i][direction ? lengths[i] - 2 - place : place + 1], direction);
        }
        if (net->gates == 4) step(net, tile, direction, texts, place == 0, 4);
        else step(net, tile, direction, texts, place == 0, 3);
        uint8_t *swap = tile->before;
        tile->before = tile->after, tile->after = swap;
    }
}

/* the mean of a text's folded rows, in one row: what the network sees of it with `sentence` */
static void mean_row(const Recurrent *net, const int32_t *words, int32_t length, int16_t *row) {
    const int32_t columns = 2 * net->gates * net->units; /* of both directions, which lie side by side */
    for (int32_t i = 0; i < length; i++) folded_row(net, words[i], 0);
    for (int32_t j = 0; j < columns; j += LANES) {
        Floats sum = {};
        for (int32_t i = 0; i < length; i++) sum += shorts_as_floats(net->folded + (int64_t)words[i] * columns + j);
        const Shorts whole = rounded(sum / (float)length);
        memcpy(row + j, &whole, sizeof whole);
    }
}

/* texts in order of falling length: counting sort */
static void longest_first(const int32_t *lengths, int64_t texts, int32_t longest, int64_t *starts, int64_t *order) {
    memset(starts, 0, sizeof(int64_t) * (longest + 1));
    for (int64_t i = 0; i < texts; i++) starts[longest - lengths[i]]++;
    for (int64_t at = 0, i = 0; i <= longest; i++) {
        const int64_t count = starts[i];
        starts[i] = at;
        at += count;
    }
    for (int64_t i = 0; i < texts; i++) order[starts[longest - lengths[i]]++] = i;
}

/* one tile: maximum and mean of the states, [maximum ahead, maximum back, mean ahead, mean back][units] a text */
static void pool(const Recurrent *net, Tile *tile, const Encoded *all, const int64_t *order, int32_t texts,
                 int16_t *means, float *pooled) {
    const int32_t *words[TILE];
    int32_t steps[TILE];
    const int32_t units = net->units, columns = net->gates * units;
    for (int32_t i = 0; i < texts; i++) {
        const int32_t length = all->lengths[order[i]];
        words[i] = all->ids + order[i] * all->longest;
        steps[i] = net->sentence ? 1 : length;
        if (net->sentence) mean_row(net, words[i], length, means + (int64_t)i * 2 * columns);
    }
    for (int direction = 0; direction < 2; direction++) {
        walk(net, tile, direction, words, steps, texts, net->sentence ? means : NULL);
        for (int32_t i = 0; i < texts; i++) {
            float *target = pooled + order[i] * 4 * units + direction * units;
            for (int32_t j = 0; j < units; j += LANES, target += LANES) {
                const int64_t place = (int64_t)j * TILE + i * LANES;
                keep(target, floats(tile->most + place));
                keep(target + 2 * units, floats(tile->sum + place) / (float)steps[i]);
            }
        }
    }
}

/* pooled [texts][4 units] */
int recurrent(const Recurrent *net, const Encoded *texts, float *pooled) {
    const int64_t numbers = (int64_t)TILE * net->units, columns = (int64_t)net->gates * net->units;
    int64_t *order = malloc(sizeof(int64_t) * (texts->texts + texts->longest + 1));
    float *states = aligned_alloc(64, sizeof(float) * numbers * 3 + sizeof(int16_t) * TILE * 2 * columns + numbers * 2);
    if (order && states) {
        int16_t *means = (int16_t *)(states + 3 * numbers);
        uint8_t *whole = (uint8_t *)(means + TILE * 2 * columns);
        Tile tile = {whole, whole + numbers, states, states + numbers, states + 2 * numbers, {0}, {0}};
        longest_first(texts->lengths, texts->texts, texts->longest, order + texts->texts, order);
        for (int64_t first = 0; first < texts->texts; first += TILE) {
            const int64_t left = texts->texts - first;
            pool(net, &tile, texts, order + first, left < TILE ? left : TILE, means, pooled);
        }
    }
    const int failed = !order || !states;
    free(order), free(states);
    return failed;
}
