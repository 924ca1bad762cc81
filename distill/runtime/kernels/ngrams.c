/* Embedding rows of the character 1- to 3-grams of texts, equal to distill/text/ngrams.py in values and order.
 *
 * An n-gram's key holds its code points + 1, NGRAM_BITS bits each. Its bucket is mix(key) % (bucket_count - 1) + 1,
 * where mix is the 64-bit finaliser of MurmurHash3. N-grams whose bucket has no row are left out.
 *
 * The caller does something else between the two steps, hashing and looking up, while the rows come from memory.
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

/* Store the bucket of a key and prefetch its row, which is not in the cache. */
static inline int32_t *append_bucket(const NgramTable *table, uint64_t key, uint64_t inverse, int32_t *buckets) {
    *buckets = bucket(key, table->bucket_count - 1, inverse);
    __builtin_prefetch(table->row_by_bucket + *buckets);
    return buckets + 1;
}

/* Buckets of the n-grams of one piece, framed by its boundary signs if it has any. The single characters are
 * framed[first] .. framed[last - 1]: a boundary marker alone is not an n-gram. */
static int32_t *append_piece(const NgramTable *table, const uint64_t *framed, int64_t length, int64_t first,
                             int64_t last, int32_t *buckets) {
    const uint64_t inverse = UINT64_MAX / (table->bucket_count - 1);
    for (int64_t i = first; i < last; i++) buckets = append_bucket(table, framed[i], inverse, buckets);
    for (int64_t i = 0; i + 1 < length; i++)
        buckets = append_bucket(table, framed[i] | framed[i + 1] << NGRAM_BITS, inverse, buckets);
    for (int64_t i = 0; i + 2 < length; i++) {
        const uint64_t key = framed[i] | framed[i + 1] << NGRAM_BITS | framed[i + 2] << 2 * NGRAM_BITS;
        buckets = append_bucket(table, key, inverse, buckets);
    }
    return buckets;
}

/* "[UNK]" splits the text into pieces, white space is removed, and a boundary sign stands before the first piece and
 * after the last. */
int32_t *append_ngram_buckets(const NgramTable *table, const uint32_t *points, int64_t length, uint64_t *framed,
                              int32_t *buckets) {
    framed[0] = NGRAM_BOUNDARY;
    for (int64_t i = 0, first = 1; i <= length; i += MASK_LENGTH, first = 0) {
        int64_t end = first;
        for (; i < length && !is_mask(points + i, length - i); i++) {
            framed[end] = points[i] + 1;
            end += !is_space(points[i]);
        }
        framed[end] = NGRAM_BOUNDARY;
        if (end > first) buckets = append_piece(table, framed, end + (i >= length), first, end, buckets);
    }
    return buckets;
}

int32_t *buckets_to_rows(const NgramTable *table, int32_t *buckets, const int32_t *end) {
    int32_t *rows = buckets;
    for (; buckets < end; buckets++) {
        *rows = table->row_by_bucket[*buckets];
        rows += *rows > 0;
    }
    return rows;
}
