/* Segmentation of a run of single characters by jieba's hidden Markov model; see hmm.c. */
#ifndef DISTILL_HMM_H
#define DISTILL_HMM_H

#include "segmentation.h"

/* Append the words of points[begin] .. points[end - 1]. */
void segment_by_hmm(const Lexicon *lexicon, Segmentation *text, int64_t begin, int64_t end);

#endif
