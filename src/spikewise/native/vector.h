/* Vectors of floats, and storage types that are read into them: float32 and bfloat16.
 *
 * Only operations whose result IEEE 754 fixes are used, and no fused multiply-add (see FLAGS in build.py): every instruction set
 * gives the same bits.
 */
#ifndef VECTOR_H
#define VECTOR_H

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16") /* a loop over vectors that are to stay in registers */

typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2)));
typedef uint8_t vb __attribute__((vector_size(LANES)));
typedef double vd __attribute__((vector_size(LANES * 8)));

/* Memory that is soon read, or written, is asked for now; beyond an array's end that does nothing. */
INLINE void prefetch_read(const void *at) { __builtin_prefetch(at, 0); }
INLINE void prefetch_write(const void *at) { __builtin_prefetch(at, 1); }

typedef float f32;
typedef uint16_t bf16;

INLINE vf splat(float x) { return (vf){0} + x; }
INLINE vf where(vi condition, vf yes, vf no) { return (vf)((condition & (vi)yes) | (~condition & (vi)no)); }

/* n < LANES values are read with zeros behind them; only n are written */
#define LOADS_AND_STORES(NAME, ELEMENT, VECTOR)                                 \
    INLINE VECTOR load_##NAME(const ELEMENT *from, int n) {                     \
        VECTOR x;                                                               \
        if (n >= LANES) {                                                       \
            memcpy(&x, from, sizeof x);                                         \
        } else {                                                                \
            ELEMENT few[LANES] = {0};                                           \
            for (int i = 0; i < n; i++) few[i] = from[i];                       \
            memcpy(&x, few, sizeof x);                                          \
        }                                                                       \
        return x;                                                               \
    }                                                                           \
    INLINE void store_##NAME(ELEMENT *to, VECTOR x, int n) {                    \
        if (n >= LANES) {                                                       \
            memcpy(to, &x, sizeof x);                                           \
        } else {                                                                \
            ELEMENT few[LANES];                                                 \
            memcpy(few, &x, sizeof x);                                          \
            for (int i = 0; i < n; i++) to[i] = few[i];                         \
        }                                                                       \
    }

LOADS_AND_STORES(f32, f32, vf)
LOADS_AND_STORES(u16, uint16_t, vh)
LOADS_AND_STORES(u8, uint8_t, vb)

/* Compilers turn __builtin_convertvector into several shuffles where one instruction does it. */
INLINE vu widen(vh x) {
#if defined(__AVX512F__)
    return (vu)_mm512_cvtepu16_epi32((__m256i)x);
#elif defined(__AVX2__)
    return (vu)_mm256_cvtepu16_epi32((__m128i)x);
#else
    return __builtin_convertvector(x, vu);
#endif
}

INLINE vh narrow(vu x) {
#if defined(__AVX512F__)
    return (vh)_mm512_cvtepi32_epi16((__m512i)x);
#else
    return __builtin_convertvector(x, vh);
#endif
}

INLINE vi widen_u8(vb x) {
#if defined(__AVX512F__)
    return (vi)_mm512_cvtepu8_epi32((__m128i)x);
#else
    return __builtin_convertvector(x, vi);
#endif
}

INLINE vb narrow_u8(vi x) {
#if defined(__AVX512F__)
    return (vb)_mm512_cvtepi32_epi8((__m512i)x);
#else
    return __builtin_convertvector(x, vb);
#endif
}

/* Bytes, many at once; n <= BYTES of them are read and written */
#define BYTES 64
typedef uint8_t vbytes __attribute__((vector_size(BYTES)));

INLINE vbytes load_bytes(const uint8_t *from, int64_t n) {
    vbytes x = {0};
    if (n == BYTES) memcpy(&x, from, BYTES);
    else memcpy(&x, from, n);
    return x;
}
INLINE void store_bytes(uint8_t *to, vbytes x, int64_t n) {
    if (n == BYTES) memcpy(to, &x, BYTES);
    else memcpy(to, &x, n);
}

INLINE vf load_bf16(const bf16 *from, int n) { return (vf)(widen(load_u16(from, n)) << 16); }

/* to the nearest, ties to even, as PyTorch rounds; but the instruction of AVX-512 makes subnormal numbers zero */
INLINE void store_bf16(bf16 *to, vf x, int n) {
#if defined(__AVX512BF16__)
    store_u16(to, (vh)_mm512_cvtneps_pbh((__m512)x), n);
#else
    vu bits = (vu)x;
    vu rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    vu nan = (vu)(x != x);
    rounded = (nan & 0x7fc0) | (~nan & rounded);
    store_u16(to, narrow(rounded), n);
#endif
}

/* of values that bfloat16 holds: nothing to round */
INLINE void store_exact_bf16(bf16 *to, vf x, int n) { store_u16(to, narrow((vu)x >> 16), n); }
INLINE void store_exact_f32(f32 *to, vf x, int n) { store_f32(to, x, n); }

/* Whole vectors past the cache: what is overwritten need not be read before. `flush_stores` before others read them. */
INLINE void stream_exact_bf16(bf16 *to, vf x) {
#if defined(__AVX512F__)
    if (((uintptr_t)to & 31) == 0) {
        _mm256_stream_si256((__m256i *)to, (__m256i)narrow((vu)x >> 16));
        return;
    }
#endif
    store_exact_bf16(to, x, LANES);
}
INLINE void stream_exact_f32(f32 *to, vf x) {
#if defined(__AVX512F__)
    if (((uintptr_t)to & 63) == 0) {
        _mm512_stream_ps(to, (__m512)x);
        return;
    }
#endif
    store_exact_f32(to, x, LANES);
}
INLINE void flush_stores(void) {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/* n of the values are added */
INLINE void add_f64(double *to, vf x, int n) {
    if (n >= LANES) {
        vd sum;
        memcpy(&sum, to, sizeof sum);
        sum += __builtin_convertvector(x, vd);
        memcpy(to, &sum, sizeof sum);
    } else {
        for (int i = 0; i < n; i++) to[i] += x[i];
    }
}

#endif
