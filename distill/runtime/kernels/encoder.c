/* From UTF-8 to what the networks read, one text after the other: its characters (characters.c), the rows of its n-grams
 * (ngrams.c), its words and their ids (segmentation.c). Working memory is allocated once per call, for the longest text.
 */
#include "encoder.h"
#include "layout.h"
#include <stdlib.h>

EXPORT_LAYOUT(Texts, FIELD(Texts, bytes), FIELD(Texts, spans), FIELD(Texts, count));
EXPORT_LAYOUT(TextEncoder, FIELD(TextEncoder, characters), FIELD(TextEncoder, lexicon), FIELD(TextEncoder, ngrams));

/* Working memory; the arrays are as long as the longest text. */
typedef struct {
    uint64_t *framed; /* for append_ngram_buckets; [size + 2] */
    uint32_t *points, *lowered;
    Segmentation segmentation;
    void *buffer;
} Workspace;

static void free_workspace(Workspace *work) {
    free(work->buffer);
    free(work->framed);
}

static int allocate_workspace(Workspace *work, const Texts *texts) {
    const int64_t size = max_text_size(texts);
    work->buffer = allocate_segmentation(&work->segmentation, size);
    work->framed = work->buffer ? malloc((size + 2) * sizeof *work->framed + 2 * size * sizeof *work->points) : 0;
    if (!work->framed) return free_workspace(work), NO_MEMORY;
    work->points = (uint32_t *)(work->framed + size + 2);
    work->lowered = work->points + size;
    return OK;
}

static DecodedText decode(const TextEncoder *encoder, const Texts *texts, int64_t i, Workspace *work) {
    const int64_t *span = texts->spans + 2 * i;
    return decode_text(&encoder->characters, texts->bytes + span[0], texts->bytes + span[1],
                       encoder->ngrams.max_characters, work->points);
}

/* The first `length` code points in lower case, as if the text ended there. */
static const uint32_t *lower(const TextEncoder *encoder, const DecodedText *text, int64_t length, Workspace *work) {
    if (!text->has_upper_case) return work->points;
    lower_case(&encoder->characters, work->points, length, work->lowered);
    return work->lowered;
}

static inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

int64_t max_ngram_rows(const TextEncoder *encoder, const Texts *texts) {
    const int64_t max_points = 2 * encoder->ngrams.max_characters; /* a character in lower case may be two code points */
    int64_t max = 0;
    for (int64_t i = 0; i < texts->count && encoder->ngrams.row_by_bucket; i++)
        max += 3 * min(texts->spans[2 * i + 1] - texts->spans[2 * i], max_points) + 1;
    return max;
}

/* The ids of each text, truncated to encoded->max_length, and the rows of its n-grams. The caller owns all arrays;
 * ngram_rows has space for max_ngram_rows. */
int distill_encode(const TextEncoder *encoder, const Texts *texts, EncodedTexts *encoded) {
    Workspace work;
    if (allocate_workspace(&work, texts)) return NO_MEMORY;
    int32_t *rows = encoded->ngram_rows;
    encoded->ngram_starts[0] = 0;
    for (int64_t i = 0; i < texts->count; i++) {
        const DecodedText text = decode(encoder, texts, i, &work);
        const uint32_t *points = lower(encoder, &text, text.beginning, &work);
        const int32_t *end = rows;
        if (encoder->ngrams.row_by_bucket)
            end = append_ngram_buckets(&encoder->ngrams, points, text.beginning, work.framed, rows);
        if (text.beginning < text.length) points = lower(encoder, &text, text.length, &work);
        segment_text(&encoder->lexicon, &work.segmentation, points, text.length, encoded->max_length);
        encoded->lengths[i] = write_ids(&encoder->lexicon, &work.segmentation, encoded->max_length,
                                        encoded->ids + i * encoded->max_length);
        rows = buckets_to_rows(&encoder->ngrams, rows, end);
        encoded->ngram_starts[i + 1] = rows - encoded->ngram_rows;
    }
    free_workspace(&work);
    return OK;
}

/* The words of each text. points [bytes of all texts] receives the texts in lower case, one after the other; spans [as
 * many][2] begin and end of each word in it, and counts [texts] each text's number of words. */
int distill_segment(const TextEncoder *encoder, const Texts *texts, uint32_t *points, int64_t *spans, int64_t *counts) {
    Workspace work;
    if (allocate_workspace(&work, texts)) return NO_MEMORY;
    int64_t start = 0;
    for (int64_t i = 0; i < texts->count; i++) {
        const DecodedText text = decode(encoder, texts, i, &work);
        lower_case(&encoder->characters, work.points, text.length, points + start);
        segment_text(&encoder->lexicon, &work.segmentation, points + start, text.length, INT64_MAX);
        counts[i] = work.segmentation.word_count;
        for (int64_t word = 0; word < counts[i]; word++) {
            *spans++ = start + work.segmentation.words[word].begin;
            *spans++ = start + work.segmentation.words[word].end;
        }
        start += text.length;
    }
    free_workspace(&work);
    return OK;
}
