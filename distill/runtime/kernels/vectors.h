/* Vectors as wide as the machine's, by GCC's vector extensions; intrinsics only where C has no word for it. */
#ifndef DISTILL_VECTORS_H
#define DISTILL_VECTORS_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512BW__) || defined(SIXTEEN_LANES) /* the latter for tests, on processors without any of these */
#define LANES 16
#define LSTM_ROWS 6 /* texts whose sums fit the registers beside a column of weights: 6 x 4 gates + 4 of 32 registers */
#define GRU_ROWS 8  /* 8 x 3 + 3 */
#define TILE 48     /* texts whose states are in the cache together: a multiple of both */
#else
#define LANES 8
#define LSTM_ROWS 2 /* 2 x 4 + 4 of 16 */
#define GRU_ROWS 3  /* 3 x 3 + 3 */
#define TILE 18
#endif

#if defined(__AVX2__)
#define IN_REGISTER(vector) __asm__("" : "+x"(vector))
#else
#define IN_REGISTER(vector)
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 8") /* so that sums in arrays become registers */

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef int16_t Shorts __attribute__((vector_size(2 * LANES)));
typedef int16_t Pairs __attribute__((vector_size(4 * LANES)));
typedef int8_t Bytes __attribute__((vector_size(4 * LANES)));
typedef uint8_t Few __attribute__((vector_size(LANES)));

INLINE Floats floats(const float *at) {
    Floats value;
    memcpy(&value, at, sizeof value);
    return value;
}

INLINE Floats shorts_as_floats(const int16_t *at) {
    Shorts value;
    memcpy(&value, at, sizeof value);
    return __builtin_convertvector(__builtin_convertvector(value, Ints), Floats); /* in one step GCC halves the vector */
}

/* in its low bits the nearest integer, of a number within 2^15: plus 1.5 * 2^23 these are a float's */
INLINE Ints nearest(Floats value) { return (Ints)(value + 12582912.0f); }

INLINE Shorts rounded(Floats value) { return __builtin_convertvector(nearest(value), Shorts); }

INLINE Few rounded_bytes(Floats value) { return __builtin_convertvector(nearest(value) & 255, Few); }

INLINE Ints ints(const int32_t *at) {
    Ints value;
    memcpy(&value, at, sizeof value);
    return value;
}

INLINE void keep(float *at, Floats value) { memcpy(at, &value, sizeof value); }

INLINE Floats least(Floats a, Floats b) {
#if defined(__AVX512BW__)
    return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
    return _mm256_min_ps(a, b);
#else
    Ints first = a < b;
    return (Floats)(((Ints)a & first) | ((Ints)b & ~first));
#endif
}

INLINE Floats most(Floats a, Floats b) {
#if defined(__AVX512BW__)
    return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
    return _mm256_max_ps(a, b);
#else
    Ints first = a > b;
    return (Floats)(((Ints)a & first) | ((Ints)b & ~first));
#endif
}

/* Sums of products of four states, unsigned, and four weights a lane: what recurrent products spend their time with.
 * Without VNNI a lane holds two sums of 16 bits, which `total` joins; the weights' scale sees that none overflows. */
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
typedef Pairs Sums;
#else
typedef Ints Sums;
#endif

INLINE Sums dot(Sums sums, Bytes states, Bytes weights) {
#if defined(__AVX512VNNI__)
    return (Sums)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)states, (__m512i)weights);
#elif defined(__AVX512BW__)
    return sums + (Sums)_mm512_maddubs_epi16((__m512i)states, (__m512i)weights);
#elif defined(__AVX2__)
    return sums + (Sums)_mm256_maddubs_epi16((__m256i)states, (__m256i)weights);
#else
    for (int lane = 0; lane < LANES; lane++)
        for (int k = 4 * lane; k < 4 * lane + 4; k++) sums[lane] += (int32_t)(uint8_t)states[k] * weights[k];
    return sums;
#endif
}

INLINE Ints total(Sums sums) {
#if defined(__AVX512BW__) && !defined(__AVX512VNNI__)
    return (Ints)_mm512_madd_epi16((__m512i)sums, _mm512_set1_epi16(1));
#elif defined(__AVX2__) && !defined(__AVX512VNNI__)
    return (Ints)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(1));
#else
    return sums;
#endif
}

/* tanh(x) = over / under; kept apart, as a product of several needs one division only.
 * x p(x^2) / q(x^2), by least squares weighted anew until the largest error on [0, 4.2] was least: within 5e-4 of tanh
 * everywhere, an eighth of what rounding a state to eight bits takes. */
typedef struct {
    Floats over, under;
} Fraction;

INLINE Fraction tanh_of(Floats x) {
    const Floats end = (Floats){} + 4.2f;
    x = most(least(x, end), -end);
    const Floats s = x * x;
    const Floats over = s * 8.01409493e-02f + 9.98490661e-01f;
    const Floats under = (s * 6.14609121e-03f + 4.09690232e-01f) * s + 1.0f;
    return (Fraction){over * x, under};
}

/* sigmoid(2x) = (1 + tanh(x)) / 2: this over 2 * under */
INLINE Floats opened(Fraction tanh) { return tanh.under + tanh.over; }

#endif
