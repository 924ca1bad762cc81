/* A dense layer in float32: out = in . weight + bias, then ReLU on request; in [texts][width], out [texts][layer->out].
 *
 * Columns are processed in blocks of DENSE_VECTORS vectors and texts in groups of DENSE_ROWS, so that all sums of a
 * block stay in registers while the block's weights, which are contiguous, are read once.
 */
#include "dense.h"
#include "layout.h"
#include "vectors.h"

EXPORT_LAYOUT(Dense, FIELD(Dense, weight), FIELD(Dense, bias), FIELD(Dense, out));

#define DENSE_ROWS 6    /* 6 x 2 sums + 2 weights of 16 registers */
#define DENSE_VECTORS 2 /* vectors in a block of columns */

INLINE void dense_block(const float *in, int32_t width, const float *weights, const float *bias, int32_t out_width,
                        const int rows, int relu, float *out) {
    F32 sums[DENSE_ROWS][DENSE_VECTORS];
    UNROLLED for (int row = 0; row < rows; row++)
        UNROLLED for (int v = 0; v < DENSE_VECTORS; v++) sums[row][v] = load_f32(bias + v * LANES);
    for (int32_t k = 0; k < width; k++, weights += DENSE_VECTORS * LANES) {
        F32 columns[DENSE_VECTORS];
        UNROLLED for (int v = 0; v < DENSE_VECTORS; v++) {
            columns[v] = load_f32(weights + v * LANES);
            IN_REGISTER(columns[v]);
        }
        UNROLLED for (int row = 0; row < rows; row++)
            UNROLLED for (int v = 0; v < DENSE_VECTORS; v++) sums[row][v] += in[(int64_t)row * width + k] * columns[v];
    }
    UNROLLED for (int row = 0; row < rows; row++)
        UNROLLED for (int v = 0; v < DENSE_VECTORS; v++)
            store_f32(out + (int64_t)row * out_width + v * LANES, relu ? max_f32(sums[row][v], (F32){}) : sums[row][v]);
}

void dense_layer(const Dense *layer, const float *in, int64_t texts, int32_t width, int relu, float *out) {
    for (int32_t j = 0; j < layer->out; j += DENSE_VECTORS * LANES) {
        const float *block = layer->weight + (int64_t)j * width, *bias = layer->bias + j;
        int64_t i = 0;
        for (; i + DENSE_ROWS <= texts; i += DENSE_ROWS)
            dense_block(in + i * width, width, block, bias, layer->out, DENSE_ROWS, relu, out + i * layer->out + j);
        for (; i < texts; i++)
            dense_block(in + i * width, width, block, bias, layer->out, 1, relu, out + i * layer->out + j);
    }
}
