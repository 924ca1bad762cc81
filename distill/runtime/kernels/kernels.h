/* What the kernels share. All arrays belong to the caller; nothing is allocated that outlives a call. */
#ifndef DISTILL_KERNELS_H
#define DISTILL_KERNELS_H

#include <stdint.h>

/* Texts as UTF-32 code points, one after the other; text i is points[starts[i]] .. points[starts[i + 1] - 1]. */
typedef struct {
    const uint32_t *points;
    const int64_t *starts; /* texts + 1 */
    int64_t texts;
} Texts;

#endif
