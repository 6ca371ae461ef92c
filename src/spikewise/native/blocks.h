/* How a tensor of one time step [N, C, H, W] is cut into tasks: always the same way, whatever the number of threads.
 *
 * Channels inner ("channels last", inner == 1): memory is rows of C values, one per pixel; a task is some rows.
 * Channels outer (inner == H * W): memory is planes of `inner` values of one channel; a task is a plane.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stdint.h>
#include <stdlib.h>

#include "vector.h"

typedef struct {
    int64_t elements; /* N * C * H * W */
    int64_t channels;
    int64_t inner;
} channel_layout;

#define ROWS_AT_LEAST 32
#define ELEMENTS_PER_TASK 8192

INLINE int64_t rows_per_task(const channel_layout *e) {
    int64_t rows = ELEMENTS_PER_TASK / e->channels & ~7; /* so that no two tasks share a byte of bit planes */
    return rows < ROWS_AT_LEAST ? ROWS_AT_LEAST : rows;
}

INLINE int64_t count_tasks(const channel_layout *e) {
    if (e->inner > 1) return e->elements / e->inner;
    int64_t rows = e->elements / e->channels, each = rows_per_task(e);
    return (rows + each - 1) / each;
}

/* A task's range of memory. `period`: channels that repeat along it; the first value is of channel `channel`. */
typedef struct {
    int64_t begin, end, period, channel;
} task_range;

INLINE task_range task_range_of(const channel_layout *e, int64_t task) {
    if (e->inner > 1) return (task_range){task * e->inner, (task + 1) * e->inner, 1, task % e->channels};
    int64_t each = rows_per_task(e) * e->channels, begin = task * each, end = begin + each;
    return (task_range){begin, end < e->elements ? end : e->elements, e->channels, 0};
}

/* The channel `step` < period values after channel c; a division per vector would be felt */
INLINE int64_t after(int64_t c, int64_t step, int64_t period) { return c + step < period ? c + step : c + step - period; }

/* Numbers per channel, laid out so that LANES of them can be read from any channel on: [period + LANES] */
INLINE void fill_periodic(float *numbers, int64_t period) {
    for (int64_t i = period; i < period + LANES; i++) numbers[i] = numbers[i - period];
}

INLINE void broadcast_channels(float *to, const float *per_channel, const task_range *s) {
    memcpy(to, per_channel + s->channel, s->period * sizeof(float));
    fill_periodic(to, s->period);
}

/* Sums per lane [period + LANES] into sums per channel */
INLINE void reduce_channels(float *sums, const float *lanes, const task_range *s) {
    memcpy(sums + s->channel, lanes, s->period * sizeof(float));
    for (int64_t i = s->period; i < s->period + LANES; i++) sums[s->channel + i % s->period] += lanes[i];
}

#endif
