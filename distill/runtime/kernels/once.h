/* Rows of a table that are computed when they are first needed, by one of several threads. */
#ifndef DISTILL_ONCE_H
#define DISTILL_ONCE_H

#include <sched.h>
#include <stdint.h>

enum { EMPTY, IN_PROGRESS, READY }; /* state of a row */

#define MAX_WAITS 1000000 /* yields, about a second: a child process does not have the thread that computed a row */

static inline int is_ready(const uint8_t *state) { return __atomic_load_n(state, __ATOMIC_ACQUIRE) == READY; }

/* Whether the caller must compute the row and then call set_ready; otherwise waits until another thread has done so. */
static inline int must_compute(uint8_t *state) {
    uint8_t expected = EMPTY;
    if (__atomic_compare_exchange_n(state, &expected, IN_PROGRESS, 0, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) return 1;
    for (int32_t i = 0; i < MAX_WAITS; i++, sched_yield())
        if (is_ready(state)) return 0;
    return 1; /* two threads may write the same numbers: harmless */
}

static inline void set_ready(uint8_t *state) { __atomic_store_n(state, READY, __ATOMIC_RELEASE); }

#endif
