/* Word vectors as a bundle has them: integers of 8 or 16 bits with one float32 scale per column. */
#ifndef DISTILL_WORD_VECTORS_H
#define DISTILL_WORD_VECTORS_H

#include <stdint.h>

typedef struct {
    const void *rows;   /* [words][width], int8_t or int16_t */
    const float *scale; /* [width] */
    int32_t width;
    int32_t size;       /* bytes of a number: 1 or 2 */
} WordVectors;

/* The word's vector [width] in float32. */
static inline void read_vector(const WordVectors *vectors, int32_t word, float *vector) {
    const int64_t first = (int64_t)word * vectors->width;
    const int8_t *bytes = vectors->rows;
    const int16_t *shorts = vectors->rows;
    for (int32_t k = 0; k < vectors->width; k++)
        vector[k] = (float)(vectors->size == 1 ? bytes[first + k] : shorts[first + k]) * vectors->scale[k];
}

#endif
