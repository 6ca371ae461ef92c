/* A second reader of integer networks, made from docs/integer.md alone.
   reader NET < frames: int32 frames [T, C, H, W] on standard input; after each, its logits, one line. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int32_t *at; int c, h, w; } Map;
typedef struct { uint32_t kind, in, other, out; int32_t n[8]; uint32_t s[4]; int8_t *w; int32_t *t, *bias, *v; } Op;

static FILE *file;
static void *take(size_t size) {
    void *p = malloc(size ? size : 1);
    if (fread(p, 1, size, file) != size) { fprintf(stderr, "the file was cut\n"); exit(2); }
    return p;
}
static Map map(int c, int h, int w) { Map m = {calloc((size_t)c * h * w, 4), c, h, w}; return m; }
static int32_t hold(int64_t v) { int64_t most = 1 << 30; return (int32_t)(v > most ? most : v < -most ? -most : v); }

static Map windows(Op *op, Map x) {
    int conv = op->kind == 0, k = conv ? (int)op->s[2] : op->n[0], stride = op->n[conv ? 0 : 1], pad = op->n[conv ? 1 : 2];
    Map y = map(conv ? (int)op->s[0] : x.c, (x.h + 2 * pad - k) / stride + 1, (x.w + 2 * pad - k) / stride + 1);
    for (int c = 0; c < y.c; c++) for (int i = 0; i < y.h; i++) for (int j = 0; j < y.w; j++) {
        int32_t sum = conv ? op->bias[c] : op->kind == 5 ? INT32_MIN : 0;
        for (int d = conv ? 0 : c; d < (conv ? x.c : c + 1); d++) for (int a = 0; a < k; a++) for (int b = 0; b < k; b++) {
            int p = i * stride + a - pad, q = j * stride + b - pad;
            if (p < 0 || q < 0 || p >= x.h || q >= x.w) continue;
            int32_t value = x.at[(d * x.h + p) * x.w + q];
            if (conv) sum += value * op->w[((c * x.c + d) * k + a) * k + b];
            else if (op->kind == 6) sum += value;
            else if (value > sum) sum = value;
        }
        y.at[(c * y.h + i) * y.w + j] = sum;
    }
    return y;
}

static Map fire(Op *op, Map x) {
    Map y = map(x.c, x.h, x.w);
    int size = x.h * x.w, first = !op->v;
    if (first) op->v = calloc((size_t)x.c * size, 4);
    for (int i = 0; i < x.c * size; i++) {
        int64_t threshold = op->t[i / size], rest = op->t[x.c + i / size], v = first ? rest : op->v[i], h;
        int64_t current = (int64_t)x.at[i] * (1 << op->n[1]), leak = op->n[0];
        if (!leak) h = v + current;
        else if (op->n[2]) h = v + (((rest - v + current) * leak) >> 16);
        else h = v + (((rest - v) * leak) >> 16) + current;
        y.at[i] = h >= threshold;
        op->v[i] = hold(op->n[3] ? h - y.at[i] * threshold : y.at[i] ? rest : h);
    }
    return y;
}

static Map join(Op *op, Map x, Map s) {
    Map y = map(x.c, x.h, x.w);
    int size = x.h * x.w;
    for (int i = 0; i < x.c * size; i++) {
        int32_t a = x.at[i], b = s.at[i];
        if (op->kind == 2 && op->s[0]) y.at[i] = a * op->t[i / size] + b * op->t[x.c + i / size];
        else y.at[i] = op->kind == 2 ? a + b : op->kind == 3 ? a * b : (1 - a) * b;
    }
    return y;
}

int main(int count, char **names) {
    if (count != 2 || !(file = fopen(names[1], "rb"))) { fprintf(stderr, "usage: reader NET < frames\n"); return 2; }
    if (memcmp(take(8), "SPKWINT\0", 8)) { fprintf(stderr, "no integer network\n"); return 2; }
    uint32_t *h = take(32), classes = h[4], features = h[5];
    int8_t *head = take((size_t)classes * features);
    int32_t *bias = take(4 * classes);
    int64_t *sum = calloc(features, 8), frames = 0;
    Op *ops = calloc(h[7], sizeof *ops);
    for (uint32_t i = 0; i < h[7]; i++) {
        Op *op = &ops[i];
        memcpy(op, take(64), 64);
        size_t size = (size_t)op->s[0] * op->s[1] * (op->kind ? 1 : op->s[2] * op->s[3]);
        if (op->kind) op->t = take(4 * size);
        else { op->w = take(size); op->bias = take(4 * op->s[0]); }
    }
    Map *buffers = calloc(h[6], sizeof *buffers), frame = map(h[1], h[2], h[3]);
    size_t pixels = (size_t)h[1] * h[2] * h[3];
    while (fread(frame.at, 4, pixels, stdin) == pixels) {
        buffers[0] = frame;
        for (uint32_t i = 0; i < h[7]; i++) {
            Op *op = &ops[i];
            Map x = buffers[op->in], y;
            if (op->kind == 7) { for (int j = 0; j < x.c * x.h * x.w; j++) sum[j / (x.h * x.w)] += x.at[j]; continue; }
            y = op->kind == 1 ? fire(op, x) : op->kind >= 2 && op->kind <= 4 ? join(op, x, buffers[op->other]) : windows(op, x);
            free(buffers[op->out].at);
            buffers[op->out] = y;
        }
        frames++;
        for (uint32_t c = 0; c < classes; c++) {
            int64_t logit = frames * bias[c];
            for (uint32_t f = 0; f < features; f++) logit += head[c * features + f] * sum[f];
            printf("%lld%c", (long long)logit, c + 1 < classes ? ' ' : '\n');
        }
    }
    return 0;
}
