/* The product of a word's vector and the input weights of a recurrent network. */
#ifndef DISTILL_PROJECTION_H
#define DISTILL_PROJECTION_H

#include <stdint.h>
#include <string.h>

#define PROJECTION_BLOCK 64 /* columns that are summed at a time */

/* sums [count] = vector [width] . weights [width][columns] + bias [columns], for the columns from `first` on. */
static inline void project(const float *vector, int32_t width, const float *weights, const float *bias,
                           int32_t columns, int32_t first, int32_t count, float *sums) {
    memcpy(sums, bias + first, sizeof(float) * count);
    for (int32_t k = 0; k < width; k++) {
        const float *row = weights + (int64_t)k * columns + first;
        for (int32_t j = 0; j < count; j++) sums[j] += vector[k] * row[j];
    }
}

#endif
