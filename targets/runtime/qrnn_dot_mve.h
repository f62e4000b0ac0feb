/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot products of four rows with a vector of operands, for Arm Helium (Cortex-M55, M85).
 *
 * Operands: bytes, or for 16 bits two planes of bytes, x = 256 high + low + 128, so that a load of weights serves 16 columns too: the
 * highs of all columns, then the lows. The biases of such rows have 128 times the sum of their weights more. Weights: 16 columns by 16
 * columns, for each of the four rows 16 bytes. One VMLADAVA adds a vector's products to a row's sum.
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
#define QRNN_WIDE_OPERAND_WORDS(columns) (QRNN_PLANE(columns) / 2u)
#define QRNN_PLANE(columns) (((columns) + QRNN_PADDED - 1u) / QRNN_PADDED * QRNN_PADDED) /* bytes of a plane */

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
#define QRNN_OPERANDS_IN_PLACE
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
    const int8_t *const end = &x[((count + QRNN_PADDED - 1u) / QRNN_PADDED) * QRNN_PADDED];
    QRNN_AS_A_LOOP
    for (; count >= 8u; count -= 8u) {
        vstrbq_s16(x, qrnn_clamp_operands(vldrhq_s16(values), shift, limit));
        values += 8;
        x += 8;
    }
    while (x != end) {
        vstrbq_s16(x, qrnn_operands(values, count, shift, limit));
        values += 8;
        x += 8;
        count -= (count < 8u) ? count : 8u;
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

/* Eight operands of 16 bits to the two planes. */
static inline void qrnn_split(int16x8_t x, int8_t *high, int8_t *low)
{
    vstrbq_s16(high, vshrq_n_s16(x, 8));
    vstrbq_s16(low, veorq_s16(x, vdupq_n_s16(128)));
}

#if defined(QRNN_USE_WIDE) || defined(QRNN_USE_FOUR_WIDE)
static void qrnn_encode_wide(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    const uint32_t plane = QRNN_PLANE(count);
    int8_t *high = (int8_t *)operand;
    const int8_t *const end = high + plane;
    QRNN_AS_A_LOOP
    for (; count >= 8u; count -= 8u) {
        qrnn_split(qrnn_clamp_operands(vldrhq_s16(values), shift, limit), high, high + plane);
        values += 8;
        high += 8;
    }
    while (high != end) {
        qrnn_split(qrnn_operands(values, count, shift, limit), high, high + plane);
        values += 8;
        high += 8;
        count -= (count < 8u) ? count : 8u;
    }
}

#endif

#ifdef QRNN_USE_WIDE
#ifdef QRNN_ASSEMBLY
/* 16 columns of four rows: r1 the highs and r3 the lows, r5 the weights; r0, r2, r4, r6 sums of the highs, r8, r10, r12, lr of the lows. So
 * many registers are to be had in a function of its own alone, which leaves out r9: some programs keep the base of their data there. */
#define QRNN_PLANES_ROW(multiply, high, low)                                                                          \
    "vldrb.8 q2, [r5], #16\n\t" multiply " " high ", q2, q0\n\t" multiply " " low ", q2, q1\n\t"
#define QRNN_PLANES(multiply)                                                                                         \
    "vldrb.8 q0, [r1], #16\n\tvldrb.8 q1, [r3], #16\n\t" QRNN_PLANES_ROW(multiply, "r0", "r8")                         \
    QRNN_PLANES_ROW(multiply, "r2", "r10") QRNN_PLANES_ROW(multiply, "r4", "r12") QRNN_PLANES_ROW(multiply, "r6", "lr")
#define QRNN_PLANES_BEGIN QRNN_PLANES("vmladav.s8") /* the first columns, then */
#define QRNN_PLANES_COLUMNS QRNN_PLANES("vmladava.s8") /* the others */
/* The sums of the four rows as the vector q2 */
#define QRNN_PLANES_END                                                                                               \
    "add r0, r8, r0, lsl #8\n\tadd r2, r10, r2, lsl #8\n\tadd r4, r12, r4, lsl #8\n\tadd r6, lr, r6, lsl #8\n\t"          \
    "vmov q2[2], q2[0], r0, r4\n\tvmov q2[3], q2[1], r2, r6\n\t"

QRNN_NAKED void
qrnn_dot4_planes(const int8_t *weight __attribute__((unused)), const int8_t *high __attribute__((unused)),
                 const int8_t *low __attribute__((unused)), uint32_t columns __attribute__((unused)),
                 const int32_t *bias __attribute__((unused)), int32_t *sums __attribute__((unused)))
{
    __asm__ __volatile__("push {r4-r8, r10, r11, lr}\n\tmov r5, r0\n\tadd r7, r1, r3\n\tmov r3, r2\n\t" QRNN_PLANES_BEGIN
            "cmp r1, r7\n\tbeq 2f\n1:\n\t" QRNN_PLANES_COLUMNS "cmp r1, r7\n\tbne 1b\n2:\n\t" QRNN_PLANES_END
            "ldrd r1, r3, [sp, #32]\n\tvldrw.32 q3, [r1]\n\tvadd.i32 q2, q2, q3\n\tvstrw.32 q2, [r3]\n\tpop {r4-r8, r10, r11, pc}"
            :
            :
            : "r0", "r1", "r2", "r3", "r12", "q0", "q1", "q2", "q3", "cc", "memory");
}
#endif

static inline void qrnn_dot4_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                                  int32_t sums[4])
{
    const int8_t *high = (const int8_t *)operand;
    const int8_t *low = high + QRNN_PLANE(columns);
#ifdef QRNN_ASSEMBLY
    qrnn_dot4_planes(weight, high, low, columns, bias, sums);
#else
    int32_t of_high[4] = {0, 0, 0, 0};
    int32_t of_low[4] = {0, 0, 0, 0};
    for (; columns != 0u; columns -= 16u) {
        const int8x16_t x = vldrbq_s8(high);
        const int8x16_t y = vldrbq_s8(low);
        for (uint32_t row = 0; row < 4u; row++) {
            const int8x16_t w = vldrbq_s8(weight);
            of_high[row] = vmladavaq_s8(of_high[row], w, x);
            of_low[row] = vmladavaq_s8(of_low[row], w, y);
            weight += 16;
        }
        high += 16;
        low += 16;
    }
    for (uint32_t row = 0; row < 4u; row++) {
        sums[row] = (int32_t)((uint32_t)bias[row] + (uint32_t)of_low[row] + ((uint32_t)of_high[row] << 8));
    }
#endif
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
/* The same weights with the two planes of operands: the sum of 16 q x is 256 times that of the highs and that of the lows. */
#ifdef QRNN_ASSEMBLY
#define QRNN_WIDE_ROW_OF_FOUR(sum)                                                                                   \
    "vldrb.8 q2, [%[weight]], #16\n\tvshl.i8 q3, q2, #4\n\tvmladav.s8 %[" sum "], q3, q0\n\t"                         \
    "vand q2, q2, q6\n\tvmladava.s8 %[" sum "], q2, q1\n\tlsl %[" sum "], %[" sum "], #8\n\t"                          \
    "vmladava.s8 %[" sum "], q3, q4\n\tvmladava.s8 %[" sum "], q2, q7\n\t"
#else
static inline int32_t qrnn_row_of_four_wide(const int8_t *weight, const int8_t *high, const int8_t *low)
{
    const int8x16_t q = vldrbq_s8(weight);
    const int8x16_t first = vshlq_n_s8(q, 4);
    const int8x16_t next = vandq_s8(q, vdupq_n_s8(-16));
    const int32_t of_high = vmladavaq_s8(vmladavq_s8(first, vldrbq_s8(high)), next, vldrbq_s8(high + 16));
    const int32_t of_low = vmladavaq_s8(vmladavq_s8(first, vldrbq_s8(low)), next, vldrbq_s8(low + 16));
    return of_high * 16 + (of_low >> 4);
}
#endif

static void qrnn_dot4_four_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                                int32_t sums[4])
{
    const int8_t *high = (const int8_t *)operand;
    const int8_t *low = high + QRNN_PLANE(columns);
    int32_t s0;
    int32_t s1;
    int32_t s2;
    int32_t s3;
#ifdef QRNN_ASSEMBLY
    __asm__ __volatile__("vldrw.32 q5, [%[bias]]\n\tvmov.i8 q6, #240\n\tdls lr, %[n]\n1:\n\t"
            "add %[weight], %[weight], #4\n\tvldrb.8 q0, [%[high]], #16\n\tvldrb.8 q1, [%[high]], #16\n\t"
            "vldrb.8 q4, [%[low]], #16\n\tvldrb.8 q7, [%[low]], #16\n\t"
            QRNN_WIDE_ROW_OF_FOUR("s0") QRNN_WIDE_ROW_OF_FOUR("s1") QRNN_WIDE_ROW_OF_FOUR("s2") QRNN_WIDE_ROW_OF_FOUR("s3")
            "vmov q2[2], q2[0], %[s0], %[s2]\n\tvmov q2[3], q2[1], %[s1], %[s3]\n\tvshr.s32 q2, q2, #4\n\t"
            "vldrb.s32 q3, [%[weight], #-68]\n\tvmul.i32 q2, q2, q3\n\tvadd.i32 q5, q5, q2\n\tle lr, 1b\n\tvstrw.32 q5, [%[sums]]"
            : [weight] "+l"(weight), [high] "+r"(high), [low] "+r"(low), [s0] "=&Te"(s0), [s1] "=&Te"(s1), [s2] "=&Te"(s2),
              [s3] "=&Te"(s3)
            : [n] "r"(columns / 32u), [bias] "r"(bias), [sums] "r"(sums)
            : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "lr", "cc", "memory");
#else
    s0 = bias[0];
    s1 = bias[1];
    s2 = bias[2];
    s3 = bias[3];
    for (; columns != 0u; columns -= 32u) {
        s0 = (int32_t)((uint32_t)s0 + (uint32_t)(weight[0] * qrnn_row_of_four_wide(weight + 4, high, low)));
        s1 = (int32_t)((uint32_t)s1 + (uint32_t)(weight[1] * qrnn_row_of_four_wide(weight + 20, high, low)));
        s2 = (int32_t)((uint32_t)s2 + (uint32_t)(weight[2] * qrnn_row_of_four_wide(weight + 36, high, low)));
        s3 = (int32_t)((uint32_t)s3 + (uint32_t)(weight[3] * qrnn_row_of_four_wide(weight + 52, high, low)));
        high += 32;
        low += 32;
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
