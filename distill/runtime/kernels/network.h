/* The interface of the student networks: encoded texts in, one pooled vector per text out. */
#ifndef DISTILL_NETWORK_H
#define DISTILL_NETWORK_H

#include "common.h"

/* Word ids [count][max_length], of which lengths [count] are used (1 or more); text i has the n-gram rows
 * ngram_rows[ngram_starts[i]] .. ngram_rows[ngram_starts[i + 1] - 1]. */
typedef struct {
    int32_t *ids, *lengths, *ngram_rows;
    int64_t *ngram_starts; /* [count + 1] */
    int64_t count;
    int32_t max_length;
} EncodedTexts;

/* A network's forward pass: fills pooled [count][width of the network]. `network` is the struct of its source file.
 * Returns OK or NO_MEMORY. */
typedef int ForwardPass(const void *network, const EncodedTexts *texts, float *pooled);

ForwardPass distill_recurrent, distill_recurrent_reference, distill_elementwise, distill_elementwise_reference,
    distill_textcnn, distill_average;

#endif
