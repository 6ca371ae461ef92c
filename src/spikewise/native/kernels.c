/* The library: every function of the kernels for float32 and for bfloat16 (called by kernels/cpu/), and loops over events. */
#include "norm_fire.h"

typedef struct {
    thread_team threads;
    channel_layout space; /* all time steps together */
    const void *y;
    double *partial; /* [rows of partial sums][2][C] */
    float *mean, *variance; /* [C] */
} norm_stats_args;

typedef struct {
    thread_team threads;
    int64_t images, channels, height, width, out_height, out_width, size, stride, padding;
    void *in, *out; /* backward: their gradients */
    uint8_t *indices; /* like out */
} pool_args;

/* Neurons, and max pooling of their spikes: a still image, channels inner, no connection */
typedef struct {
    norm_fire_args fire;
    pool_args pool; /* of one time step; forward: `in` is unused; backward: `out` is the incoming gradient */
} fire_pool_args;

#define BAND 4 /* rows of outputs that a task makes: their spikes stay in the cache */

INLINE int64_t bands(const pool_args *k) { return (k->out_height + BAND - 1) / BAND; }

/* Tasks of pooled neurons, forward or backward: rows of partial sums that backward needs */
int64_t pooled_tasks(const fire_pool_args *k) { return k->pool.images * bands(&k->pool); }

/* The first and the last window, along one axis, that hold place `at` of the input */
INLINE int64_t first_window(const pool_args *k, int64_t at) {
    const int64_t most = at + k->padding - k->size + 1;
    return most <= 0 ? 0 : (most + k->stride - 1) / k->stride;
}
INLINE int64_t last_window(const pool_args *k, int64_t at, int64_t windows) {
    const int64_t last = (at + k->padding) / k->stride;
    return last < windows ? last : windows - 1;
}

/* Max pooling of spikes as bytes, 0 and 255: one output, n <= BYTES channels of it. The first spike of a window wins, or its first place. */
INLINE void pool_bytes(const pool_args *p, const uint8_t *in, int64_t oy, int64_t ox, uint8_t *fired, uint8_t *indices, int64_t n) {
    const int64_t y = oy * p->stride - p->padding, x = ox * p->stride - p->padding;
    const int64_t top = y < 0 ? -y : 0, bottom = y + p->size < p->height ? p->size : p->height - y;
    const int64_t left = x < 0 ? -x : 0, right = x + p->size < p->width ? p->size : p->width - x;
    vbytes any = {0}, chosen = (vbytes){0} + (uint8_t)(top * p->size + left);
    for (int64_t ky = top; ky < bottom; ky++)
        for (int64_t kx = left; kx < right; kx++) {
            const vbytes spikes = load_bytes(in + ((y + ky) * p->width + x + kx) * p->channels, n), here = spikes & ~any;
            chosen = (here & (uint8_t)(ky * p->size + kx)) | (~here & chosen);
            any |= spikes;
        }
    store_bytes(fired, any, n);
    store_bytes(indices, chosen, n);
}

/* The numbers that C uses, for the test that compares them with Python's and Triton's */
typedef struct {
    const char *name;
    int32_t code;
} named_code;

const named_code connect_codes[] = {{"NONE", NONE}, {"ADD", ADD}, {"AND", AND}, {"IAND", IAND}, {0, 0}};
const named_code surrogate_codes[] = {
    {"ATAN", ATAN}, {"SIGMOID", SIGMOID}, {"RECTANGULAR", RECTANGULAR}, {"TRIANGULAR", TRIANGULAR},
    {"FAST_SIGMOID", FAST_SIGMOID}, {"ERF", ERF}, {"SCALED_ATAN", SCALED_ATAN}, {0, 0},
};

/* Tasks of norm_fire, forward or backward: rows of partial sums of the coefficients' gradients */
int64_t norm_fire_tasks(const channel_layout *e) { return count_tasks(e); }

/* Rows of partial sums per channel that a call of this extent needs */
int64_t partial_rows(const channel_layout *e) { return e->inner > 1 ? e->elements / e->inner / e->channels : count_tasks(e); }

/* Means and sums of squares of the parts, one after another (Chan, Golub and LeVeque 1979) */
static void combine_stats(const norm_stats_args *k) {
    const int64_t C = k->space.channels, rows = partial_rows(&k->space);
    const int64_t each = k->space.inner > 1 ? k->space.inner : rows_per_task(&k->space), total = k->space.elements / C;
    double *mean = k->partial, *square = mean + C;
    for (int64_t row = 1; row < rows; row++) {
        const double *m = k->partial + row * 2 * C, *q = m + C;
        const double before = (double)(row * each), here = (double)(row == rows - 1 ? total - row * each : each), both = before + here;
        for (int64_t c = 0; c < C; c++) {
            const double off = m[c] - mean[c];
            mean[c] += off * (here / both);
            square[c] += q[c] + off * off * (before * here / both);
        }
    }
    for (int64_t c = 0; c < C; c++) {
        k->mean[c] = (float)mean[c];
        k->variance[c] = (float)(square[c] / total);
    }
}

/* Column sums of `partial` [rows][columns], in the order of the rows */
void add_rows(const float *partial, int64_t rows, int64_t columns, float *sums) {
    double *total = calloc(columns, sizeof(double));
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = 0; i < columns; i++) total[i] += partial[row * columns + i];
    for (int64_t i = 0; i < columns; i++) sums[i] = (float)total[i];
    free(total);
}

/* What follows is included once per storage type, with
 *   STORAGE          f32 or bf16
 *   NAME(function)   the function's name for this type
 * store_exact is for values that need no rounding. */
#define JOIN_(name, type) name##_##type
#define JOIN(name, type) JOIN_(name, type)
#define load JOIN(load, STORAGE)
#define store JOIN(store, STORAGE)
#define store_exact JOIN(store_exact, STORAGE)
#define stream_exact JOIN(stream_exact, STORAGE)

#define STORAGE f32
#define NAME(function) function##_f32
#include "packing.inc"
#include "norm_fire.inc"
#include "norm_stats.inc"
#include "max_pool.inc"
#include "pooled.inc"
#undef STORAGE
#undef NAME

#define STORAGE bf16
#define NAME(function) function##_bf16
#include "packing.inc"
#include "norm_fire.inc"
#include "norm_stats.inc"
#include "max_pool.inc"
#include "pooled.inc"
#undef STORAGE
#undef NAME

#include "downsample.inc"
#include "frames.inc"
#include "filters.inc"
#include "events.inc"
