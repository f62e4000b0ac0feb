/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot products of four rows with a vector of operands, for Arm Helium (Cortex-M55, M85).
 *
 * Operands: bytes, or signed halfwords for 16 bits. Weights: 16 columns by 16 columns, for each of the four rows 16 bytes; for
 * operands of 16 bits 8 columns by 8 columns, which the load widens. One VMLADAVA adds a vector's products to a row's sum.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <arm_mve.h>
#include <stdint.h>
#include "qrnn_types.h"

#define QRNN_COLUMNS 16u
#ifdef QRNN_USE_FOUR
#define QRNN_PADDED 32u /* operands are padded with zeros to a multiple of this */
#else
#define QRNN_PADDED QRNN_COLUMNS
#endif
#define QRNN_OPERAND_WORDS(columns) (((columns) + QRNN_PADDED - 1u) / QRNN_PADDED * QRNN_PADDED / 4u)
#define QRNN_WIDE_OPERAND_WORDS(columns) (((columns) + QRNN_PADDED - 1u) / QRNN_PADDED * QRNN_PADDED / 2u)

/* clamp((v_k + 2^(shift - 1)) >> shift, -limit, limit) for eight k; VRSHL rounds that way. */
static inline int16x8_t qrnn_clamp_operands(int16x8_t values, uint32_t shift, int32_t limit)
{
    const int16x8_t rounded = vrshlq_n_s16(values, -(int32_t)shift);
    return vmaxq_s16(vminq_s16(rounded, vdupq_n_s16((int16_t)limit)), vdupq_n_s16((int16_t)-limit));
}

/* the same of values in memory; zeros follow the last one */
static inline int16x8_t qrnn_operands(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit)
{
    return qrnn_clamp_operands(vldrhq_z_s16(values, vctp16q(count)), shift, limit);
}

/* The loops are assembly where the compiler takes GNU C's: GCC does not increment the addresses by the loads, which is half as many
 * instructions again. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2)
#define QRNN_ASSEMBLY
#define QRNN_ROW(load, multiply, sum) load multiply " %[" sum "], q1, q0\n\t"
#define QRNN_LOOP(load_operands, load, multiply, times)                                                              \
    __asm__("dls lr, %[n]\n1:\n\t" load_operands QRNN_ROW(load, multiply, "s0") QRNN_ROW(load, multiply, "s1")       \
                QRNN_ROW(load, multiply, "s2") QRNN_ROW(load, multiply, "s3") "le lr, 1b"                            \
            : [weight] "+l"(weight), [operand] "+r"(operand), [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2),        \
              [s3] "+Te"(s3)                                                                                         \
            : [n] "r"(times)                                                                                         \
            : "q0", "q1", "lr", "cc", "memory")
#endif

#if defined(QRNN_USE_NARROW) || defined(QRNN_USE_FOUR_NARROW)
static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    int8_t *x = (int8_t *)operand;
    const int8_t *const end = x + (count + QRNN_PADDED - 1u) / QRNN_PADDED * QRNN_PADDED;
    while (x != end) {
        vstrbq_s16(x, qrnn_operands(values, count, shift, limit));
        values += 8;
        x += 8;
        count -= count < 8u ? count : 8u;
    }
}

#endif

#ifdef QRNN_USE_NARROW
static void qrnn_dot4(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                      int32_t sums[4])
{
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
#ifdef QRNN_ASSEMBLY
    QRNN_LOOP("vldrb.8 q0, [%[operand]], #16\n\t", "vldrb.8 q1, [%[weight]], #16\n\t", "vmladava.s8", columns / 16u);
#else
    for (; columns != 0u; columns -= 16u) {
        const int8x16_t x = vldrbq_s8((const int8_t *)operand);
        s0 = vmladavaq_s8(s0, vldrbq_s8(weight), x);
        s1 = vmladavaq_s8(s1, vldrbq_s8(weight + 16), x);
        s2 = vmladavaq_s8(s2, vldrbq_s8(weight + 32), x);
        s3 = vmladavaq_s8(s3, vldrbq_s8(weight + 48), x);
        operand += 4;
        weight += 64;
    }
#endif
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#if defined(QRNN_USE_WIDE) || defined(QRNN_USE_FOUR_WIDE)
static void qrnn_encode_wide(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    int16_t *x = (int16_t *)operand;
    const int16_t *const end = x + (count + QRNN_PADDED - 1u) / QRNN_PADDED * QRNN_PADDED;
    while (x != end) {
        vstrhq_s16(x, qrnn_operands(values, count, shift, limit));
        values += 8;
        x += 8;
        count -= count < 8u ? count : 8u;
    }
}

#endif

#ifdef QRNN_USE_WIDE
static void qrnn_dot4_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                           int32_t sums[4])
{
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
#ifdef QRNN_ASSEMBLY
    QRNN_LOOP("vldrh.16 q0, [%[operand]], #16\n\t", "vldrb.s16 q1, [%[weight]], #8\n\t", "vmladava.s16", columns / 8u);
#else
    for (; columns != 0u; columns -= 8u) {
        const int16x8_t x = vldrhq_s16((const int16_t *)operand);
        s0 = vmladavaq_s16(s0, vldrbq_s16(weight), x);
        s1 = vmladavaq_s16(s1, vldrbq_s16(weight + 8), x);
        s2 = vmladavaq_s16(s2, vldrbq_s16(weight + 16), x);
        s3 = vmladavaq_s16(s3, vldrbq_s16(weight + 24), x);
        operand += 4;
        weight += 32;
    }
#endif
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

/* Weights of four bits: of each 32 columns the scales of the four rows, a byte each; then row by row 16 bytes. The four sums of q x
 * become a vector, which is multiplied by the scales and added to what was before. */
#ifdef QRNN_ASSEMBLY
#define QRNN_LOOP_OF_FOUR(load_operands, row, rescale)                                                               \
    __asm__ __volatile__("vldrw.32 q5, [%[bias]]\n\tvmov.i8 q6, #240\n\tdls lr, %[n]\n1:\n\t"                                     \
            "vldrb.s32 q4, [%[weight]], #4\n\t" load_operands row("s0") row("s1") row("s2") row("s3")               \
            "vmov q2[2], q2[0], %[s0], %[s2]\n\tvmov q2[3], q2[1], %[s1], %[s3]\n\t" rescale                         \
            "vmul.i32 q2, q2, q4\n\tvadd.i32 q5, q5, q2\n\tle lr, 1b\n\tvstrw.32 q5, [%[sums]]"                       \
            : [weight] "+l"(weight), [operand] "+r"(operand), [s0] "=&Te"(s0), [s1] "=&Te"(s1), [s2] "=&Te"(s2),     \
              [s3] "=&Te"(s3)                                                                                        \
            : [n] "r"(columns / 32u), [bias] "r"(bias), [sums] "r"(sums)                                             \
            : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "lr", "cc", "memory")
#endif

#ifdef QRNN_USE_FOUR_NARROW
/* Byte k holds q of column k in its low half and of column 16 + k in its high one; alone in the high half q is 16 q. */
#ifdef QRNN_ASSEMBLY
#define QRNN_ROW_OF_FOUR(sum)                                                                                        \
    "vldrb.8 q2, [%[weight]], #16\n\tvshl.i8 q3, q2, #4\n\tvmladav.s8 %[" sum "], q3, q0\n\t"                         \
    "vand q2, q2, q6\n\tvmladava.s8 %[" sum "], q2, q1\n\t"
#else
static inline int32_t qrnn_row_of_four(const int8_t *weight, int8x16_t x, int8x16_t next)
{
    const int8x16_t q = vldrbq_s8(weight);
    const int32_t sum = vmladavq_s8(vshlq_n_s8(q, 4), x);
    return vmladavaq_s8(sum, vandq_s8(q, vdupq_n_s8(-16)), next) >> 4;
}
#endif

static void qrnn_dot4_four(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                           int32_t sums[4])
{
#ifdef QRNN_ASSEMBLY
    int32_t s0;
    int32_t s1;
    int32_t s2;
    int32_t s3;
    QRNN_LOOP_OF_FOUR("vldrb.8 q0, [%[operand]], #16\n\tvldrb.8 q1, [%[operand]], #16\n\t", QRNN_ROW_OF_FOUR,
                      "vshr.s32 q2, q2, #4\n\t");
#else
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    for (; columns != 0u; columns -= 32u) {
        const int8x16_t x = vldrbq_s8((const int8_t *)operand);
        const int8x16_t next = vldrbq_s8((const int8_t *)operand + 16);
        s0 += weight[0] * qrnn_row_of_four(weight + 4, x, next);
        s1 += weight[1] * qrnn_row_of_four(weight + 20, x, next);
        s2 += weight[2] * qrnn_row_of_four(weight + 36, x, next);
        s3 += weight[3] * qrnn_row_of_four(weight + 52, x, next);
        operand += 8;
        weight += 68;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
#endif
}
#endif

#ifdef QRNN_USE_FOUR_WIDE
/* Byte 8 j + k holds q of column 16 j + k in its low half and of column 16 j + 8 + k in its high one. */
#ifdef QRNN_ASSEMBLY
#define QRNN_HALF_ROW_OF_FOUR(multiply, sum, x, next)                                                                \
    "vldrb.s16 q2, [%[weight]], #8\n\tvshl.i16 q3, q2, #12\n\tvshr.s16 q3, q3, #12\n\t" multiply " %[" sum "], q3, " x  \
    "\n\tvshr.s16 q2, q2, #4\n\tvmladava.s16 %[" sum "], q2, " next "\n\t"
#define QRNN_WIDE_ROW_OF_FOUR(sum)                                                                                   \
    QRNN_HALF_ROW_OF_FOUR("vmladav.s16", sum, "q0", "q1") QRNN_HALF_ROW_OF_FOUR("vmladava.s16", sum, "q6", "q7")
#else
static inline int32_t qrnn_row_of_four_wide(const int8_t *weight, const int16_t *x)
{
    const int16x8_t q = vldrbq_s16(weight);
    const int16x8_t q_next = vldrbq_s16(weight + 8);
    int32_t sum = vmladavq_s16(vshrq_n_s16(vshlq_n_s16(q, 12), 12), vldrhq_s16(x));
    sum = vmladavaq_s16(sum, vshrq_n_s16(q, 4), vldrhq_s16(x + 8));
    sum = vmladavaq_s16(sum, vshrq_n_s16(vshlq_n_s16(q_next, 12), 12), vldrhq_s16(x + 16));
    return vmladavaq_s16(sum, vshrq_n_s16(q_next, 4), vldrhq_s16(x + 24));
}
#endif

static void qrnn_dot4_four_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                                int32_t sums[4])
{
#ifdef QRNN_ASSEMBLY
    int32_t s0;
    int32_t s1;
    int32_t s2;
    int32_t s3;
    QRNN_LOOP_OF_FOUR("vldrh.16 q0, [%[operand]], #16\n\tvldrh.16 q1, [%[operand]], #16\n\t"
                      "vldrh.16 q6, [%[operand]], #16\n\tvldrh.16 q7, [%[operand]], #16\n\t",
                      QRNN_WIDE_ROW_OF_FOUR, "");
#else
    const int16_t *x = (const int16_t *)operand;
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    for (; columns != 0u; columns -= 32u) {
        s0 += weight[0] * qrnn_row_of_four_wide(weight + 4, x);
        s1 += weight[1] * qrnn_row_of_four_wide(weight + 20, x);
        s2 += weight[2] * qrnn_row_of_four_wide(weight + 36, x);
        s3 += weight[3] * qrnn_row_of_four_wide(weight + 52, x);
        x += 32;
        weight += 68;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
#endif
}
#endif

#endif
