/*
 * Dot products of four rows with a vector of operands, in C99 for any processor.
 *
 * Weights: column by column, a word: the bytes u0 = w[0][k] + 128, u1 = w[1][k] + 128, u2 = w[2][k] + 128 and w[3][k].
 *
 * Operands, for 8 and for 16 bits: a word with 128 times their sum, modulo 2^32, which is by how much the sums of rows 0, 1 and
 * 2 come out too large; then a word for each.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <stdint.h>
#include "qrnn_types.h"

#define QRNN_COLUMNS 4u
#define QRNN_OPERAND_WORDS(columns) (1u + (columns))
#define QRNN_WIDE_OPERAND_WORDS(columns) (1u + (columns))

/* clamp((v_k + 2^(shift - 1)) >> shift, -limit, limit) */
static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    const int32_t rounding = (1 << shift) >> 1;
    uint32_t sum = 0;
    uint32_t k;
    for (k = 0; k < count; k++) {
        int32_t x = (values[k] + rounding) >> shift;
        x = x < limit ? x : limit;
        x = x > -limit ? x : -limit;
        operand[k + 1u] = (uint32_t)x;
        sum += (uint32_t)x;
    }
    for (; k % QRNN_COLUMNS != 0u; k++) {
        operand[k + 1u] = 0;
    }
    operand[0] = sum * 128u;
}

#ifdef QRNN_USE_WIDE
#define qrnn_encode_wide qrnn_encode
#endif

#if defined(QRNN_USE_NARROW) && defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 2
#define QRNN_LONG_MULTIPLY /* Cortex-M3, and M33 without the DSP extension: SMLAL */
#endif

#ifdef QRNN_LONG_MULTIPLY
/* Five instructions for four products, where a 32 by 32 bit multiplication adds to 64 bits:
 *     all    += word x                    S3 2^24 + R2 2^16 + R1 2^8 + R0, with R_r = S_r + 128 (sum of the operands)
 *     middle += (word >> 8 & 0xFFFF) x    R2 2^8 + R1
 *     one    += (word >> 8 & 0xFF) x      R1
 * In a chunk of columns |R_r| <= 256 * 255 * 127 < 2^23 and |middle| <= 256 * 65535 * 127 < 2^31. So R2 = (middle - one) / 2^8,
 * and all - 2^8 middle + 2^23 = S3 2^24 + (R0 + 2^23), where the last is in 0...2^24 - 1. */
#ifdef QRNN_SHORT_ROWS /* no row of the model has more than 256 columns */
#define QRNN_CHUNK 0xFFFFFFFFu
#else
#define QRNN_CHUNK 256u
#endif
/* The loop is assembly where the compiler takes GNU C's: from C it makes 40 % more instructions. QRNN_NO_ASSEMBLY leaves it. */
#if defined(__GNUC__) && !defined(QRNN_NO_ASSEMBLY)
#define QRNN_ASSEMBLY
#define QRNN_FOUR_ROWS(word, x)                                                                                      \
    "smlal %Q[all], %R[all], " word ", %[" x "]\n\tubfx " word ", " word ", #8, #16\n\t"                             \
    "mla %[middle], " word ", %[" x "], %[middle]\n\tuxtb " word ", " word "\n\t"                                    \
    "mla %[one], " word ", %[" x "], %[one]\n\t"
#ifdef __clang__ /* it keeps two registers for itself: two words at a time */
#define QRNN_LOAD_WORDS "ldmia %[weight]!, {r4, r5}\n\t"
#define QRNN_LOAD_REST QRNN_LOAD_WORDS
#define QRNN_WORD_2 "r4"
#define QRNN_WORD_3 "r5"
#else
#define QRNN_LOAD_WORDS "ldmia %[weight]!, {r4, r5, r6, r8}\n\t"
#define QRNN_LOAD_REST
#define QRNN_WORD_2 "r6"
#define QRNN_WORD_3 "r8"
#endif
#endif

static void qrnn_dot4(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                      int32_t sums[4])
{
    uint32_t excess = *operand++;
    do {
        uint32_t chunk = columns < QRNN_CHUNK ? columns : QRNN_CHUNK;
        int64_t all = 1 << 23;
        uint32_t middle = 0;
        uint32_t one = 0;
        columns -= chunk;
#ifdef QRNN_ASSEMBLY
        uint32_t x0;
        uint32_t x1;
        __asm__("1:\n\t" QRNN_LOAD_WORDS
                "ldrd %[x0], %[x1], [%[operand]], #8\n\t" QRNN_FOUR_ROWS("r4", "x0") QRNN_FOUR_ROWS("r5", "x1")
                QRNN_LOAD_REST
                "ldrd %[x0], %[x1], [%[operand]], #8\n\t" QRNN_FOUR_ROWS(QRNN_WORD_2, "x0") QRNN_FOUR_ROWS(QRNN_WORD_3, "x1")
                "subs %[chunk], %[chunk], #4\n\tbne 1b"
                : [weight] "+r"(weight), [operand] "+r"(operand), [chunk] "+r"(chunk), [all] "+r"(all),
                  [middle] "+r"(middle), [one] "+r"(one), [x0] "=&r"(x0), [x1] "=&r"(x1)
                :
                : "r4", "r5", QRNN_WORD_2, QRNN_WORD_3, "cc", "memory");
#else
        for (; chunk != 0u; chunk--) {
            const uint32_t x = *operand++;
            uint32_t word;
            QRNN_COPY(&word, weight, sizeof word);
            weight += sizeof word;
            all += (int64_t)(int32_t)word * (int32_t)x;
            word = (word >> 8) & 0xFFFFu;
            middle += word * x;
            one += (word & 0xFFu) * x;
        }
#endif
        all -= (int64_t)(int32_t)middle * 256;
        sums[0] = (int32_t)((uint32_t)bias[0] + ((uint32_t)all & 0xFFFFFFu) - (excess + (1u << 23)));
        sums[1] = (int32_t)((uint32_t)bias[1] + one - excess);
        sums[2] = (int32_t)((uint32_t)bias[2] + (uint32_t)((int32_t)(middle - one) >> 8) - excess);
        sums[3] = (int32_t)((uint32_t)bias[3] + (uint32_t)(all >> 24));
        bias = sums;
        excess = 0;
    } while (columns != 0u);
}
#endif

#if defined(QRNN_USE_WIDE) || !defined(QRNN_LONG_MULTIPLY)
/* Modulo 2^32, where the word is w3 2^24 + u2 2^16 + u1 2^8 + u0 and >> keeps its sign:
 *     p0 += word x           S3 2^24 + R2 2^16 + R1 2^8 + R0, with R_r = S_r + 128 (sum of the operands)
 *     p1 += (word >> 8) x    S3 2^16 + R2 2^8 + R1
 *     p2 += (word >> 16) x   S3 2^8 + R2
 *     p3 += (word >> 24) x   S3
 * so that R2 = p2 - 2^8 p3, R1 = p1 - 2^8 p2, R0 = p0 - 2^8 p1. No byte is extracted, and no load is narrower than a word. */
#if defined(__GNUC__) && defined(__ARM_ARCH_ISA_THUMB) && __ARM_ARCH_ISA_THUMB == 1 && !defined(QRNN_NO_ASSEMBLY) &&     \
    (defined(__clang__) || !defined(__OPTIMIZE_SIZE__))
/* Cortex-M0: the four sums stand in the high registers, which ADD reaches; a compiler keeps them in memory. (With -Os GCC gives no
 * high registers away.) */
#define QRNN_PART(word, shift, sum)                                                                                  \
    "asrs %[t], " word ", #" shift "\n\tmuls %[t], %[x]\n\tadd %[" sum "], %[t]\n\t"
#define QRNN_COLUMN(word)                                                                                            \
    "ldmia %[operand]!, {%[x]}\n\t" QRNN_PART(word, "24", "p3") QRNN_PART(word, "16", "p2")                           \
    QRNN_PART(word, "8", "p1") "muls " word ", %[x]\n\tadd %[p0], " word "\n\t"
#define QRNN_TWO_COLUMNS "ldmia %[weight]!, {r4, r5}\n\t" QRNN_COLUMN("r4") QRNN_COLUMN("r5")
#else
#define QRNN_COLUMN(k)                                     \
    {                                                      \
        const uint32_t x = operand[k];                     \
        const int32_t word = (int32_t)words[k];            \
        p0 += (uint32_t)word * x;                          \
        p1 += (uint32_t)(word >> 8) * x;                   \
        p2 += (uint32_t)(word >> 16) * x;                  \
        p3 += (uint32_t)(word >> 24) * x;                  \
    }
#endif

static void qrnn_dot4_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                           int32_t sums[4])
{
    const uint32_t excess = *operand++;
    const uint32_t *const end = operand + columns;
    uint32_t p0 = 0;
    uint32_t p1 = 0;
    uint32_t p2 = 0;
    uint32_t p3 = 0;
#ifdef QRNN_TWO_COLUMNS
    uint32_t x;
    uint32_t t;
    __asm__(".syntax unified\n1:\n\t" QRNN_TWO_COLUMNS QRNN_TWO_COLUMNS "cmp %[operand], %[end]\n\tbne 1b"
            : [weight] "+l"(weight), [operand] "+l"(operand), [p0] "+h"(p0), [p1] "+h"(p1), [p2] "+h"(p2), [p3] "+h"(p3),
              [x] "=&l"(x), [t] "=&l"(t)
            : [end] "r"(end)
            : "r4", "r5", "cc", "memory");
#else
    const uint32_t *words = (const uint32_t *)(const void *)weight; /* as which they are stored */
    do {
        QRNN_COLUMN(0)
        QRNN_COLUMN(1)
        QRNN_COLUMN(2)
        QRNN_COLUMN(3)
        operand += 4;
        words += 4;
    } while (operand != end);
#endif
    sums[0] = (int32_t)((uint32_t)bias[0] + p0 - (p1 << 8) - excess);
    sums[1] = (int32_t)((uint32_t)bias[1] + p1 - (p2 << 8) - excess);
    sums[2] = (int32_t)((uint32_t)bias[2] + p2 - (p3 << 8) - excess);
    sums[3] = (int32_t)((uint32_t)bias[3] + p3);
}
#endif

#if defined(QRNN_USE_NARROW) && !defined(QRNN_LONG_MULTIPLY)
#define qrnn_dot4 qrnn_dot4_wide
#endif

#endif
