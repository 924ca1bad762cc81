/* Integer constants that C and Python share. distill/runtime/constants.py reads this file, so each is written once:
 * keep every line in the form `#define NAME integer` with a comment after it. */
#ifndef DISTILL_CONSTANTS_H
#define DISTILL_CONSTANTS_H

#define STATE_ONE 127           /* 8-bit form of a recurrent state s in [-1, 1]: round((s + 1) * STATE_ONE), 0 to 254 */
#define STATE_GROUP 16          /* states whose products with the weights are accumulated in 16 bits */
#define MINGRU 0                /* the cells of elementwise.c */
#define SRU 1                   /* the second of them */
#define QRNN 2                  /* the third */
#define KEEP_ONE 255            /* 8-bit forms of 1 in a minGRU's row: of 1 - z, */
#define NEW_ONE 127             /* and of z n */
#define HAN_FIRST 0x4E00        /* first Han character that jieba segments with its hidden Markov model */
#define HAN_LAST 0x9FD5         /* the last one */
#define SCORE_MASK 0x3FFF       /* bits of a trie node's entry: index of a word's score, 0 if jieba does not know it */
#define HAS_CHILDREN 0x4000     /* bit of an entry: longer words begin with this one; set when the trie is built */
#define FORCE_SPLIT 0x8000      /* bit of an entry: the hidden Markov model must not form this word */
#define UNKNOWN_ID 1            /* id of unknown words and of "[UNK]" in every vocabulary; 0 is padding */
#define DELTA_BITS 0x1FFFFF     /* bits of a character's entry: its lower case minus itself, modulo 2^21 */
#define CASED 0x200000          /* bit of an entry: a letter with case; this and the next decide how a sigma ends a word */
#define CASE_IGNORABLE 0x400000 /* bit of an entry: such as an apostrophe or an accent */
#define ZERO_WIDTH 0x800000     /* bit of an entry: no model reads the character */
#define NGRAM_BITS 21           /* bits of one character in an n-gram's key: a code point + 1 */
#define NGRAM_BOUNDARY 0x110001 /* key of the boundary sign at both ends of a text; above every code point + 1 */

#define TABLE_ROWS 0            /* kinds of rows (rows.h): cells with a delimiter between them */
#define JSON_ROWS 1             /* an object per line */
#define TEXT_ROWS 2             /* a text per line */
#define TEXT_FIRST_ROWS 3       /* a text, a tab and a label per line */
#define LABEL_FIRST_ROWS 4      /* a label, a tab and a text per line */
#define ROWS_FULL 0             /* why the search for rows ended: there are enough */
#define ROWS_END 1              /* the rest of the block is no whole line */
#define ROWS_DECLINED 2         /* Python must read the next row */

#endif
