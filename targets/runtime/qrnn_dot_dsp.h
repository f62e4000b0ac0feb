/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot products of four rows with a vector of operands, for the Arm DSP extension (Cortex-M4, M7, M33).
 *
 * Weights: two columns by two columns, for rows 0 and 1, then for rows 2 and 3, a word a0 b0 a1 b1, with a_k = w[r][k] and
 * b_k = w[r + 1][k], less 1 where a_k < 0. So its signed halfwords are h_k = 256 w[r + 1][k] + w[r][k]: two rows in one number.
 *
 * Operands: two columns to a word, as signed halfwords, for 8 and for 16 bits. Where there are weights of four bits the sums of 32
 * operands each follow.
 *
 * Two rows and two columns are three instructions, beside the load:
 *     both += h_0 x_0 + h_1 x_1        SMLAD, SMLALD       both = 256 S[r + 1] + S[r]
 *     low  += a_0 x_0 + a_1 x_1        SXTB16, SMLAD       low = S[r], so that S[r + 1] = (both - low) / 256 exactly
 *
 * Short rows may have weights of 16 bits: two columns by two columns, a word for each row, the last four columns before the others. A row and
 * two columns are one SMLAD then, and what else a block costs is less, as no sum needs more than 32 bits.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <arm_acle.h>
#include <stdint.h>
#include "qrnn_types.h"

#define QRNN_COLUMNS 4u
#ifdef QRNN_USE_FOUR
#define QRNN_PADDED 32u /* operands are padded with zeros to a multiple of this */
#define QRNN_OPERAND_WORDS(columns) (((columns) + 31u) / 32u * 17u)
#else
#define QRNN_PADDED QRNN_COLUMNS
#define QRNN_OPERAND_WORDS(columns) ((columns) / 2u)
#endif
#define QRNN_WIDE_OPERAND_WORDS(columns) QRNN_OPERAND_WORDS(columns)

/* clamp((v + 2^(shift - 1)) >> shift, -limit, limit) of both halves of a word. It is (floor(v / 2^(shift - 1)) + 1) >> 1 before it is clamped:
 * a product with 2^(17 - shift), of which SMLAWB and SMLAWT keep what is above 16 bits, and SHADD16. min(v, limit) is (v + up) - up where the
 * sum saturates at 32767 = limit + up, and max(v, -limit) likewise. */
static inline uint32_t qrnn_operands(uint32_t pair, uint32_t shift, int32_t limit)
{
    const int32_t up = (32767 - limit) * 0x10001;
    const int32_t down = (32768 - limit) * 0x10001;
    int32_t both = (int32_t)pair;

    if (shift != 0u) {
        const int32_t factor = INT32_C(1) << (17u - shift);
        const uint32_t low = (uint32_t)__smlawb(factor, both, 0) & 0xFFFFu;
        const uint32_t high = (uint32_t)__smlawt(factor, both, 0) << 16;
        both = __shadd16((int32_t)(low | high), 0x10001);
    }
#if defined(QRNN_GNU_ASSEMBLY) && (defined(QRNN_ARM_THUMB_2) || defined(QRNN_ARM_ARM))
    if (limit == 127) { /* one instruction limits both to -128 … 127 */
        __asm("ssat16 %0, #8, %1" : "=r"(both) : "r"(both));
        return (uint32_t)__qadd16(__qsub16(both, down), down);
    }
#endif
    return (uint32_t)__qadd16(__qsub16(__qsub16(__qadd16(both, up), up), down), down);
}

#if defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE) || defined(QRNN_USE_FOUR) || defined(QRNN_USE_HALVES)
#ifdef QRNN_USE_FOUR
/* The sums of 32 operands each, behind the `columns` operands */
static inline void qrnn_sum_groups(uint32_t *operand, uint32_t columns)
{
    uint32_t *sums = operand + columns / 2u;
    for (const uint32_t *const last = sums; operand != last;) {
        int32_t sum = 0;
        for (uint32_t k = 0; k < 16u; k++) {
            sum = __smlad((int32_t)*operand++, 0x10001, sum);
        }
        *sums++ = (uint32_t)sum;
    }
}
#endif

static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    const int16_t *const end = &values[(count / 2u) * 2u];
    uint32_t padding = ((0u - count) % QRNN_PADDED) / 2u;
#ifdef QRNN_USE_FOUR
    uint32_t *const first = operand;
#endif
    while (values != end) {
        uint32_t pair;
        QRNN_COPY(&pair, values, sizeof pair);
        pair = qrnn_operands(pair, shift, limit);
        QRNN_COPY(operand, &pair, sizeof pair);
        operand++;
        values += 2;
    }
    if ((count & 1u) != 0u) {
        *operand = qrnn_operands((uint32_t)values[0] & 0xFFFFu, shift, limit);
        operand++;
    }
    for (; padding != 0u; padding--) {
        *operand = 0;
        operand++;
    }
#ifdef QRNN_USE_FOUR
    qrnn_sum_groups(first, (uint32_t)(operand - first) * 2u);
#endif
}
#endif

#if defined(QRNN_USE_WIDE) || defined(QRNN_USE_FOUR_WIDE)
#define qrnn_encode_wide qrnn_encode
#endif

/* The loops are assembly where the compiler takes GNU C's: from the C beside them it makes 70 % more instructions, since it does
 * not load four words by one instruction. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2)
#define QRNN_DSP_ASSEMBLY
#define QRNN_OPERANDS_IN_PLACE
#define QRNN_SMLAD(sum, word, x) "smlad %[" sum "], " word ", " x ", %[" sum "]\n\t"
#define QRNN_SMLALD(sum, word, x) "smlald %[" sum "], %[" sum "_high], " word ", " x "\n\t"
/* Two columns of all rows, in the order in which Cortex-M7 issues two instructions at once: a product with the SXTB16 of the word that it has
 * read. No product follows one of its own sum, or the SXTB16 of its own word, directly, since it would wait. */
#define QRNN_SXTB16(word) "sxtb16 " word ", " word "\n\t"
#define QRNN_TWO_COLUMNS(mac, word0, word2, x)                                                                       \
    mac("both0", word0, x) QRNN_SXTB16(word0) mac("both2", word2, x) QRNN_SXTB16(word2)                              \
    QRNN_SMLAD("low0", word0, x) QRNN_SMLAD("low2", word2, x)
#define QRNN_TWO_COLUMNS_OF_FOUR(word, x)                                                                            \
    QRNN_SMLAD("all", word, x) "and %[t], " word ", #0x0F000F00\n\t" QRNN_SMLAD("r2", "%[t]", x)                     \
    "and %[t], " word ", #0x00F000F0\n\t" QRNN_SMLAD("r1", "%[t]", x)                                               \
    "and %[t], " word ", #0x000F000F\n\t" QRNN_SMLAD("r0", "%[t]", x)
#define QRNN_TWO_COLUMNS_OF_FOUR_WIDE(word)                                                                          \
    "ldr %[x], [%[operand]], #4\n\tand %[t], %[mask], " word "\n\t" QRNN_SMLAD("r0", "%[t]", "%[x]")                 \
    "and %[t], %[mask], " word ", lsr #4\n\t" QRNN_SMLAD("r1", "%[t]", "%[x]")                                       \
    "and %[t], %[mask], " word ", lsr #8\n\t" QRNN_SMLAD("r2", "%[t]", "%[x]")                                       \
    "and %[t], %[mask], " word ", lsr #12\n\t" QRNN_SMLAD("r3", "%[t]", "%[x]")
#define QRNN_FOUR_COLUMNS_OF_FOUR                                                                                    \
    "ldrd %[w0], %[w1], [%[weight]], #8\n\t"                                                                         \
    "ldrd %[x0], %[x1], [%[operand]], #8\n\t"                                                                        \
    QRNN_TWO_COLUMNS_OF_FOUR("%[w0]", "%[x0]") QRNN_TWO_COLUMNS_OF_FOUR("%[w1]", "%[x1]")
#endif

#ifdef QRNN_USE_NARROW
/* |S| <= 512 * 127 * 127 < 2^23 in a chunk of columns: 256 S[r + 1] + S[r] is computed modulo 2^32, its first term is an int32. */
#ifdef QRNN_SHORT_ROWS /* no row of the model has more than 256 columns */
#define QRNN_CHUNK 0xFFFFFFFFu
#else
#define QRNN_CHUNK 512u
#endif

#ifdef QRNN_DSP_ASSEMBLY
/* A row of words w0, w1, … for two columns by two columns, and of operands x0, x1, …. Two words of weights are loaded before the loop,
 * and then four at a time, so that of two operands that are loaded at once the first one needs a register no longer than the words:
 *     ODD     operands r4, r10; words r8, r12 with r4
 *     EVEN    four words; r4, r5 with r10 */
#define QRNN_LOOP_ODD "ldrd r4, r10, [%[operand]], #8\n\t" QRNN_TWO_COLUMNS(QRNN_SMLAD, "r8", "r12", "r4")
#define QRNN_LOOP_EVEN "ldmia.w %[weight]!, {r4, r5, r8, r12}\n\t" QRNN_TWO_COLUMNS(QRNN_SMLAD, "r4", "r5", "r10")
/* The first four columns but two, groups of four columns, of which a pass is four or one, and the last two columns. The first pass does as many
 * groups as leave whole passes behind it. A group is 14 instructions of four bytes. ADR counts from a whole word, so that the assembler has to
 * know where words begin. */
#define QRNN_LOOP_BEGIN "ldrd r8, r12, [%[weight]], #8\n\t" QRNN_LOOP_ODD
#define QRNN_LOOP_END "ldrd r4, r5, [%[weight]], #8\n\t" QRNN_TWO_COLUMNS(QRNN_SMLAD, "r4", "r5", "r10")
#ifdef __OPTIMIZE_SIZE__
#define QRNN_ROWS_LOOP                                                                                               \
    QRNN_LOOP_BEGIN "b 2f\n1:\n\t" QRNN_LOOP_EVEN QRNN_LOOP_ODD "2:\n\tsubs %[chunk], %[chunk], #4\n\tbgt 1b\n\t" QRNN_LOOP_END
#else
#define QRNN_ROWS_LOOP                                                                                               \
    QRNN_LOOP_BEGIN "sub %[chunk], %[chunk], #4\n\tand r4, %[chunk], #12\n\tbic %[chunk], %[chunk], #15\n\t"         \
    "rsb r4, r4, r4, lsl #3\n\t.balign 4\n\tadr.w r5, 2f\n\tsub r5, r5, r4, lsl #1\n\torr r5, r5, #1\n\tbx r5\n1:\n\t"           \
    QRNN_LOOP_EVEN QRNN_LOOP_ODD QRNN_LOOP_EVEN QRNN_LOOP_ODD QRNN_LOOP_EVEN QRNN_LOOP_ODD QRNN_LOOP_EVEN QRNN_LOOP_ODD        \
    "2:\n\tsubs %[chunk], %[chunk], #16\n\tbge.w 1b\n\t" QRNN_LOOP_END
#endif
#endif

QRNN_DOT void qrnn_dot4(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                      int32_t sums[4])
{
    do {
        uint32_t chunk = (columns < QRNN_CHUNK) ? columns : QRNN_CHUNK;
        int32_t low0 = bias[0];
        int32_t low2 = bias[2];
        int32_t both0 = low0;
        int32_t both2 = low2;
        columns -= chunk;
#ifdef QRNN_DSP_ASSEMBLY
        __asm__(QRNN_ROWS_LOOP
                         : [weight] "+r"(weight), [operand] "+r"(operand), [chunk] "+r"(chunk), [both0] "+r"(both0),
                           [both2] "+r"(both2), [low0] "+r"(low0), [low2] "+r"(low2)
                         :
                         : "r4", "r5", "r8", "r10", "r12", "cc", "memory");
#else
        for (; chunk != 0u; chunk -= 2u) {
            const int32_t x = (int32_t)*operand++;
            int32_t word[2];
            QRNN_COPY(word, weight, sizeof word);
            weight += sizeof word;
            both0 = __smlad(word[0], x, both0);
            low0 = __smlad(__sxtb16(word[0]), x, low0);
            both2 = __smlad(word[1], x, both2);
            low2 = __smlad(__sxtb16(word[1]), x, low2);
        }
#endif
        sums[0] = low0;
        sums[1] = bias[1] + ((int32_t)((uint32_t)both0 - (uint32_t)low0) >> 8);
        sums[2] = low2;
        sums[3] = bias[3] + ((int32_t)((uint32_t)both2 - (uint32_t)low2) >> 8);
        bias = sums;
    } while (columns != 0u);
}
#endif

#ifdef QRNN_USE_WIDE
/* Here both takes 64 bits: |both| <= 257 * 2^31. */
#ifdef QRNN_DSP_ASSEMBLY
#define QRNN_FOUR_COLUMNS_WIDE                                                                                       \
    "ldrd %[x0], %[x1], [%[operand]], #8\n\t"                                                                        \
    "ldrd %[w0], %[w1], [%[weight]], #8\n\t" QRNN_TWO_COLUMNS(QRNN_SMLALD, "%[w0]", "%[w1]", "%[x0]")                \
    "ldrd %[w0], %[w1], [%[weight]], #8\n\t" QRNN_TWO_COLUMNS(QRNN_SMLALD, "%[w0]", "%[w1]", "%[x1]")
/* Where the loop ends is on the stack, since the sums leave no register for it. It comes in x0, and the number of columns in x1. */
#define QRNN_LOOP_BEGIN_WIDE "push {%[x0]}\n\t"
#define QRNN_LOOP_END_WIDE "ldr %[x0], [sp]\n\tcmp %[operand], %[x0]\n\tbne.w 1b\n\tadd sp, sp, #4"
#ifdef __OPTIMIZE_SIZE__ /* four columns at a time */
#define QRNN_ROWS_LOOP_WIDE QRNN_LOOP_BEGIN_WIDE "1:\n\t" QRNN_FOUR_COLUMNS_WIDE QRNN_LOOP_END_WIDE
#else /* sixteen, of which the first pass leaves out as many fours, of 15 instructions of four bytes, as the last of all would lack */
#define QRNN_ROWS_LOOP_WIDE                                                                                          \
    QRNN_LOOP_BEGIN_WIDE "rsb %[x1], %[x1], #0\n\tand %[x1], %[x1], #12\n\trsb %[x1], %[x1], %[x1], lsl #4\n\t"      \
    ".balign 4\n\tadr.w %[w0], 1f\n\tadd %[w0], %[w0], %[x1]\n\torr %[w0], %[w0], #1\n\tbx %[w0]\n1:\n\t"                          \
    QRNN_FOUR_COLUMNS_WIDE QRNN_FOUR_COLUMNS_WIDE QRNN_FOUR_COLUMNS_WIDE QRNN_FOUR_COLUMNS_WIDE QRNN_LOOP_END_WIDE
#endif
#endif

QRNN_WIDE_DOT void qrnn_dot4_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                           int32_t sums[4])
{
    int32_t low0 = bias[0];
    int32_t low2 = bias[2];
#ifdef QRNN_DSP_ASSEMBLY
    const uint8_t *x0 = (const uint8_t *)operand + (2u * columns);
    uint32_t x1 = columns;
    uint32_t w0;
    uint32_t w1;
    uint32_t sum0 = (uint32_t)low0;
    uint32_t sum2 = (uint32_t)low2;
    int32_t sum0_high = -(int32_t)((uint32_t)low0 >> 31); /* its sign in all bits */
    int32_t sum2_high = -(int32_t)((uint32_t)low2 >> 31);
    int64_t both0;
    int64_t both2;
    __asm__(QRNN_ROWS_LOOP_WIDE
                     : [weight] "+r"(weight), [operand] "+r"(operand), [both0] "+r"(sum0), [both0_high] "+r"(sum0_high),
                       [both2] "+r"(sum2), [both2_high] "+r"(sum2_high), [low0] "+r"(low0), [low2] "+r"(low2), [x0] "+r"(x0),
                       [x1] "+r"(x1), [w0] "=&r"(w0), [w1] "=&r"(w1)
                     :
                     : "cc", "memory");
    both0 = (int64_t)(((uint64_t)(uint32_t)sum0_high << 32) | sum0);
    both2 = (int64_t)(((uint64_t)(uint32_t)sum2_high << 32) | sum2);
#else
    int64_t both0 = low0;
    int64_t both2 = low2;
    for (; columns != 0u; columns -= 2u) {
        const int32_t x = (int32_t)*operand++;
        int32_t word[2];
        QRNN_COPY(word, weight, sizeof word);
        weight += sizeof word;
        both0 = __smlald(word[0], x, both0);
        low0 = __smlad(__sxtb16(word[0]), x, low0);
        both2 = __smlald(word[1], x, both2);
        low2 = __smlad(__sxtb16(word[1]), x, low2);
    }
#endif
    sums[0] = low0;
    sums[1] = bias[1] + (int32_t)((both0 - low0) >> 8);
    sums[2] = low2;
    sums[3] = bias[3] + (int32_t)((both2 - low2) >> 8);
}
#endif

#ifdef QRNN_USE_HALVES
/* Weights of 16 bits, those of the last four columns first; `columns` is a multiple of 4. */
QRNN_DOT void qrnn_dot4_halves(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4], int32_t sums[4])
{
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    const uint32_t *const end = &operand[columns / 2u];
    const uint32_t *const first = end - 2;
    const uint32_t *x = first;
    do {
        int32_t word[4];
        QRNN_COPY(word, weight, sizeof word);
        weight += sizeof word;
        s0 = __smlad(word[0], (int32_t)*x, s0);
        s1 = __smlad(word[1], (int32_t)*x, s1);
        s2 = __smlad(word[2], (int32_t)*x, s2);
        s3 = __smlad(word[3], (int32_t)*x, s3);
        x++;
        x = (x == end) ? operand : x;
    } while (x != first);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

/* Weights of four bits: of each 32 columns the scales of the four rows, a byte each; then a word for two columns, in each halfword of
 * it a column, u0, u1, u2 and u3 from the lowest four bits on, with u = q + 8. What that adds to the sums is 8 times the operands' sum.
 */
#ifdef QRNN_USE_FOUR_NARROW
/* Here the highest four bits are q3, so that the halfword is h = 2^12 q3 + 2^8 u2 + 2^4 u1 + u0, a signed number. Where R_r are sums of
 * u_r x, `all` are sums of h x, |all| <= 32 * 2^15 * 127 < 2^31, and the other three are 2^8 R2, 2^4 R1 and R0. */
QRNN_DOT void qrnn_dot4_four(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                           int32_t sums[4])
{
    const uint32_t *group_sum = operand + columns / 2u;
    const uint32_t *const end = group_sum;
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    do {
        const int8_t *const scale = weight;
        const int32_t offset = (int32_t)*group_sum++ * 8;
        int32_t all = 0;
        int32_t r0 = 0;
        int32_t r1 = 0;
        int32_t r2 = 0;
        weight += 4;
#ifdef QRNN_DSP_ASSEMBLY
        uint32_t w0;
        uint32_t w1;
        uint32_t x0;
        uint32_t x1;
        uint32_t t;
        uint32_t pairs = 16;
        __asm__("1:\n\t" QRNN_FOUR_COLUMNS_OF_FOUR QRNN_FOUR_COLUMNS_OF_FOUR "subs %[pairs], %[pairs], #4\n\tbne 1b"
                         : [weight] "+r"(weight), [operand] "+r"(operand), [pairs] "+r"(pairs), [all] "+r"(all),
                           [r0] "+r"(r0), [r1] "+r"(r1), [r2] "+r"(r2), [w0] "=&r"(w0), [w1] "=&r"(w1), [x0] "=&r"(x0),
                           [x1] "=&r"(x1), [t] "=&r"(t)
                         :
                         : "cc", "memory");
#else
        for (uint32_t pairs = 16; pairs != 0u; pairs--) {
            const int32_t x = (int32_t)*operand++;
            int32_t word;
            QRNN_COPY(&word, weight, sizeof word);
            weight += sizeof word;
            all = __smlad(word, x, all);
            r2 = __smlad(word & 0x0F000F00, x, r2);
            r1 = __smlad(word & 0x00F000F0, x, r1);
            r0 = __smlad(word & 0x000F000F, x, r0);
        }
#endif
        s0 += scale[0] * (r0 - offset);
        s1 += scale[1] * ((r1 >> 4) - offset);
        s2 += scale[2] * ((r2 >> 8) - offset);
        s3 += scale[3] * ((all - r2 - r1 - r0) >> 12);
    } while (operand != end);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#ifdef QRNN_USE_FOUR_WIDE
QRNN_DOT void qrnn_dot4_four_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                                int32_t sums[4])
{
    const uint32_t *group_sum = operand + columns / 2u;
    const uint32_t *const end = group_sum;
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    do {
        const int8_t *const scale = weight;
        const uint32_t *const group_end = operand + 16;
        const int32_t offset = -(int32_t)*group_sum++ * 8;
        int32_t r0 = offset;
        int32_t r1 = offset;
        int32_t r2 = offset;
        int32_t r3 = offset;
        weight += 4;
#ifdef QRNN_DSP_ASSEMBLY
        uint32_t w0;
        uint32_t w1;
        uint32_t x;
        uint32_t t;
        __asm__("1:\n\tldrd %[w0], %[w1], [%[weight]], #8\n\t" QRNN_TWO_COLUMNS_OF_FOUR_WIDE("%[w0]")
                             QRNN_TWO_COLUMNS_OF_FOUR_WIDE("%[w1]") "cmp %[operand], %[end]\n\tbne 1b"
                         : [weight] "+r"(weight), [operand] "+r"(operand), [r0] "+r"(r0), [r1] "+r"(r1), [r2] "+r"(r2),
                           [r3] "+r"(r3), [w0] "=&r"(w0), [w1] "=&r"(w1), [x] "=&r"(x), [t] "=&r"(t)
                         : [end] "r"(group_end), [mask] "r"(0x000F000F)
                         : "cc", "memory");
#else
        do {
            const int32_t x = (int32_t)*operand++;
            uint32_t word;
            QRNN_COPY(&word, weight, sizeof word);
            weight += sizeof word;
            r0 = __smlad((int32_t)(word & 0x000F000Fu), x, r0);
            r1 = __smlad((int32_t)((word >> 4) & 0x000F000Fu), x, r1);
            r2 = __smlad((int32_t)((word >> 8) & 0x000F000Fu), x, r2);
            r3 = __smlad((int32_t)((word >> 12) & 0x000F000Fu), x, r3);
        } while (operand != group_end);
#endif
        s0 += scale[0] * r0;
        s1 += scale[1] * r1;
        s2 += scale[2] * r2;
        s3 += scale[3] * r3;
    } while (operand != end);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#endif
