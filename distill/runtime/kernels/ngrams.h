/* Hashed character n-grams; see ngrams.c. */
#ifndef DISTILL_NGRAMS_H
#define DISTILL_NGRAMS_H

#include "common.h"

/* The buckets that n-grams are hashed into, and the embedding row of each. */
typedef struct {
    const uint16_t *row_by_bucket; /* [bucket_count], 0 if training gave the bucket no row; null: there are no n-grams */
    int64_t bucket_count;
    int64_t max_characters; /* of a text, counted before it is put into lower case; n-grams are taken from these */
} NgramTable;

/* Append the buckets of one text's n-grams, at most 3 x length + 1, and return their end. framed [length + 2] is working
 * memory. */
int32_t *append_ngram_buckets(const NgramTable *table, const uint32_t *points, int64_t length, uint64_t *framed,
                              int32_t *buckets);

/* Replace buckets by their rows, leave out those without one, and return the end of the rows. */
int32_t *buckets_to_rows(const NgramTable *table, int32_t *buckets, const int32_t *end);

#endif
