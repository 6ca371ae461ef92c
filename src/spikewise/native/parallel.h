/* Tasks shared out among the threads of the OpenMP runtime that PyTorch has already loaded.
 *
 * The library links no runtime of its own: the address of GOMP_parallel is handed in (it is part of GNU's and LLVM's runtimes), so
 * there is one pool of threads. A task writes only what is its own, so the order in which threads take tasks changes no result.
 */
#ifndef PARALLEL_H
#define PARALLEL_H

#include <stdint.h>

typedef void (*gomp_parallel)(void (*body)(void *), void *argument, unsigned threads, unsigned flags);

typedef struct {
    gomp_parallel run; /* may be NULL: one thread */
    int32_t threads;
} thread_team;

typedef struct {
    void (*task)(void *context, int64_t number);
    void *context;
    int64_t tasks, next;
} job;

static void take_tasks(void *argument) {
    job *j = argument;
    for (;;) {
        int64_t number = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED);
        if (number >= j->tasks) return;
        j->task(j->context, number);
    }
}

static void in_parallel(const thread_team *t, void (*task)(void *, int64_t), void *context, int64_t tasks) {
    job j = {task, context, tasks, 0};
    if (t->run == 0 || t->threads <= 1 || tasks <= 1)
        take_tasks(&j);
    else
        t->run(take_tasks, &j, (unsigned)(t->threads < tasks ? t->threads : tasks), 0);
}

#endif
