/* What both storage types share of norm_fire: its arguments as Python fills them in (kernels/cpu/launch.py mirrors this struct). */
#ifndef NORM_FIRE_H
#define NORM_FIRE_H

#include "blocks.h"
#include "neuron.h"
#include "packing.h"
#include "parallel.h"

/* The numbers of `Connect` in kernels/spec.py */
enum { NONE = 0, ADD = 1, AND = 2, IAND = 3 };

/* Pointers that may be NULL are marked with "?". One time step has `space.elements` values; [T] means T of them, one after another. */
typedef struct {
    thread_team threads;
    channel_layout space;
    neuron neurons;
    int32_t steps;   /* T */
    int32_t repeat;  /* y is one time step, read T times */
    int32_t connect; /* NONE, ADD, AND, IAND */
    const float *scale, *shift; /* [C] */
    const void *y;              /* [T], or [1] under repeat */
    const void *shortcut;       /* ? [T] */
    const void *current;        /* ? [T] */
    const float *v;             /* ? [1] membrane before the first step */
    void *out;                  /* [T] */
    float *v_last;               /* ? [1] */
    planes_of planes;           /* ? the output once more, channels inner */
    /* backward */
    const void *grad_out;   /* [T] */
    const float *grad_v_last; /* ? [1] */
    const float *center;    /* [C] subtracted from y in the second sum */
    float *partial;         /* ? [rows of partial sums][2][C]: sums of g and of g (y - center), g the gradient at the normalised y */
    float *partial_coefficients;     /* ? [tasks][3]: sums of g_h v[t-1], g_h x, g_h */
    void *grad_y;           /* like y: scale g */
    void *grad_shortcut;    /* ? [T], AND and IAND */
    void *grad_current;     /* ? [T] */
    float *grad_v;          /* ? [1] */
} norm_fire_args;

/* grad = grad + (2 grad_variance / count) (y - mean) + grad_mean / count: what flows back through the statistics of a batch */
typedef struct {
    thread_team threads;
    channel_layout space; /* all time steps together */
    int64_t count;        /* values of a channel, over which the statistics were taken */
    const void *y;
    void *grad;
    const float *mean, *grad_mean, *grad_variance; /* [C] */
} batch_norm_backward_args;

#define ROWS 16 /* of statistics that are added in single precision before they go into double precision */
#define PROBE_ROWS 8 /* about as many rows of a block are read to find where to center its sums */
#define STATS_VECTORS 4 /* vectors side by side of which statistics are taken at once */
#define FEW_STEPS 4
#define BLOCK_VECTORS (1024 / LANES) /* vectors at once where there are more than FEW_STEPS: about a page */
#define PREFETCH_DISTANCE 128 /* values between what is computed and what is asked for */
#define STEPS_PER_CHUNK 16 /* time steps whose membranes backward holds at once */

/* Row of `partial` of a task, and how many rows there are (see blocks.h) */
INLINE int64_t partial_row(const channel_layout *e, int64_t task) { return e->inner > 1 ? task / e->channels : task; }

#endif
