/* What both storage types share of bit planes. */
#ifndef PACKING_H
#define PACKING_H

#include "parallel.h"
#include "vector.h"

#define WORD 16 /* values whose bits are handled together */
#define MOST_PLANES 8
#define PACKED_AT_ONCE 65536 /* values of a task, a multiple of WORD */

/* Where the planes of one time step lie: plane p begins at `packed + p * row`; 0 planes: none are wanted */
typedef struct {
    uint8_t *packed;
    int64_t row, planes;
} planes_of;

typedef struct {
    thread_team threads;
    int64_t steps, elements; /* of one time step */
    planes_of to;
    void *values; /* [steps][elements] */
} packing_args;

INLINE int64_t tasks_per_step(const packing_args *k) { return (k->elements + PACKED_AT_ONCE - 1) / PACKED_AT_ONCE; }

/* Bit p of each value, the first value's in the lowest bit */
INLINE uint32_t bits_of(vi values, int p) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)values, _mm512_set1_epi32(1 << p));
#elif defined(__AVX__)
    return (uint32_t)_mm256_movemask_ps((__m256)(values << (31 - p)));
#elif defined(__SSE__)
    return (uint32_t)_mm_movemask_ps((__m128)(values << (31 - p)));
#else
    uint32_t bits = 0;
    for (int i = 0; i < LANES; i++) bits |= (uint32_t)(values[i] >> p & 1) << i;
    return bits;
#endif
}

/* x where the lane's bit of the word is set, else 0 */
INLINE vf where_bit(uint32_t word, float x) {
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_mov_ps((__mmask16)word, _mm512_set1_ps(x));
#else
    vi lane;
    for (int i = 0; i < LANES; i++) lane[i] = 1 << i;
    return where((((vi){0} + (int32_t)word) & lane) != 0, splat(x), splat(0));
#endif
}

#endif
