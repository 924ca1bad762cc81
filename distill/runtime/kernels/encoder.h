/* From texts to what the networks read: ids of words and rows of n-grams; see encoder.c. */
#ifndef DISTILL_ENCODER_H
#define DISTILL_ENCODER_H

#include "characters.h"
#include "network.h"
#include "ngrams.h"
#include "segmentation.h"

typedef struct {
    CharacterTable characters;
    Lexicon lexicon;
    NgramTable ngrams;
} TextEncoder;

/* An upper limit of the n-grams of all texts. */
int64_t max_ngram_rows(const TextEncoder *encoder, const Texts *texts);

int distill_encode(const TextEncoder *encoder, const Texts *texts, EncodedTexts *encoded);

#endif
