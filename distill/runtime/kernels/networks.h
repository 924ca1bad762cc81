/* The students' networks: what Python fills in, and what each makes of encoded texts. */
#ifndef DISTILL_NETWORKS_H
#define DISTILL_NETWORKS_H

#include <stdint.h>

/* Texts as ids: words [texts][longest], of which lengths [texts] count; rows of n-grams from starts [texts + 1] on. */
typedef struct {
    int32_t *ids, *lengths, *rows;
    int64_t *starts;
    int64_t texts;
    int32_t longest;
} Encoded;

/* biLSTM and biGRU; columns stand in blocks of LANES units with their gates side by side */
typedef struct {
    int32_t gates;    /* 4: LSTM's input, forget, cell, output; 3: GRU's reset, update, new */
    int32_t units;    /* of a direction, a multiple of LANES; those beyond the student's have weights of 0 */
    int32_t width;    /* of a word vector */
    int32_t sentence; /* the mean of the words is the only step */
    const float *vectors;            /* [words][width] */
    const float *input[2];           /* [width][columns], already divided by folded_scale */
    const float *bias[2];            /* [columns], likewise */
    const float *folded_scale[2];    /* [columns]: gate's share of the word = folded * folded_scale */
    const int8_t *recurrent[2];      /* [units / LANES][units / 4][gates][LANES][4] */
    const int32_t *rest[2];          /* [columns]: what takes the 1 off that is added to each state */
    const float *recurrent_scale[2]; /* [columns] */
    const float *recurrent_bias[2];  /* [columns]; GRU's of the new gate, else 0 */
    int16_t *folded;                 /* [words][2][columns] */
    uint8_t *known;                  /* [words]: whether its folded row is there */
} Recurrent;

typedef struct {
    int32_t spans;        /* filters of 1, 2, …, spans words */
    int32_t filters;      /* of each span, a multiple of 2 LANES */
    int32_t width;        /* of a word vector */
    const float *vectors; /* [words][width] */
    const float *taps;    /* [width][spans (spans + 1) / 2][filters], divided by scale: span 1's, span 2's two, … */
    const float *scale;   /* [spans][filters] */
    const float *bias;    /* [spans][filters] */
    int16_t *folded;      /* [words][spans (spans + 1) / 2][filters]: a convolution is additions of these */
    uint8_t *known;       /* [words] */
} Convolutions;

/* a table of vectors in 16 bits; number = entry * scale of its column */
typedef struct {
    const int16_t *rows; /* [rows][width]; NULL: there is no table */
    const float *scale;  /* [width] */
    int32_t width;       /* a multiple of LANES */
} Table;

typedef struct {
    Table words, ngrams;
} Average;

/* in . weight + bias; weight in blocks [out / 2 LANES][width of in][2 LANES] */
typedef struct {
    const float *weight; /* NULL: there is no such layer */
    const float *bias;   /* [out] */
    int32_t out;         /* a multiple of 2 LANES */
} Dense;

/* Each fills pooled [texts][its width]; 0, or 1 without memory. */
int recurrent(const Recurrent *net, const Encoded *texts, float *pooled);
int convolutions(const Convolutions *net, const Encoded *texts, float *pooled);
int average(const Average *net, const Encoded *texts, float *pooled);

void dense(const Dense *layer, const float *in, int64_t texts, int32_t width, int relu, float *out);

#endif
