/* Stands in for the compiler's header: the intrinsics of AVX-512 in portable C (SIMDe), so that any processor can test what
 * the kernels do with them. The macros, which the test defines, would make SIMDe use the processor's own.
 */
#undef __AVX2__
#undef __AVX512BW__
#undef __AVX512VNNI__
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#define __AVX2__
#define __AVX512BW__
#define __AVX512VNNI__

#include <stdint.h>

typedef int8_t Bytes __attribute__((vector_size(16)));
typedef uint8_t UnsignedBytes __attribute__((vector_size(16)));
typedef int16_t Words __attribute__((vector_size(32)));
typedef int32_t Integers __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(64)));

/* conversions that SIMDe 0.7 lacks */
#define _mm512_cvtepi8_epi32(vector) ((__m512i)__builtin_convertvector((Bytes)(vector), Integers))
#define _mm512_cvtepu8_epi32(vector) ((__m512i)__builtin_convertvector((UnsignedBytes)(vector), Integers))
#define _mm512_cvtepi16_epi32(vector) ((__m512i)__builtin_convertvector((Words)(vector), Integers))
#define _mm512_cvtepi32_ps(vector) ((__m512)__builtin_convertvector((Integers)(vector), Floats))

#define IN_REGISTER(vector) /* a vector is wider than the registers */
