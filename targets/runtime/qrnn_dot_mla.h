/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot products of four rows with a vector of operands, for cores that multiply in one cycle to 32 bits and take four to seven for a product of
 * 64 bits, such as Cortex-M3: a multiplication does two products of operands of 8 bits. Here these are, in C99 and in assembly; operands of 16
 * bits and weights of four bits are multiplied as in qrnn_dot_plain.h.
 *
 * Weights: two columns k, k + 1 by two columns, two words, with u = w + 128: the bytes u[0][k + 1], u[1][k + 1], u[0][k], u[1][k], and the same
 * of rows 2 and 3.
 *
 * Operands: a word for two columns, the number x[k + 1] 2^16 + x[k] modulo 2^32; or raw, an int16 for each, of which the upper one of a word is
 * less by one in that number where the lower is negative.
 *
 * Every second byte of a word of weights is u[k] 2^16 + u[k + 1], which times an operand word X, less 128 (2^16 + 1) X, is modulo 2^32
 *     2^16 (w[k] x[k] + w[k + 1] x[k + 1]) + w[k + 1] x[k]
 * Its upper half is the sum of the two products, for |w| and |x| are at most 127: the sum lies within +-32258, and the product below within
 * +-16129, so that 2^15 more make it positive and less than 2^16.
 */
#ifndef QRNN_DOT_MLA_H
#define QRNN_DOT_MLA_H

#define QRNN_OWN_NARROW
#include "qrnn_dot_plain.h"

#define QRNN_OPERAND_WORDS(columns) ((columns) / 2u)

#ifdef QRNN_USE_NARROW
/* to_operand(v_k, shift, limit) of every k */
static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    const uint32_t padded = (count + QRNN_COLUMNS - 1u) / QRNN_COLUMNS * QRNN_COLUMNS;
    for (uint32_t k = 0; k < padded; k += 2u) {
        uint32_t pair = k < count ? (uint32_t)qrnn_to_operand(values[k], shift, limit) : 0u;
        if (k + 1u < count) {
            pair += (uint32_t)qrnn_to_operand(values[k + 1u], shift, limit) << 16;
        }
        QRNN_COPY(&operand[k / 2u], &pair, sizeof pair);
    }
}

/* Operand k, of those that begin at `byte` with an even one */
#define QRNN_NARROW_WIDTH 2U
static inline const uint8_t *qrnn_narrow_operands(const uint32_t *operand)
{
    return (const uint8_t *)operand;
}

static inline uint32_t qrnn_narrow_operand(const uint8_t *byte, uint32_t k)
{
    uint32_t pair;
    QRNN_COPY(&pair, &byte[2u * (k & ~1u)], sizeof pair);
    return (uint32_t)((k & 1u) != 0u ? (int32_t)(pair + 0x8000u) >> 16 : (int32_t)(pair << 16) >> 16);
}

#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2)
#define QRNN_OPERANDS_IN_PLACE
/* Registers: r0 weight, r1 operand; r2, r3, r4, r5 the sums; r6 2^15, r8 the mask of every second byte; r7 X, r10 2^15 - 128 (2^16 + 1) X. */
#define QRNN_ROWS_OF_WORD(word, first, second)                                                                       \
    "and r12, r8, " word "\n\tmla r12, r12, r7, r10\n\tadd " first ", " first ", r12, asr #16\n\t"                   \
    "and " word ", r8, " word ", lsr #8\n\tmla " word ", " word ", r7, r10\n\tadd " second ", " second ", " word ", asr #16\n\t"
#define QRNN_AS_IT_IS
#define QRNN_FROM_RAW "and r12, r7, #32768\n\tsub r7, r7, r12, lsl #1\n\t"
#define QRNN_TWO_COLUMNS(pair)                                                                                       \
    "ldmia r0!, {r11, lr}\n\tldr r7, [r1], #4\n\t" pair "sub r10, r6, r7, lsl #7\n\tsub r10, r10, r7, lsl #23\n\t"           \
    QRNN_ROWS_OF_WORD("r11", "r2", "r3") QRNN_ROWS_OF_WORD("lr", "r4", "r5")
#define QRNN_FOUR_MORE(pair) QRNN_TWO_COLUMNS(pair) QRNN_TWO_COLUMNS(pair)
#ifdef __OPTIMIZE_SIZE__ /* four columns at a time */
#define QRNN_PAIRS_LOOP(pair) "1:\n\t" QRNN_FOUR_MORE(pair)
#elif defined(QRNN_LONG_ROWS) /* 32, in rows that have as many again and again */
#define QRNN_SIXTEEN_MORE(pair) QRNN_FOUR_MORE(pair) QRNN_FOUR_MORE(pair) QRNN_FOUR_MORE(pair) QRNN_FOUR_MORE(pair)
#define QRNN_PAIRS_LOOP(pair) "1:\n\t" QRNN_SIXTEEN_MORE(pair) QRNN_SIXTEEN_MORE(pair)
#else /* sixteen, of which the first pass does those that are left where there are no whole sixteens */
#define QRNN_PAIRS_LOOP(pair)                                                                                        \
    "sub r12, r12, r1\n\tands r12, r12, #31\n\tbeq 1f\n\tcmp r12, #16\n\tbeq 3f\n\tbhi 2f\n\tb 4f\n"                 \
    "1:\n\t" QRNN_FOUR_MORE(pair) "2:\n\t" QRNN_FOUR_MORE(pair) "3:\n\t" QRNN_FOUR_MORE(pair) "4:\n\t" QRNN_FOUR_MORE(pair)
#endif

/* sums = bias + the products of the columns whose operands end at `end` */
#define QRNN_SUM_PAIRS(name, pair)                                                                                   \
    QRNN_NAKED void                                                                                                  \
    name(const int8_t *weight __attribute__((unused)), const uint32_t *operand __attribute__((unused)),              \
         const uint32_t *end __attribute__((unused)), const int32_t *bias __attribute__((unused)),                   \
         int32_t *sums __attribute__((unused)))                                                                      \
    {                                                                                                                \
        __asm__ __volatile__("push {r2, r4-r8, r10, r11, lr}\n\tmov r12, r2\n\tldmia r3, {r2-r5}\n\tmov r6, #32768\n\t" \
                             "mov r8, #0x00FF00FF\n\t" QRNN_PAIRS_LOOP(pair) "ldr r12, [sp]\n\tcmp r1, r12\n\tbne 1b\n\t"  \
                             "ldr r12, [sp, #36]\n\tstmia r12, {r2-r5}\n\tpop {r2, r4-r8, r10, r11, pc}"            \
                             :                                                                                       \
                             :                                                                                       \
                             : "r0", "r1", "r2", "r3", "r12", "cc", "memory");                                       \
    }

QRNN_SUM_PAIRS(qrnn_sum_pairs, QRNN_AS_IT_IS)
static inline void qrnn_dot4(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4], int32_t sums[4])
{
    qrnn_sum_pairs(weight, operand, operand + columns / 2u, bias, sums);
}

#ifdef QRNN_USE_RAW
QRNN_SUM_PAIRS(qrnn_sum_raw_pairs, QRNN_FROM_RAW)
static inline void qrnn_dot4_raw(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4], int32_t sums[4])
{
    qrnn_sum_raw_pairs(weight, operand, operand + columns / 2u, bias, sums);
}
#endif
#else
/* The sum of two products: `weights` has u[k] 2^16 + u[k + 1] */
static inline int32_t qrnn_two_products(uint32_t weights, uint32_t pair)
{
    return (int32_t)((weights - 0x800080u) * pair + 0x8000u) >> 16;
}

#define QRNN_DOT_OF_PAIRS(name, pair_of)                                                                             \
    static void name(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns, const QRNN_FLASH int32_t bias[4], \
                     int32_t sums[4])                                                                                \
    {                                                                                                                \
        /* as which they are stored */                                                                               \
        const QRNN_FLASH uint32_t *words = (const QRNN_FLASH uint32_t *)(const QRNN_FLASH void *)weight;             \
        const uint32_t *const end = operand + columns / 2u;                                                          \
        int32_t s0 = bias[0];                                                                                        \
        int32_t s1 = bias[1];                                                                                        \
        int32_t s2 = bias[2];                                                                                        \
        int32_t s3 = bias[3];                                                                                        \
        for (; operand != end; operand++) {                                                                          \
            const uint32_t pair = pair_of(*operand);                                                                 \
            s0 += qrnn_two_products(words[0] & 0xFF00FFu, pair);                                                     \
            s1 += qrnn_two_products((words[0] >> 8) & 0xFF00FFu, pair);                                              \
            s2 += qrnn_two_products(words[1] & 0xFF00FFu, pair);                                                     \
            s3 += qrnn_two_products((words[1] >> 8) & 0xFF00FFu, pair);                                              \
            words += 2;                                                                                              \
        }                                                                                                            \
        sums[0] = s0;                                                                                                \
        sums[1] = s1;                                                                                                \
        sums[2] = s2;                                                                                                \
        sums[3] = s3;                                                                                                \
    }
#define QRNN_AS_IT_IS(pair) (pair)
#define QRNN_FROM_RAW(pair) ((pair) - (((pair) & 0x8000u) << 1))

QRNN_DOT_OF_PAIRS(qrnn_dot4, QRNN_AS_IT_IS)
#ifdef QRNN_USE_RAW
QRNN_DOT_OF_PAIRS(qrnn_dot4_raw, QRNN_FROM_RAW)
#endif
#endif
#endif

#endif
