/* A dense layer; see dense.c. */
#ifndef DISTILL_DENSE_H
#define DISTILL_DENSE_H

#include <stdint.h>

typedef struct {
    const float *weight; /* [out / (2 LANES)][in width][2 LANES]; a null pointer: there is no such layer */
    const float *bias;   /* [out] */
    int32_t out;         /* a multiple of 2 LANES */
} Dense;

void dense_layer(const Dense *layer, const float *in, int64_t texts, int32_t width, int relu, float *out);

#endif
