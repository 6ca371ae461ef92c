/* What both storage types share of norm_fire: the call as Python makes it (calls.py mirrors this struct). */
#ifndef NORM_FIRE_H
#define NORM_FIRE_H

#include "blocks.h"
#include "neuron.h"
#include "packing.h"
#include "parallel.h"

enum { NONE, ADD, AND, IAND };

/* Pointers that may be NULL are marked with "?". One time step has `space.elements` values; [T] means T of them, one after another. */
typedef struct {
    team threads;
    extent space;
    neuron neurons;
    int32_t steps;   /* T */
    int32_t repeat;  /* y is one time step, read T times */
    int32_t connect; /* NONE, ADD, AND, IAND */
    int32_t scaled;
    const float *scale, *shift; /* [C] */
    const void *y;              /* [T], or [1] under repeat */
    const void *shortcut;       /* ? [T] */
    const void *current;        /* ? [T] */
    const float *v;             /* ? [1] membrane before the first step */
    void *out;                  /* [T] */
    float *v_end;               /* ? [1] */
    planes_of planes;           /* ? the output once more, channels inner */
    /* backward */
    const void *grad_out;   /* [T] */
    const float *grad_v_end; /* ? [1] */
    const float *centre;    /* [C] y is centred by this in the second sum */
    float *partial;         /* ? [rows of partial sums][2][C]: sums of g and of g (y - centre), g the gradient at the normalised y */
    float *partial_abc;     /* ? [tasks][3]: sums of g_h v[t-1], g_h x, g_h */
    void *grad_y;           /* like y: g, or scale g where `scaled` */
    void *grad_shortcut;    /* ? [T], AND and IAND */
    void *grad_current;     /* ? [T] */
    float *grad_v;          /* ? [1] */
} call;

/* grad = direct grad + linear (y - centre) + constant: what batch norm's statistics add to the gradient */
typedef struct {
    team threads;
    extent space; /* all time steps together */
    const void *y;
    void *grad;
    const float *centre, *direct, *linear, *constant; /* [C] */
} statistics_call;

#define ROWS 16 /* of statistics that are added in single precision before they go into double precision */
#define PROBED 8 /* about as many rows of a block are read to find where to centre its sums */
#define BESIDE 4 /* vectors side by side of which statistics are taken at once */
#define FEW_STEPS 4
#define MANY (1024 / LANES) /* vectors at once where there are more than FEW_STEPS: about a page */
#define AHEAD 128 /* values between what is computed and what is asked for */
#define CHUNK 16 /* time steps whose membranes backward holds at once */

/* Row of `partial` of a task, and how many rows there are (see blocks.h) */
INLINE int64_t partial_row(const extent *e, int64_t task) { return e->inner > 1 ? task / e->channels : task; }

#endif
