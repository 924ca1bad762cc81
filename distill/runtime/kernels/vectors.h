/* SIMD vectors of the machine's width: GCC's vector extensions, and intrinsics where C has no operator.
 *
 * A vector has LANES lanes of 32 bits: 16 with AVX-512BW, else 8 (two registers of SSE or NEON each). Types are named
 * after their elements: F32 and I32 fill the lanes, I16, I8 and U8 hold LANES numbers of fewer bits, and I8x4 holds four
 * 8-bit numbers in each lane.
 */
#ifndef DISTILL_VECTORS_H
#define DISTILL_VECTORS_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

/* LSTM_ROWS and GRU_ROWS: texts of one step whose accumulators fit the registers next to one column of weights, that is
 * rows x gates + gates registers. TILE: texts whose states stay in the cache together, a multiple of both. */
#if defined(__AVX512BW__) || defined(SIXTEEN_LANES) /* the latter tests this layout on other processors */
#define LANES 16
#define LSTM_ROWS 6 /* 6 x 4 + 4 of 32 registers */
#define GRU_ROWS 8  /* 8 x 3 + 3 */
#define TILE 48
#else
#define LANES 8
#define LSTM_ROWS 2 /* 2 x 4 + 4 of 16 registers */
#define GRU_ROWS 3  /* 3 x 3 + 3 */
#define TILE 18
#endif

/* Make the compiler hold a vector in a register at this point, instead of loading it again or computing it later: "v" is
 * any register of AVX-512's 32, while "x" would be one of the first 16. */
#if defined(IN_REGISTER) /* by a test */
#elif defined(__AVX2__)
#define IN_REGISTER(vector) __asm__("" : "+v"(vector))
#else
#define IN_REGISTER(vector)
#endif

#define CACHE_LINE 64 /* bytes */

#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("GCC unroll 8") /* so that arrays of accumulators become registers */

typedef float F32 __attribute__((vector_size(4 * LANES)));
typedef int32_t I32 __attribute__((vector_size(4 * LANES)));
typedef int16_t I16 __attribute__((vector_size(2 * LANES)));
typedef int16_t I16x2 __attribute__((vector_size(4 * LANES)));
typedef int8_t I8x4 __attribute__((vector_size(4 * LANES)));
typedef uint8_t U8 __attribute__((vector_size(LANES)));
typedef int8_t I8 __attribute__((vector_size(LANES)));

/* Ask for memory that will be read soon, a cache line at a time. */
INLINE void prefetch(const void *start, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += CACHE_LINE) __builtin_prefetch((const char *)start + i);
}

INLINE F32 load_f32(const float *source) {
    F32 value;
    memcpy(&value, source, sizeof value);
    return value;
}

INLINE I32 load_i32(const int32_t *source) {
    I32 value;
    memcpy(&value, source, sizeof value);
    return value;
}

/* GCC compiles conversions of LANES small integers to code that is several times slower than the instruction. */
INLINE F32 load_i16_as_f32(const int16_t *source) {
#if defined(__AVX512BW__)
    return (F32)_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)source)));
#else
    I16 value;
    memcpy(&value, source, sizeof value);
    return __builtin_convertvector(__builtin_convertvector(value, I32), F32); /* in one step GCC splits the vector */
#endif
}

INLINE F32 load_u8_as_f32(const uint8_t *source) {
#if defined(__AVX512BW__)
    return (F32)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)source)));
#elif defined(__AVX2__)
    return (F32)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)source)));
#else
    U8 value;
    memcpy(&value, source, sizeof value);
    return __builtin_convertvector(__builtin_convertvector(value, I32), F32);
#endif
}

INLINE F32 load_i8_as_f32(const int8_t *source) {
#if defined(__AVX512BW__)
    return (F32)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)source)));
#elif defined(__AVX2__)
    return (F32)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)source)));
#else
    I8 value;
    memcpy(&value, source, sizeof value);
    return __builtin_convertvector(__builtin_convertvector(value, I32), F32);
#endif
}

INLINE void store_f32(float *target, F32 value) { memcpy(target, &value, sizeof value); }

/* Round to the nearest integer, ties to even, for |value| < 2^15. Adding 1.5 * 2^23 leaves the integer in the low bits
 * of the float; the bits above it must be discarded. */
INLINE I32 round_low_bits(F32 value) { return (I32)(value + 12582912.0f); }

INLINE I16 round_to_i16(F32 value) { return __builtin_convertvector(round_low_bits(value), I16); }

INLINE U8 round_to_u8(F32 value) { return __builtin_convertvector(round_low_bits(value) & 255, U8); }

INLINE F32 min_f32(F32 a, F32 b) {
#if defined(__AVX512BW__)
    return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
    return _mm256_min_ps(a, b);
#else
    I32 is_less = a < b;
    return (F32)(((I32)a & is_less) | ((I32)b & ~is_less));
#endif
}

INLINE F32 max_f32(F32 a, F32 b) {
#if defined(__AVX512BW__)
    return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
    return _mm256_max_ps(a, b);
#else
    I32 is_greater = a > b;
    return (F32)(((I32)a & is_greater) | ((I32)b & ~is_greater));
#endif
}

/* Accumulators of the 8-bit dot products, on which the recurrent networks spend most of their time. Without VNNI, AVX
 * accumulates in 16 bits, two partial sums per lane; the weights' scale ensures that no sum of STATE_GROUP products
 * overflows (_weight_scale in distill/runtime/recurrent.py). */
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
#define SUMS_OVERFLOW 1 /* of more than STATE_GROUP products */
typedef I16x2 Accumulator;
#else
#define SUMS_OVERFLOW 0
typedef I32 Accumulator;
#endif

/* In every lane, add the dot product of four unsigned states and four signed weights. */
INLINE Accumulator dot_u8_i8(Accumulator sums, I8x4 states, I8x4 weights) {
#if defined(__AVX512VNNI__)
    return (Accumulator)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)states, (__m512i)weights);
#elif defined(__AVX512BW__)
    return sums + (Accumulator)_mm512_maddubs_epi16((__m512i)states, (__m512i)weights);
#elif defined(__AVX2__)
    return sums + (Accumulator)_mm256_maddubs_epi16((__m256i)states, (__m256i)weights);
#else
    for (int lane = 0; lane < LANES; lane++)
        for (int k = 4 * lane; k < 4 * lane + 4; k++) sums[lane] += (int32_t)(uint8_t)states[k] * weights[k];
    return sums;
#endif
}

/* The horizontal sum of each lane: its partial sums in one 32-bit integer. */
INLINE I32 lane_sums(Accumulator sums) {
#if defined(__AVX512BW__) && !defined(__AVX512VNNI__)
    return (I32)_mm512_madd_epi16((__m512i)sums, _mm512_set1_epi16(1));
#elif defined(__AVX2__) && !defined(__AVX512VNNI__)
    return (I32)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(1));
#else
    return sums;
#endif
}

/* tanh(x) = numerator / denominator. A product of several of these then needs a single division. */
typedef struct {
    F32 numerator, denominator;
} Fraction;

/* tanh as x p(x^2) / q(x^2) on [-4.2, 4.2], clamped outside. The coefficients are a minimax fit, by least squares with
 * iteratively adjusted weights. The error is below 5e-4 everywhere, an eighth of the rounding of a state to 8 bits. */
INLINE Fraction tanh_fraction(F32 x) {
    const F32 limit = (F32){} + 4.2f;
    x = max_f32(min_f32(x, limit), -limit);
    const F32 square = x * x;
    const F32 numerator = square * 8.01409493e-02f + 9.98490661e-01f;
    const F32 denominator = (square * 6.14609121e-03f + 4.09690232e-01f) * square + 1.0f;
    return (Fraction){numerator * x, denominator};
}

/* sigmoid(2x) = (1 + tanh(x)) / 2 = sigmoid_numerator(tanh(x)) / (2 * denominator) */
INLINE F32 sigmoid_numerator(Fraction tanh) { return tanh.denominator + tanh.numerator; }

#endif
