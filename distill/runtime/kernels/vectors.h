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

/* the nearest integers of numbers within 2^15: plus 1.5 * 2^23 a float's low bits are the integer */
INLINE Shorts rounded(Floats value) { return __builtin_convertvector((Ints)(value + 12582912.0f), Shorts); }

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

/* sums[i] + a[2i] * b[2i] + a[2i + 1] * b[2i + 1]: what recurrent products spend their time with */
INLINE Ints dot(Ints sums, Pairs a, Pairs b) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
    return sums + (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return sums + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#else
    for (int lane = 0; lane < LANES; lane++)
        sums[lane] += (int32_t)a[2 * lane] * b[2 * lane] + (int32_t)a[2 * lane + 1] * b[2 * lane + 1];
    return sums;
#endif
}

/* tanh(x) = over / under; kept apart, as a product of several needs one division only.
 * x p(x^2) / q(x^2), by least squares weighted anew until the largest error on [0, 6] was least: within 2e-5 of tanh
 * everywhere, a third of what rounding a state to 13 bits takes. */
typedef struct {
    Floats over, under;
} Fraction;

INLINE Fraction tanh_of(Floats x) {
    const Floats end = (Floats){} + 6.0f;
    x = most(least(x, end), -end);
    const Floats s = x * x;
    const Floats over = (s * 1.49555629e-03f + 1.14472765e-01f) * s + 9.99971156e-01f;
    const Floats under = ((s * 5.51862066e-05f + 1.74874214e-02f) * s + 4.47714137e-01f) * s + 1.0f;
    return (Fraction){over * x, under};
}

/* 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2 */
INLINE Fraction sigmoid_of(Floats x) {
    Fraction half = tanh_of(x * 0.5f);
    return (Fraction){half.under + half.over, half.under * 2.0f};
}

#endif
