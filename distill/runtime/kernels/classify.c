/* A whole student: from texts to logits in one call, so that Python is asked for as little as can be. */
#include "lexicon.h"
#include "networks.h"
#include "vectors.h"
#include <stdlib.h>

enum { RECURRENT, CONVOLUTIONS, AVERAGE }; /* as networks.py counts them */

typedef struct {
    int32_t kind;
    int32_t width;       /* of what the network makes of a text */
    const void *network; /* of its kind */
    Dense layer;         /* average's hidden layer */
    Dense classifier;
    const float *says;   /* [rows][classes]: what an n-gram adds to the logits by its mean; NULL: nothing */
    int32_t classes;     /* of classifier.out columns these count */
} Student;

int32_t distill_lanes(void) { return LANES; }

static int pooled_by(const Student *student, const Encoded *texts, float *pooled) {
    switch (student->kind) {
        case RECURRENT: return recurrent(student->network, texts, pooled);
        case CONVOLUTIONS: return convolutions(student->network, texts, pooled);
        default: return average(student->network, texts, pooled);
    }
}

/* adds to a text's logits the mean of what its n-grams say; there may be none */
static void add_ngrams(const Student *student, const int32_t *rows, int64_t count, float *logits) {
    const float share = count ? 1.0f / count : 0.0f;
    for (int64_t i = 0; i < count; i++) {
        const float *row = student->says + (int64_t)rows[i] * student->classes;
        for (int32_t j = 0; j < student->classes; j++) logits[j] += share * row[j];
    }
}

#define SOME 64 /* texts whose vectors stay in the cache until their logits are made; biLSTM sorts all by length */

static int logits_of(const Student *student, const Encoded *texts, float *room, float *logits) {
    const float *vectors = room;
    int32_t width = student->width;
    const int failed = pooled_by(student, texts, room);
    if (student->layer.weight) {
        dense(&student->layer, vectors, texts->texts, width, 1, room + texts->texts * width);
        vectors = room + texts->texts * width, width = student->layer.out;
    }
    dense(&student->classifier, vectors, texts->texts, width, 0, logits);
    for (int64_t i = 0; student->says && i < texts->texts; i++)
        add_ngrams(student, texts->rows + texts->starts[i], texts->starts[i + 1] - texts->starts[i],
                   logits + i * student->classifier.out);
    return failed;
}

/* logits [texts][classifier.out] */
int distill_logits(const Student *student, const Encoded *texts, float *logits) {
    const int64_t at_once = student->kind != RECURRENT && texts->texts > SOME ? SOME : texts->texts;
    float *room = malloc(sizeof(float) * (at_once * (student->width + student->layer.out) + 1));
    int failed = !room;
    for (int64_t first = 0; !failed && first < texts->texts; first += at_once) {
        const int64_t left = texts->texts - first;
        const Encoded some = {texts->ids + first * texts->longest, texts->lengths + first, texts->rows,
                              texts->starts + first, left < at_once ? left : at_once, texts->longest};
        failed = logits_of(student, &some, room, logits + first * student->classifier.out);
    }
    free(room);
    return failed;
}

/* logits of texts; of `read`, their beginnings, the n-grams are taken; `longest` words of a text count */
int distill_classify(const Lexicon *lexicon, const Ngrams *ngrams, const Student *student, const Texts *texts,
                     const Texts *read, int32_t longest, float *logits) {
    const int64_t count = texts->texts, ids = count * longest, rows = 3 * read->starts[count] + count;
    int64_t *room = malloc(sizeof(int64_t) * (count + 1) + sizeof(int32_t) * (ids + count + rows));
    if (!room) return 1;
    int32_t *numbers = (int32_t *)(room + count + 1);
    Encoded encoded = {numbers, numbers + ids, numbers + ids + count, room, count, longest};
    int failed = distill_encode(lexicon, texts, longest, encoded.ids, encoded.lengths);
    if (!failed && ngrams) failed = distill_ngrams(ngrams, read, encoded.rows, encoded.starts);
    if (!failed) failed = distill_logits(student, &encoded, logits);
    free(room);
    return failed;
}
