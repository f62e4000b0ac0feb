/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot products of four rows with a vector of operands, in C99 for any processor.
 *
 * Weights: column by column, a word: the bytes u0 = w[0][k] + 128, u1 = w[1][k] + 128, u2 = w[2][k] + 128 and w[3][k].
 *
 * Operands, for 8 and for 16 bits: a word with 128 times their sum, modulo 2^32, which is by how much the sums of rows 0, 1 and
 * 2 come out too large; then a word for each. Where there are weights of four bits the sums of 32 operands each follow.
 *
 * Weights of four bits: 32 columns by 32 columns; see qrnn_dot4_four and qrnn_dot4_four_wide.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <stdint.h>
#include "qrnn_contract.h"

#define QRNN_COLUMNS 4u
#ifdef QRNN_USE_FOUR
#define QRNN_PADDED 32u /* operands are padded with zeros to a multiple of this */
#define QRNN_OPERAND_WORDS(columns) (1u + ((columns) + 31u) / 32u * 33u)
#else
#define QRNN_PADDED QRNN_COLUMNS
#define QRNN_OPERAND_WORDS(columns) (1u + (columns))
#endif
#define QRNN_WIDE_OPERAND_WORDS(columns) QRNN_OPERAND_WORDS(columns)

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
#endif

/* to_operand(v_k, shift, limit) of every k */
static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    uint32_t sum = 0;
    uint32_t k;
    for (k = 0; k < count; k++) {
        const int32_t x = qrnn_to_operand(values[k], shift, limit);
        operand[k + 1u] = (uint32_t)x;
        sum += (uint32_t)x;
    }
    for (; (k % QRNN_PADDED) != 0u; k++) {
        operand[k + 1u] = 0;
    }
    operand[0] = sum * 128u;
#ifdef QRNN_USE_FOUR
    qrnn_sum_groups(operand, k);
#endif
}

#if defined(QRNN_USE_WIDE) || defined(QRNN_USE_FOUR_WIDE)
#define qrnn_encode_wide qrnn_encode
#endif

#if defined(QRNN_USE_NARROW) && defined(QRNN_ARM_THUMB_2)
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
/* The loop is assembly where the compiler takes GNU C's: from C it makes 40 % more instructions.
 *
 * A word of weights is loaded before the loop, and then four at a time, so that of two operands that are loaded at once the first one
 * needs a register no longer than the words:
 *     ODD     operands r4, r10; word r12 with r4
 *     EVEN    four words, of which r4 with r10; then again operands r4, r10, with r5 and r8 */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2)
#define QRNN_LONG_ASSEMBLY
#define QRNN_FOUR_ROWS(word, x)                                                                                      \
    "smlal %[all], %[all_high], " word ", " x "\n\tubfx " word ", " word ", #8, #16\n\t"                             \
    "mla %[middle], " word ", " x ", %[middle]\n\tuxtb " word ", " word "\n\t"                                       \
    "mla %[one], " word ", " x ", %[one]\n\t"
#define QRNN_TWO_OPERANDS "ldrd r4, r10, [%[operand]], #8\n\t"
#ifdef __clang__ /* It keeps more registers for itself: two words at a time, r4 with r10 and r8 with r4. */
#define QRNN_LOOP_WORDS "r4", "r8", "r10"
#define QRNN_LOOP_EVEN "ldmia %[weight]!, {r4, r8}\n\t" QRNN_FOUR_ROWS("r4", "r10")
#define QRNN_LOOP_TWO QRNN_TWO_OPERANDS QRNN_FOUR_ROWS("r8", "r4")
#define QRNN_LOOP_ODD QRNN_LOOP_TWO QRNN_LOOP_EVEN QRNN_LOOP_TWO
#define QRNN_LOOP_BEGIN "ldr r8, [%[weight]], #4\n\t"
#define QRNN_LOOP_END "ldr r4, [%[weight]], #4\n\t" QRNN_FOUR_ROWS("r4", "r10")
#else
#define QRNN_LOOP_WORDS "r4", "r5", "r8", "r10", "r12"
#define QRNN_THREE_COLUMNS                                                                                           \
    QRNN_FOUR_ROWS("r4", "r10") QRNN_TWO_OPERANDS QRNN_FOUR_ROWS("r5", "r4") QRNN_FOUR_ROWS("r8", "r10")
#define QRNN_LOOP_ODD QRNN_TWO_OPERANDS QRNN_FOUR_ROWS("r12", "r4")
#define QRNN_LOOP_EVEN "ldmia %[weight]!, {r4, r5, r8, r12}\n\t" QRNN_THREE_COLUMNS
#define QRNN_LOOP_BEGIN "ldr r12, [%[weight]], #4\n\t"
#define QRNN_LOOP_END "ldmia %[weight]!, {r4, r5, r8}\n\t" QRNN_THREE_COLUMNS
#endif
#ifdef __OPTIMIZE_SIZE__ /* four columns at a time */
#define QRNN_ROWS_LOOP QRNN_LOOP_BEGIN "b 2f\n1:\n\t" QRNN_LOOP_EVEN "2:\n\t" QRNN_LOOP_ODD "subs %[chunk], %[chunk], #4\n\tbgt 1b\n\t" QRNN_LOOP_END
#else /* eight, of which the first pass does four where the number of fours is odd */
#ifdef QRNN_EVEN_ROWS
#define QRNN_LOOP_ENTER "b 2f\n"
#else
#define QRNN_LOOP_ENTER "tst %[chunk], #4\n\tbeq 2f\n\tb 3f\n"
#endif
#define QRNN_ROWS_LOOP                                                                                               \
    QRNN_LOOP_BEGIN QRNN_LOOP_ENTER "1:\n\t" QRNN_LOOP_EVEN "2:\n\t" QRNN_LOOP_ODD QRNN_LOOP_EVEN "3:\n\t" QRNN_LOOP_ODD     \
    "subs %[chunk], %[chunk], #8\n\tbgt 1b\n\t" QRNN_LOOP_END
#endif
#endif

QRNN_DOT void qrnn_dot4(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns, const QRNN_FLASH int32_t bias[4],
                      int32_t sums[4])
{
    uint32_t excess = *operand++;
    do {
        uint32_t chunk = columns < QRNN_CHUNK ? columns : QRNN_CHUNK;
        int64_t all = INT32_C(1) << 23;
        uint32_t middle = 0;
        uint32_t one = 0;
        columns -= chunk;
#ifdef QRNN_LONG_ASSEMBLY
        uint32_t all_low = UINT32_C(1) << 23;
        int32_t all_high = 0;
        __asm__(QRNN_ROWS_LOOP
                         : [weight] "+r"(weight), [operand] "+r"(operand), [chunk] "+r"(chunk), [all] "+r"(all_low),
                           [all_high] "+r"(all_high), [middle] "+r"(middle), [one] "+r"(one)
                         :
                         : QRNN_LOOP_WORDS, "cc", "memory");
        all = (int64_t)(((uint64_t)(uint32_t)all_high << 32) | all_low);
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
        sums[0] = (int32_t)((uint32_t)bias[0] + ((uint32_t)all & 0xFFFFFFu) - (excess + (UINT32_C(1) << 23)));
        sums[1] = (int32_t)((uint32_t)bias[1] + one - excess);
        sums[2] = (int32_t)((uint32_t)bias[2] + (uint32_t)((int32_t)(middle - one) >> 8) - excess);
        sums[3] = (int32_t)((uint32_t)bias[3] + (uint32_t)(all >> 24));
        bias = sums;
        excess = 0;
    } while (columns != 0u);
}
#endif

/* With -Os GCC gives no high registers away. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_1) && (defined(__clang__) || !defined(__OPTIMIZE_SIZE__))
#define QRNN_THUMB_1_ASSEMBLY
#endif

#if defined(QRNN_USE_WIDE) || (defined(QRNN_USE_NARROW) && !defined(QRNN_LONG_MULTIPLY))
/* Modulo 2^32, where the word is w3 2^24 + u2 2^16 + u1 2^8 + u0 and >> keeps its sign:
 *     p0 += word x           S3 2^24 + R2 2^16 + R1 2^8 + R0, with R_r = S_r + 128 (sum of the operands)
 *     p1 += (word >> 8) x    S3 2^16 + R2 2^8 + R1
 *     p2 += (word >> 16) x   S3 2^8 + R2
 *     p3 += (word >> 24) x   S3
 * so that R2 = p2 - 2^8 p3, R1 = p1 - 2^8 p2, R0 = p0 - 2^8 p1. No byte is extracted, and no load is narrower than a word. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_1)
/* Cortex-M0: the four sums stand in the high registers, which ADD reaches; a compiler keeps them in memory. */
#define QRNN_HIGH_REGISTERS
#define QRNN_PART(word, shift, x, sum) "asrs r6, " word ", #" shift "\n\tmuls r6, " x "\n\tadd " sum ", r6\n\t"
#define QRNN_COLUMN(word, x)                                                                                         \
    QRNN_PART(word, "24", x, "r12") QRNN_PART(word, "16", x, "r11") QRNN_PART(word, "8", x, "r10")                   \
    "muls " word ", " x "\n\tadd r8, " word "\n\t"
#define QRNN_TWO_COLUMNS "ldmia r0!, {r4, r5}\n\tldmia r1!, {r2, r3}\n\t" QRNN_COLUMN("r4", "r2") QRNN_COLUMN("r5", "r3")

#ifdef __OPTIMIZE_SIZE__ /* four columns at a time */
#define QRNN_SUMS_LOOP "1:\n\t" QRNN_TWO_COLUMNS QRNN_TWO_COLUMNS
#else /* eight, of which the first pass does four where the number of fours is odd: in bit 4 of the bytes of the operands */
#define QRNN_SUMS_LOOP                                                                                               \
    "subs r2, r2, r1\n\tlsls r2, r2, #27\n\tbmi 2f\n1:\n\t" QRNN_TWO_COLUMNS QRNN_TWO_COLUMNS                       \
    "2:\n\t" QRNN_TWO_COLUMNS QRNN_TWO_COLUMNS
#endif

/* p0, p1, p2 and p3 of the columns whose operands end at `end`. r0 weight, r1 operand, lr its end; r8, r10, r11, r12 the sums. */
QRNN_NAKED void
qrnn_four_sums(const int8_t *weight __attribute__((unused)), const uint32_t *operand __attribute__((unused)),
               const uint32_t *end __attribute__((unused)), uint32_t sums[4] __attribute__((unused)))
{
    __asm__ __volatile__(".syntax unified\n\tpush {r3-r7, lr}\n\tmov r4, r8\n\tmov r5, r10\n\tmov r6, r11\n\tpush {r4-r6}\n\t"
            "mov lr, r2\n\tmovs r3, #0\n\tmov r8, r3\n\tmov r10, r3\n\tmov r11, r3\n\tmov r12, r3\n\t"
            QRNN_SUMS_LOOP "cmp r1, lr\n\tbne 1b\n\t"
            "ldr r3, [sp, #12]\n\tmov r4, r8\n\tmov r5, r10\n\tmov r6, r11\n\tmov r7, r12\n\tstmia r3!, {r4-r7}\n\t"
            "pop {r4-r6}\n\tmov r8, r4\n\tmov r10, r5\n\tmov r11, r6\n\tpop {r3-r7, pc}"
            :
            :
            : "r0", "r1", "r2", "r3", "r12", "cc", "memory");
}
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

static void qrnn_dot4_wide(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns, const QRNN_FLASH int32_t bias[4],
                           int32_t sums[4])
{
    const uint32_t excess = *operand;
    operand++;
    const uint32_t *const end = &operand[columns];
#ifdef QRNN_HIGH_REGISTERS
    uint32_t p[4];
    qrnn_four_sums(weight, operand, end, p);
    const uint32_t p0 = p[0];
    const uint32_t p1 = p[1];
    const uint32_t p2 = p[2];
    const uint32_t p3 = p[3];
#else
    uint32_t p0 = 0;
    uint32_t p1 = 0;
    uint32_t p2 = 0;
    uint32_t p3 = 0;
    const QRNN_FLASH uint32_t *words = (const QRNN_FLASH uint32_t *)(const QRNN_FLASH void *)weight; /* as which they are stored */
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
