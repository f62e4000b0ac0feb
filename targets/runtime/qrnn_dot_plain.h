/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot products of four rows with a vector of operands, in C99 for any processor.
 *
 * Weights: column by column, a word: the bytes u0 = w[0][k] + 128, u1 = w[1][k] + 128, u2 = w[2][k] + 128 and w[3][k].
 *
 * Operands: a word, and then a byte x + 128 for each operand of 8 bits or a halfword x + 32768 for each of 16. The word is 128 times the sum of
 * these, modulo 2^32, which is by how much the sums of rows 0, 1 and 2 come out too large. That operands are positive adds 128 or 32768 times
 * the sum of a row's weights, which its bias has less.
 *
 * Weights of four bits: 32 columns by 32 columns; see qrnn_dot4_four and qrnn_dot4_four_wide. Their operands, of 8 and of 16 bits, are words,
 * of which the first is not used; the sums of 32 operands each follow.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <stdint.h>
#include "qrnn_contract.h"

#define QRNN_COLUMNS 4u
#define QRNN_PADDED QRNN_COLUMNS /* operands are padded with zeros to a multiple of this; those of weights of four bits to one of 32 */
#define QRNN_FOUR_IN_WORDS
#ifndef QRNN_OWN_NARROW /* qrnn_dot_mla.h has another form of operands of 8 bits, and products of its own */
#define QRNN_OPERAND_WORDS(columns) (1u + (columns) / 4u)
#endif
#define QRNN_WIDE_OPERAND_WORDS(columns) (1u + (columns) / 2u)
#define QRNN_FOUR_OPERAND_WORDS(columns) (1u + ((columns) + 31u) / 32u * 33u)

#if defined(QRNN_USE_NARROW) && !defined(QRNN_OWN_NARROW)
#define QRNN_PLAIN_NARROW
#endif

#ifdef QRNN_PLAIN_NARROW
/* to_operand(v_k, shift, limit) of every k */
static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    uint8_t *const byte = (uint8_t *)&operand[1];
    uint32_t sum = 0;
    uint32_t k;
    for (k = 0; k < count; k++) {
        const uint32_t x = (uint32_t)(qrnn_to_operand(values[k], shift, limit) + 128);
        byte[k] = (uint8_t)x;
        sum += x;
    }
    for (; (k % QRNN_COLUMNS) != 0u; k++) {
        byte[k] = 128u;
        sum += 128u;
    }
    operand[0] = sum * 128u;
}
#endif

#ifdef QRNN_USE_WIDE
/* Operand k of 16 bits, x + 32768 */
static inline void qrnn_put_wide(uint32_t *operand, uint32_t k, uint32_t x)
{
    uint8_t *const byte = (uint8_t *)&operand[1];
    byte[2u * k] = (uint8_t)(x & 0xFFu);
    byte[2u * k + 1u] = (uint8_t)(x >> 8);
}

static void qrnn_encode_wide(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    uint32_t sum = 0;
    uint32_t k;
    for (k = 0; k < count; k++) {
        const uint32_t x = (uint32_t)(qrnn_to_operand(values[k], shift, limit) + INT32_C(32768));
        qrnn_put_wide(operand, k, x);
        sum += x;
    }
    for (; (k % QRNN_COLUMNS) != 0u; k++) {
        qrnn_put_wide(operand, k, 32768u);
        sum += 32768u;
    }
    operand[0] = sum * 128u;
}
#endif

#ifdef QRNN_USE_FOUR
/* The sums of 32 operands each, behind the `columns` operands */
static inline void qrnn_sum_groups(uint32_t *operand, uint32_t columns)
{
    for (uint32_t group = 0; group < (columns / 32u); group++) {
        uint32_t sum = 0;
        for (uint32_t j = 1; j <= 32u; j++) {
            sum += operand[(32u * group) + j];
        }
        operand[1u + columns + group] = sum;
    }
}

/* The operands of weights of four bits */
static void qrnn_encode_four(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    uint32_t k;
    for (k = 0; k < count; k++) {
        operand[k + 1u] = (uint32_t)qrnn_to_operand(values[k], shift, limit);
    }
    for (; (k % 32u) != 0u; k++) {
        operand[k + 1u] = 0;
    }
    qrnn_sum_groups(operand, k);
}
#endif

/* With -Os GCC gives no high registers away. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_1) && (defined(__clang__) || !defined(__OPTIMIZE_SIZE__))
#define QRNN_THUMB_1_ASSEMBLY
#endif

/* Operand k of 8 or of 16 bits, as it is stored */
#ifdef QRNN_PLAIN_NARROW
#define QRNN_NARROW_WIDTH 1U
static inline const uint8_t *qrnn_narrow_operands(const uint32_t *operand)
{
    return (const uint8_t *)&operand[1];
}

static inline uint32_t qrnn_narrow_operand(const uint8_t *byte, uint32_t k)
{
    return byte[k];
}
#endif

#ifdef QRNN_USE_WIDE
static inline const uint8_t *qrnn_wide_operands(const uint32_t *operand)
{
    return (const uint8_t *)&operand[1];
}

static inline uint32_t qrnn_wide_operand(const uint8_t *byte, uint32_t k)
{
    const void *const place = &byte[2u * k];
    uint16_t x;
    QRNN_COPY(&x, place, sizeof x);
    return x;
}
#endif

#if defined(QRNN_USE_WIDE) || defined(QRNN_PLAIN_NARROW)
/* Modulo 2^32, where the word is w3 2^24 + u2 2^16 + u1 2^8 + u0, >> keeps its sign, and x is an operand as it is stored:
 *     p0 += word x           S3 2^24 + R2 2^16 + R1 2^8 + R0, with R_r = S_r + 128 (sum of the operands)
 *     p1 += (word >> 8) x    S3 2^16 + R2 2^8 + R1
 *     p2 += (word >> 16) x   S3 2^8 + R2
 *     p3 += (word >> 24) x   S3
 * so that R2 = p2 - 2^8 p3, R1 = p1 - 2^8 p2, R0 = p0 - 2^8 p1. No byte of the weights is extracted. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_1)
/* Cortex-M0: the four sums stand in the high registers, which ADD reaches; a compiler keeps them in memory. */
#define QRNN_HIGH_REGISTERS
#define QRNN_PART(word, shift, sum) "asrs r6, " word ", #" shift "\n\tmuls r6, r2\n\tadd " sum ", r6\n\t"
#define QRNN_COLUMN(load, word)                                                                                      \
    load QRNN_PART(word, "24", "r12") QRNN_PART(word, "16", "r11") QRNN_PART(word, "8", "r10")                       \
    "muls " word ", r2\n\tadd r8, " word "\n\t"
#define QRNN_FOUR_COLUMNS(load, a, b, c, d)                                                                          \
    "ldmia r0!, {r3, r4, r5, r7}\n\t"                                                                                \
    QRNN_COLUMN(load(a), "r3") QRNN_COLUMN(load(b), "r4") QRNN_COLUMN(load(c), "r5") QRNN_COLUMN(load(d), "r7")
#define QRNN_BYTE_OPERAND(k) "ldrb r2, [r1, #" #k "]\n\t"
#define QRNN_HALFWORD_OPERAND(k) "ldrh r2, [r1, #2 * " #k "]\n\t"

#ifdef __OPTIMIZE_SIZE__ /* four columns at a time */
#define QRNN_SUMS_LOOP(load, width)                                                                                  \
    "1:\n\t" QRNN_FOUR_COLUMNS(load, 0, 1, 2, 3) "adds r1, #4 * " #width "\n\tcmp r1, lr\n\tbne 1b\n\t"
#else /* sixteen, of which the first pass does those that are left where there are no whole sixteens */
#define QRNN_SUMS_LOOP(load, width)                                                                                  \
    "subs r2, r2, r1\n\tlsls r2, r2, #29 - " #width "\n\tlsrs r2, r2, #29 - " #width "\n\tbeq 1f\n\t"                \
    "adds r1, r1, r2\n\tsubs r1, #16 * " #width "\n\tcmp r2, #8 * " #width "\n\tbeq 3f\n\tbhi 2f\n\tb 4f\n"          \
    "1:\n\t" QRNN_FOUR_COLUMNS(load, 0, 1, 2, 3) "2:\n\t" QRNN_FOUR_COLUMNS(load, 4, 5, 6, 7)                          \
    "3:\n\t" QRNN_FOUR_COLUMNS(load, 8, 9, 10, 11) "4:\n\t" QRNN_FOUR_COLUMNS(load, 12, 13, 14, 15)                    \
    "adds r1, #16 * " #width "\n\tcmp r1, lr\n\tbeq 5f\n\tb 1b\n5:\n\t"
#endif

/* p0, p1, p2 and p3 of the columns whose operands, of `width` bytes, end at `end`. r0 weight, r1 operand, lr its end; r8, r10, r11, r12 the
 * sums. */
#define QRNN_FOUR_SUMS(name, load, width)                                                                            \
    QRNN_NAKED void                                                                                                  \
    name(const int8_t *weight __attribute__((unused)), const uint8_t *operand __attribute__((unused)),               \
         const uint8_t *end __attribute__((unused)), uint32_t sums[4] __attribute__((unused)))                       \
    {                                                                                                                \
        __asm__ __volatile__(                                                                                        \
            ".syntax unified\n\tpush {r3-r7, lr}\n\tmov r4, r8\n\tmov r5, r10\n\tmov r6, r11\n\tpush {r4-r6}\n\t"        \
            "mov lr, r2\n\tmovs r3, #0\n\tmov r8, r3\n\tmov r10, r3\n\tmov r11, r3\n\tmov r12, r3\n\t"                   \
            QRNN_SUMS_LOOP(load, width)                                                                              \
            "ldr r3, [sp, #12]\n\tmov r4, r8\n\tmov r5, r10\n\tmov r6, r11\n\tmov r7, r12\n\tstmia r3!, {r4-r7}\n\t"      \
            "pop {r4-r6}\n\tmov r8, r4\n\tmov r10, r5\n\tmov r11, r6\n\tpop {r3-r7, pc}"                               \
            :                                                                                                        \
            :                                                                                                        \
            : "r0", "r1", "r2", "r3", "r12", "cc", "memory");                                                        \
    }
#ifdef QRNN_PLAIN_NARROW
QRNN_FOUR_SUMS(qrnn_four_sums, QRNN_BYTE_OPERAND, 1)
#endif
#ifdef QRNN_USE_WIDE
QRNN_FOUR_SUMS(qrnn_four_sums_wide, QRNN_HALFWORD_OPERAND, 2)
#endif
#define QRNN_SUM_COLUMNS(function, width, operand_of)                                    \
    uint32_t p[4];                                                                       \
    function(weight, byte, &byte[(width) * columns], p);                                 \
    const uint32_t p0 = p[0];                                                            \
    const uint32_t p1 = p[1];                                                            \
    const uint32_t p2 = p[2];                                                            \
    const uint32_t p3 = p[3];
#else
#define QRNN_COLUMN(operand_of, k)                                                       \
    {                                                                                    \
        const uint32_t x = operand_of(byte, k);                                          \
        const int32_t word = (int32_t)words[k];                                          \
        p0 += (uint32_t)word * x;                                                        \
        p1 += (uint32_t)(word >> 8) * x;                                                 \
        p2 += (uint32_t)(word >> 16) * x;                                                \
        p3 += (uint32_t)(word >> 24) * x;                                                \
    }
#define QRNN_SUM_COLUMNS(function, width, operand_of)                                    \
    const uint8_t *const end = &byte[(width) * columns];                                 \
    uint32_t p0 = 0;                                                                     \
    uint32_t p1 = 0;                                                                     \
    uint32_t p2 = 0;                                                                     \
    uint32_t p3 = 0;                                                                     \
    /* as which they are stored */                                                       \
    const QRNN_FLASH uint32_t *words = (const QRNN_FLASH uint32_t *)(const QRNN_FLASH void *)weight; \
    do {                                                                                 \
        QRNN_COLUMN(operand_of, 0)                                                       \
        QRNN_COLUMN(operand_of, 1)                                                       \
        QRNN_COLUMN(operand_of, 2)                                                       \
        QRNN_COLUMN(operand_of, 3)                                                       \
        byte += 4 * (width);                                                             \
        words += 4;                                                                      \
    } while (byte != end);
#endif

#define QRNN_DOT_OF(name, function, width, operand_of)                                                               \
    static void name(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns, const QRNN_FLASH int32_t bias[4], \
                     int32_t sums[4])                                                                                \
    {                                                                                                                \
        const uint32_t excess = operand[0];                                                                          \
        const uint8_t *byte = (const uint8_t *)&operand[1];                                                          \
        QRNN_SUM_COLUMNS(function, width, operand_of)                                                                \
        sums[0] = (int32_t)((uint32_t)bias[0] + p0 - (p1 << 8) - excess);                                            \
        sums[1] = (int32_t)((uint32_t)bias[1] + p1 - (p2 << 8) - excess);                                            \
        sums[2] = (int32_t)((uint32_t)bias[2] + p2 - (p3 << 8) - excess);                                            \
        sums[3] = (int32_t)((uint32_t)bias[3] + p3);                                                                 \
    }
#ifdef QRNN_PLAIN_NARROW
QRNN_DOT_OF(qrnn_dot4, qrnn_four_sums, 1u, qrnn_narrow_operand)
#endif
#ifdef QRNN_USE_WIDE
QRNN_DOT_OF(qrnn_dot4_wide, qrnn_four_sums_wide, 2u, qrnn_wide_operand)
#endif
#endif

#ifdef QRNN_USE_FOUR_NARROW
/* Of each 32 columns: the scales of the four rows, a byte each; then a word for two columns, k and k + 1, with u = q + 8:
 *     u[0][k], u[2][k], u[0][k + 1], u[2][k + 1], u[1][k], u[3][k], u[1][k + 1], u[3][k + 1], from the lowest four bits on.
 * Two rows are one number: the bits of 0x000F000F hold u[r + 1] 2^16 + u[r], whose products add up to
 *     8 (2^16 + 1) (sum of the operands) + S[r + 1] 2^16 + S[r]        modulo 2^32
 * and |S| <= 32 * 8 * 127 < 2^15, so that both can be told from each other. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2)
#define QRNN_TWO_COLUMNS_OF_FOUR(word)                                                                               \
    "ldrd %[x], %[next], [%[operand]], #8\n\t"                                                                      \
    "and %[t], %[mask], " word "\n\tmla %[p01], %[t], %[x], %[p01]\n\t"                                             \
    "and %[t], %[mask], " word ", lsr #4\n\tmla %[p23], %[t], %[x], %[p23]\n\t"                                     \
    "and %[t], %[mask], " word ", lsr #8\n\tmla %[p01], %[t], %[next], %[p01]\n\t"                                  \
    "and %[t], %[mask], " word ", lsr #12\n\tmla %[p23], %[t], %[next], %[p23]\n\t"
#define QRNN_GROUP_OF_FOUR                                                                                           \
    uint32_t x;                                                                                                      \
    uint32_t next;                                                                                                   \
    uint32_t t;                                                                                                      \
    __asm__("1:\n\tldmia %[words]!, {r4, r5}\n\t" QRNN_TWO_COLUMNS_OF_FOUR("r4") QRNN_TWO_COLUMNS_OF_FOUR("r5")      \
            "cmp %[operand], %[end]\n\tbne 1b"                                                                      \
            : [words] "+r"(words), [operand] "+r"(operand), [p01] "+r"(p01), [p23] "+r"(p23), [x] "=&r"(x),          \
              [next] "=&r"(next), [t] "=&r"(t)                                                                       \
            : [end] "r"(group_end), [mask] "r"(0x000F000Fu)                                                          \
            : "r4", "r5", "cc", "memory");
#elif defined(QRNN_THUMB_1_ASSEMBLY)
#define QRNN_TWO_ROWS_OF_FOUR(sum)                                                                                   \
    "ands %[t], %[mask]\n\tmuls %[t], %[x]\n\tadd %[" sum "], %[t]\n\t"
#define QRNN_TWO_COLUMNS_OF_FOUR                                                                                     \
    "ldmia %[words]!, {%[word]}\n\tldmia %[operand]!, {%[x]}\n\tmovs %[t], %[word]\n\t" QRNN_TWO_ROWS_OF_FOUR("p01") \
    "lsrs %[t], %[word], #4\n\t" QRNN_TWO_ROWS_OF_FOUR("p23") "ldmia %[operand]!, {%[x]}\n\t"                        \
    "lsrs %[t], %[word], #8\n\t" QRNN_TWO_ROWS_OF_FOUR("p01") "lsrs %[t], %[word], #12\n\t" QRNN_TWO_ROWS_OF_FOUR("p23")
#define QRNN_GROUP_OF_FOUR                                                                                           \
    uint32_t x;                                                                                                      \
    uint32_t word;                                                                                                   \
    uint32_t t;                                                                                                      \
    __asm__(".syntax unified\n1:\n\t" QRNN_TWO_COLUMNS_OF_FOUR QRNN_TWO_COLUMNS_OF_FOUR "cmp %[operand], %[end]\n\t"  \
            "bne 1b"                                                                                                 \
            : [words] "+l"(words), [operand] "+l"(operand), [p01] "+h"(p01), [p23] "+h"(p23), [x] "=&l"(x),          \
              [word] "=&l"(word), [t] "=&l"(t)                                                                       \
            : [end] "h"(group_end), [mask] "l"(0x000F000Fu)                                                          \
            : "cc", "memory");
#else
#define QRNN_TWO_COLUMNS_OF_FOUR(k)                                          \
    {                                                                        \
        const uint32_t word = words[(k) / 2];                                \
        p01 += (word & 0x000F000Fu) * operand[k];                            \
        p23 += ((word >> 4) & 0x000F000Fu) * operand[k];                     \
        p01 += ((word >> 8) & 0x000F000Fu) * operand[(k) + 1];               \
        p23 += ((word >> 12) & 0x000F000Fu) * operand[(k) + 1];              \
    }
#define QRNN_GROUP_OF_FOUR                                                   \
    do {                                                                     \
        QRNN_TWO_COLUMNS_OF_FOUR(0)                                          \
        QRNN_TWO_COLUMNS_OF_FOUR(2)                                          \
        operand += 4;                                                        \
        words += 2;                                                          \
    } while (operand != group_end);
#endif

QRNN_DOT void qrnn_dot4_four(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns, const QRNN_FLASH int32_t bias[4],
                           int32_t sums[4])
{
    const uint32_t *group_sum = &operand[columns + 1u];
    const uint32_t *const end = group_sum;
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    operand++;
    do {
        const QRNN_FLASH uint32_t *words = (const QRNN_FLASH uint32_t *)(const QRNN_FLASH void *)&weight[4]; /* as which they are stored */
        const uint32_t *const group_end = &operand[32];
        const uint32_t offset = *group_sum * 0x80008u;
        group_sum++;
        uint32_t p01 = 0u - offset;
        uint32_t p23 = 0u - offset;
        QRNN_GROUP_OF_FOUR
        s0 += (int32_t)weight[0] * (int16_t)(p01 & 0xFFFFu);
        s1 += weight[1] * ((int32_t)(p01 + 0x8000u) >> 16);
        s2 += (int32_t)weight[2] * (int16_t)(p23 & 0xFFFFu);
        s3 += weight[3] * ((int32_t)(p23 + 0x8000u) >> 16);
        weight += 68;
    } while (operand != end);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#ifdef QRNN_USE_FOUR_WIDE
/* Of each 32 columns: the scales, then a halfword for each column, u0, u1, u2 and q3 from the lowest four bits on, u = q + 8. The
 * sums are taken as in qrnn_dot4_wide, 16 in place of 2^8, and |S| <= 32 * 8 * 32767 < 2^23. */
static void qrnn_dot4_four_wide(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns, const QRNN_FLASH int32_t bias[4],
                                int32_t sums[4])
{
    const uint32_t *group_sum = &operand[columns + 1u];
    const uint32_t *const end = group_sum;
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    operand++;
    do {
        const QRNN_FLASH uint32_t *words = (const QRNN_FLASH uint32_t *)(const QRNN_FLASH void *)&weight[4];
        const uint32_t *const group_end = &operand[32];
        const uint32_t offset = *group_sum * 8u;
        group_sum++;
        uint32_t p0 = 0;
        uint32_t p1 = 0;
        uint32_t p2 = 0;
        uint32_t p3 = 0;
        do {
            const int32_t high = (int32_t)*words >> 16; /* of the second column */
            const int32_t low = (int16_t)(*words & 0xFFFFu);
            const uint32_t x = operand[0];
            const uint32_t next = operand[1];
            p0 += ((uint32_t)low * x) + ((uint32_t)high * next);
            p1 += ((uint32_t)(low >> 4) * x) + ((uint32_t)(high >> 4) * next);
            p2 += ((uint32_t)(low >> 8) * x) + ((uint32_t)(high >> 8) * next);
            p3 += ((uint32_t)(low >> 12) * x) + ((uint32_t)(high >> 12) * next);
            operand += 2;
            words++;
        } while (operand != group_end);
        s0 += weight[0] * (int32_t)(p0 - (p1 << 4) - offset);
        s1 += weight[1] * (int32_t)(p1 - (p2 << 4) - offset);
        s2 += weight[2] * (int32_t)(p2 - (p3 << 4) - offset);
        s3 += weight[3] * (int32_t)p3;
        weight += 68;
    } while (operand != end);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#endif
