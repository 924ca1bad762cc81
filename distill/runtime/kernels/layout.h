/* Layouts of the structs that Python fills in. When the library is loaded, distill/runtime/native.py compares each with
 * its ctypes mirror, so a struct that was changed on one side only is an error, not a crash. */
#ifndef DISTILL_LAYOUT_H
#define DISTILL_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    int64_t offset, size; /* in bytes */
} FieldLayout;

#define FIELD(type, field) {#field, offsetof(type, field), sizeof(((type *)0)->field)}

/* Define distill_layout_TYPE: every field, then the whole struct under a null name. */
#define EXPORT_LAYOUT(type, ...) const FieldLayout distill_layout_##type[] = {__VA_ARGS__, {0, 0, sizeof(type)}}

#endif
