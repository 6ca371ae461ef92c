/* Neurons: E1 to E4 of docs/equations.md, on vectors. */
#ifndef NEURON_H
#define NEURON_H

#include "vector.h"

/* The numbers of `Surrogate` in kernels/spec.py */
enum { ATAN = 0, SIGMOID = 1, RECTANGULAR = 2, TRIANGULAR = 3, FAST_SIGMOID = 4, ERF = 5, SCALED_ATAN = 6 };

typedef struct {
    float a, b, c; /* E1 */
    float v_th, v_reset, v_rest;
    float alpha;
    int32_t surrogate, hard_reset, detach_reset, plain; /* plain: a = b = 1, c = 0 */
} neuron;

INLINE vf charge(const neuron n, vf v, vf x) { return n.plain ? v + x : n.a * v + n.b * x + n.c; }

/* 1.0 or 0.0; NaN does not fire */
INLINE vf fires(const neuron n, vf h) { return where(h >= n.v_th, splat(1.0f), splat(0.0f)); }

INLINE vf reset(const neuron n, vf h, vf s) { return n.hard_reset ? (1.0f - s) * h + s * n.v_reset : h - s * n.v_th; }

/* exp(x) to 2 ulp for -87 <= x <= 0: 2^k times a polynomial on [-ln 2 / 2, ln 2 / 2] */
INLINE vf exp_of_negative(vf x) {
    x = where(x < -87.0f, splat(-87.0f), x);
    vf k = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to the nearest integer */
    vf r = x - k * 0.693145752f;
    r = r - k * 1.42860677e-6f;
    vf p = splat(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    vi bits = (__builtin_convertvector(k, vi) + 127) << 23;
    return p * (vf)bits;
}

/* E4 at u = h - v_th */
INLINE vf slope(const neuron n, vf u) {
    const float pi = 3.14159265f, alpha = n.alpha;
    vf size = where(u < 0.0f, -u, u);
    switch (n.surrogate) {
        case ATAN: {
            vf w = (pi / 2 * alpha) * u;
            return (alpha / 2) / (1.0f + w * w);
        }
        case SIGMOID: {
            vf e = exp_of_negative(-alpha * size), s = 1.0f / (1.0f + e);
            return alpha * (s * (e * s));
        }
        case RECTANGULAR:
            return where(size < 1.0f / (2 * alpha), splat(alpha), splat(0.0f));
        case TRIANGULAR: {
            vf y = 1.0f - alpha * size;
            return alpha * where(y < 0.0f, splat(0.0f), y);
        }
        case FAST_SIGMOID: {
            vf y = 1.0f / (1.0f + alpha * size);
            return y * y;
        }
        case ERF: {
            vf w = alpha * u;
            return (alpha * 0.564189584f) * exp_of_negative(-(w * w));
        }
        default: {
            vf w = (pi / 2 * alpha) * u;
            return (1.0f + (pi / 4 * alpha) * (pi / 4 * alpha)) / (1.0f + w * w);
        }
    }
}

#endif
