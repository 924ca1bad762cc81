/* Vectors as wide as the machine's, by GCC's vector extensions; intrinsics only where C has no word for it. */
#ifndef DISTILL_VECTORS_H
#define DISTILL_VECTORS_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512BW__)
#include <immintrin.h>
#define LANES 16
#define ROWS 6 /* texts whose sums fit the registers beside a column of weights: 6 x 4 gates + 4 of 32 registers */
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#define ROWS 2 /* 2 x 4 + 4 of 16 */
#else
#define LANES 8
#define ROWS 2
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
 * Rational approximation of Eigen's (MPL 2.0) fast tanh, formula only: within 3e-7 of tanh everywhere. */
typedef struct {
    Floats over, under;
} Fraction;

INLINE Fraction tanh_of(Floats x) {
    const Floats end = (Floats){} + 7.90531110763549805f;
    x = most(least(x, end), -end);
    const Floats s = x * x, s2 = s * s, s4 = s2 * s2; /* Estrin's order: a shorter way from x to the sum than Horner's */
    const Floats low = (s * 6.37261928875436e-04f + 4.89352455891786e-03f) +
                       s2 * (s * 5.12229709037114e-08f + 1.48572235717979e-05f);
    const Floats high = (s * 2.00018790482477e-13f + -8.60467152213735e-11f) + s2 * -2.76076847742355e-16f;
    const Floats over = low + s4 * high;
    const Floats under = (s * 2.26843463243900e-03f + 4.89352518554385e-03f) +
                         s2 * (s * 1.19825839466702e-06f + 1.18534705686654e-04f);
    return (Fraction){over * x, under};
}

/* 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2 */
INLINE Fraction sigmoid_of(Floats x) {
    Fraction half = tanh_of(x * 0.5f);
    return (Fraction){half.under + half.over, half.under * 2.0f};
}

#endif
