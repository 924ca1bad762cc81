/* Hashed character n-grams; see ngrams.c. */
#ifndef DISTILL_NGRAMS_H
#define DISTILL_NGRAMS_H

#include "common.h"

/* The buckets that n-grams are hashed into, and the embedding row of each. */
typedef struct {
    const uint16_t *row_by_bucket; /* [bucket_count], 0 if training gave the bucket no row */
    int64_t bucket_count;
} NgramTable;

int distill_ngram_rows(const NgramTable *table, const Texts *texts, int32_t *rows, int64_t *starts);

#endif
