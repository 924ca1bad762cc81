/* Embedding rows of the character 1- to 3-grams of texts, equal to distill/text/ngrams.py in values and order.
 *
 * An n-gram's key holds its code points + 1, NGRAM_BITS bits each. Its bucket is mix(key) % (bucket_count - 1) + 1,
 * where mix is the 64-bit finaliser of MurmurHash3. N-grams whose bucket has no row are left out.
 */
#include "ngrams.h"
#include "constants.h"
#include "layout.h"

EXPORT_LAYOUT(NgramTable, FIELD(NgramTable, row_by_bucket), FIELD(NgramTable, bucket_count),
              FIELD(NgramTable, max_characters));

/* The bucket of a key. A multiplication by inverse = 2^64 / modulus replaces the division of `%`. */
static inline uint64_t bucket(uint64_t key, uint64_t modulus, uint64_t inverse) {
    key = (key ^ key >> 33) * 0xFF51AFD7ED558CCDu;
    key = (key ^ key >> 33) * 0xC4CEB9FE1A85EC53u;
    key ^= key >> 33;
    const uint64_t remainder = key - (uint64_t)((unsigned __int128)key * inverse >> 64) * modulus; /* < 2 modulus */
    return (remainder >= modulus ? remainder - modulus : remainder) + 1;
}

/* Rows of the n-grams of one piece, framed by its boundary signs if it has any. The single characters are
 * framed[first] .. framed[last - 1]: a boundary marker alone is not an n-gram. */
static int32_t *append_piece(const NgramTable *table, const uint64_t *framed, int64_t length, int64_t first,
                             int64_t last, int32_t *rows) {
    const uint64_t modulus = table->bucket_count - 1, inverse = UINT64_MAX / modulus;
    for (int64_t i = first; i < last; i++) {
        *rows = table->row_by_bucket[bucket(framed[i], modulus, inverse)];
        rows += *rows > 0;
    }
    for (int64_t i = 0; i + 1 < length; i++) {
        *rows = table->row_by_bucket[bucket(framed[i] | framed[i + 1] << NGRAM_BITS, modulus, inverse)];
        rows += *rows > 0;
    }
    for (int64_t i = 0; i + 2 < length; i++) {
        const uint64_t key = framed[i] | framed[i + 1] << NGRAM_BITS | framed[i + 2] << 2 * NGRAM_BITS;
        *rows = table->row_by_bucket[bucket(key, modulus, inverse)];
        rows += *rows > 0;
    }
    return rows;
}

/* "[UNK]" splits the text into pieces, white space is removed, and a boundary sign stands before the first piece and
 * after the last. */
int32_t *append_ngram_rows(const NgramTable *table, const uint32_t *points, int64_t length, uint64_t *framed,
                           int32_t *rows) {
    framed[0] = NGRAM_BOUNDARY;
    for (int64_t i = 0, first = 1; i <= length; i += MASK_LENGTH, first = 0) {
        int64_t end = first;
        for (; i < length && !is_mask(points + i, length - i); i++) {
            framed[end] = points[i] + 1;
            end += !is_space(points[i]);
        }
        framed[end] = NGRAM_BOUNDARY;
        if (end > first) rows = append_piece(table, framed, end + (i >= length), first, end, rows);
    }
    return rows;
}
