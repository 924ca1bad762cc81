/* A whole student, from texts to logits in one call, without holding Python's GIL:
 *
 *   ids = encode(text),  pooled = network(ids),
 *   logits = classifier(hidden(pooled)) + mean over the text's n-grams of ngram_logits[row]
 *
 * with the hidden layer (and its ReLU) and the n-gram logits only where the student has them.
 */
#include "dense.h"
#include "encoder.h"
#include "layout.h"
#include "vectors.h"
#include <stdlib.h>

typedef struct {
    ForwardPass *forward;
    const void *network;  /* its struct */
    int32_t pooled_width; /* of the network's output */
    int32_t sorts_texts;  /* the network sorts its texts by length, so it gets all of them at once */
    Dense hidden;         /* its weight is a null pointer if the student has no hidden layer */
    Dense classifier;
    const float *ngram_logits; /* [rows][classes], and LANES more: what an n-gram adds to the logits; or a null pointer */
    int32_t classes;           /* the first columns of the classifier; those beyond are padding */
} StudentModel;

EXPORT_LAYOUT(EncodedTexts, FIELD(EncodedTexts, ids), FIELD(EncodedTexts, lengths), FIELD(EncodedTexts, ngram_rows),
              FIELD(EncodedTexts, ngram_starts), FIELD(EncodedTexts, count), FIELD(EncodedTexts, max_length));
EXPORT_LAYOUT(StudentModel, FIELD(StudentModel, forward), FIELD(StudentModel, network),
              FIELD(StudentModel, pooled_width), FIELD(StudentModel, sorts_texts), FIELD(StudentModel, hidden),
              FIELD(StudentModel, classifier), FIELD(StudentModel, ngram_logits), FIELD(StudentModel, classes));

#define BATCH 64 /* texts whose pooled vectors stay in the cache until their logits are computed */

int32_t distill_lanes(void) { return LANES; }

/* Add the mean of a text's n-gram logits; the text may have no n-grams. Whole vectors are added: what lies behind the last
 * class, the next row or the table's padding, ends up in the padding of the logits. */
static void add_ngram_logits(const StudentModel *student, const int32_t *rows, int64_t count, float *logits) {
    const float weight = count ? 1.0f / count : 0.0f;
    for (int32_t j = 0; j < student->classes; j += LANES) {
        F32 sum = load_f32(logits + j);
        for (int64_t i = 0; i < count; i++)
            sum += weight * load_f32(student->ngram_logits + (int64_t)rows[i] * student->classes + j);
        store_f32(logits + j, sum);
    }
}

/* buffer [texts][pooled_width + hidden.out] */
static int batch_logits(const StudentModel *student, const EncodedTexts *texts, float *buffer, float *logits) {
    const float *features = buffer;
    int32_t width = student->pooled_width;
    const int status = student->forward(student->network, texts, buffer);
    if (status) return status;
    if (student->hidden.weight) {
        dense_layer(&student->hidden, features, texts->count, width, 1, buffer + texts->count * width);
        features = buffer + texts->count * width, width = student->hidden.out;
    }
    dense_layer(&student->classifier, features, texts->count, width, 0, logits);
    for (int64_t i = 0; student->ngram_logits && i < texts->count; i++)
        add_ngram_logits(student, texts->ngram_rows + texts->ngram_starts[i],
                         texts->ngram_starts[i + 1] - texts->ngram_starts[i], logits + i * student->classifier.out);
    return OK;
}

/* Logits of encoded texts: [texts][classifier.out]. */
int distill_logits_of_ids(const StudentModel *student, const EncodedTexts *texts, float *logits) {
    const int64_t batch = !student->sorts_texts && texts->count > BATCH ? BATCH : texts->count;
    float *buffer = malloc(sizeof(float) * (batch * (student->pooled_width + student->hidden.out) + 1));
    int status = buffer ? OK : NO_MEMORY;
    for (int64_t first = 0; !status && first < texts->count; first += batch) {
        const int64_t left = texts->count - first;
        const EncodedTexts part = {texts->ids + first * texts->max_length, texts->lengths + first, texts->ngram_rows,
                                   texts->ngram_starts + first, left < batch ? left : batch, texts->max_length};
        status = batch_logits(student, &part, buffer, logits + first * student->classifier.out);
    }
    free(buffer);
    return status;
}

/* Logits of texts: [texts][classifier.out]. The first max_length ids of a text are used. */
int distill_logits_of_texts(const TextEncoder *encoder, const StudentModel *student, int32_t max_length,
                            const Texts *texts, float *logits) {
    const int64_t count = texts->count, ids = count * max_length;
    int64_t *buffer =
        malloc(sizeof(int64_t) * (count + 1) + sizeof(int32_t) * (ids + count + max_ngram_rows(encoder, texts)));
    if (!buffer) return NO_MEMORY;
    int32_t *integers = (int32_t *)(buffer + count + 1);
    EncodedTexts encoded = {integers, integers + ids, integers + ids + count, buffer, count, max_length};
    int status = distill_encode(encoder, texts, &encoded);
    if (!status) status = distill_logits_of_ids(student, &encoded, logits);
    free(buffer);
    return status;
}

/* The logits of one text, [classifier.out], and its class: of those with the largest logit, the first. A negative status
 * if there is not enough memory. */
int32_t distill_class_of_text(const TextEncoder *encoder, const StudentModel *student, int32_t max_length,
                              const uint8_t *bytes, int64_t size, float *logits) {
    const int64_t span[2] = {0, size};
    const Texts text = {bytes, span, 1};
    int32_t class = distill_logits_of_texts(encoder, student, max_length, &text, logits);
    for (int32_t j = 1; class >= 0 && j < student->classes; j++)
        if (logits[j] > logits[class]) class = j;
    return class;
}
