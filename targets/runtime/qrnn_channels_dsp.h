/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, for the Arm DSP extension (Cortex-M4, M7, M33). */
#ifndef QRNN_CHANNELS_H
#define QRNN_CHANNELS_H

#include "qrnn_channels_scalar.h"
#include "qrnn_dot_dsp.h"

/* to_operand of `count` values, or zeros where there are none */
static inline void qrnn_keep_operands(const int16_t *values, uint32_t count, qrnn_operand_format format, int16_t *to)
{
    if (values == NULL) {
        QRNN_CLEAR(to, count * sizeof(*to));
    } else {
        const int16_t *const end = &values[count / 4U * 4U];

        while (values != end) {
            uint32_t pair;
            uint32_t next;

            QRNN_COPY(&pair, values, sizeof(pair));
            QRNN_COPY(&next, &values[2], sizeof(next));
            pair = qrnn_operands(pair, format.shift, format.limit);
            next = qrnn_operands(next, format.shift, format.limit);
            QRNN_COPY(to, &pair, sizeof(pair));
            QRNN_COPY(&to[2], &next, sizeof(next));
            values += 4;
            to += 4;
        }
        for (uint32_t k = 0U; k < count % 4U; k++) {
            to[k] = (int16_t)qrnn_to_operand(values[k], format.shift, format.limit);
        }
    }
}

/* y = max(x, y) */
static inline void qrnn_take_largest(const int16_t *x, uint32_t count, int16_t *y)
{
    const int16_t *const end = &x[count / 2U * 2U];

    for (; x != end; x += 2) {
        int32_t a;
        int32_t b;

        QRNN_COPY(&a, x, sizeof(a));
        QRNN_COPY(&b, y, sizeof(b));
        (void)__ssub16(a, b); /* says for each half whether a >= b, by which SEL chooses */
        a = (int32_t)__sel((uint32_t)a, (uint32_t)b);
        QRNN_COPY(y, &a, sizeof(a));
        y += 2;
    }
    if ((count & 1U) != 0U) {
        y[0] = (x[0] > y[0]) ? x[0] : y[0];
    }
}

/* The products of a tap with `count` channels; no values are read beyond. */
static inline void qrnn_channels_add(qrnn_channels *sums, const int8_t *weight, const int16_t *x, uint32_t count)
{
    int32_t four;
    int32_t even;
    int32_t odd;
    int32_t low;
    int32_t high;

    if (count < QRNN_CHANNELS) {
        qrnn_channels_add_each(sums, weight, x, count);
        return;
    }
    QRNN_COPY(&four, weight, sizeof(four));
    QRNN_COPY(&low, x, sizeof(low));
    QRNN_COPY(&high, &x[2], sizeof(high));
    even = __sxtb16(four);
    odd = __sxtb16((int32_t)((uint32_t)four >> 8));
    sums->s0 = __smlabb(even, low, sums->s0);
    sums->s1 = __smlabt(odd, low, sums->s1);
    sums->s2 = __smlatb(even, high, sums->s2);
    sums->s3 = __smlatt(odd, high, sums->s3);
}

#ifdef QRNN_USE_COLUMNS
#if defined(QRNN_DSP_ASSEMBLY) && defined(QRNN_USE_NARROW)
/* Whole blocks of rows, which are shifted neither before nor after, and weights of eight bits: in one loop, since a compiler takes more
 * instructions for what stands between the products than it has to, which shows where rows are short. */
#define QRNN_WHOLE_BLOCKS
#define QRNN_READS_STEPS /* of which the operands may lie in a step, in whole words: two columns to a word, as signed halfwords */

static inline int qrnn_takes_whole_blocks(const qrnn_matrix *matrix)
{
    return (matrix->wide == 0U) && (matrix->four == 0U) && (matrix->left_shift == NULL) && (matrix->pre_shift == NULL) &&
           (matrix->columns <= 512U);
}

/* A pair of columns: words r8 and r12 with r4, or r4 and r5 with r10. */
#define QRNN_PAIR_ODD                                                                                                \
    "ldrd r4, r10, [r1], #8\n\tsmlad r6, r8, r4, r6\n\tsmlad r7, r12, r4, r7\n\tsxtb16 r8, r8\n\tsxtb16 r12, r12\n\t"       \
    "smlad r11, r8, r4, r11\n\tsmlad lr, r12, r4, lr\n\t"
#define QRNN_PAIR_EVEN(load)                                                                                         \
    load "smlad r6, r4, r10, r6\n\tsmlad r7, r5, r10, r7\n\tsxtb16 r4, r4\n\tsxtb16 r5, r5\n\t"                          \
         "smlad r11, r4, r10, r11\n\tsmlad lr, r5, r10, lr\n\t"
#define QRNN_FOUR_WORDS "ldmia r0!, {r4, r5, r8, r12}\n\t"
#ifdef QRNN_EVEN_ROWS
#define QRNN_BLOCK_ENTER "b 2f\n"
#else
#define QRNN_BLOCK_ENTER "sub r4, r2, r1\n\ttst r4, #16\n\tbeq 3f\n\tb 2f\n"
#endif

/* y = saturate16(requantize(sum over k of weight[r, k] * operand[k] + bias[r])) of the rows of `blocks` blocks, at least one. Registers:
 * r0 weight, r1 operand, r2 its end, r3 row; r6, r7 the sums of two rows each and r11, lr those of the lower row (qrnn_dot_dsp.h); the end
 * of the rows and y are on the stack, where the caller put the number of blocks and y. */
QRNN_NAKED void
qrnn_blocks(const int8_t *weight __attribute__((unused)), const uint32_t *operand __attribute__((unused)),
            uint32_t columns __attribute__((unused)), const int32_t *row __attribute__((unused)),
            uint32_t blocks __attribute__((unused)), int16_t *y __attribute__((unused)))
{
    __asm__ __volatile__("push {r1, r4-r8, r10, r11, lr}\n\t"
            "ldr r4, [sp, #36]\n\tadd r4, r3, r4, lsl #5\n\tstr r4, [sp, #36]\n\tadd r2, r1, r2, lsl #1\n"
            "4:\n\tldr r1, [sp]\n\tldrd r8, r12, [r0], #8\n\tldrd r4, r10, [r1], #8\n\t"
            "smuad r6, r8, r4\n\tsmuad r7, r12, r4\n\tsxtb16 r8, r8\n\tsxtb16 r12, r12\n\tsmuad r11, r8, r4\n\tsmuad lr, r12, r4\n\t"
            QRNN_BLOCK_ENTER
            "1:\n\t" QRNN_PAIR_EVEN(QRNN_FOUR_WORDS) QRNN_PAIR_ODD
            "2:\n\t" QRNN_PAIR_EVEN(QRNN_FOUR_WORDS) QRNN_PAIR_ODD QRNN_PAIR_EVEN(QRNN_FOUR_WORDS) QRNN_PAIR_ODD
            "3:\n\t" QRNN_PAIR_EVEN(QRNN_FOUR_WORDS) QRNN_PAIR_ODD "cmp r1, r2\n\tbne 1b\n\t"
            QRNN_PAIR_EVEN("ldrd r4, r5, [r0], #8\n\t")
            "ldmia r3!, {r4, r5, r8, r12}\n\tsub r6, r6, r11\n\tsub r7, r7, lr\n\tadd r5, r5, r6, asr #8\n\t"
            "add r12, r12, r7, asr #8\n\tadd r4, r4, r11\n\tadd r8, r8, lr\n\tldmia r3!, {r6, r7, r10, r11}\n\t"
            "smmulr r4, r4, r6\n\tsmmulr r5, r5, r7\n\tsmmulr r8, r8, r10\n\tsmmulr r12, r12, r11\n\t"
            "ssat r4, #16, r4\n\tssat r5, #16, r5\n\tssat r8, #16, r8\n\tssat r12, #16, r12\n\t"
            "pkhbt r4, r4, r5, lsl #16\n\tpkhbt r8, r8, r12, lsl #16\n\t"
            "ldr r6, [sp, #40]\n\tstr r4, [r6], #4\n\tstr r8, [r6], #4\n\tstr r6, [sp, #40]\n\t"
            "ldr r4, [sp, #36]\n\tcmp r3, r4\n\tbne 4b\n\t"
            "pop {r1, r4-r8, r10, r11, pc}"
            :
            :
            : "r0", "r1", "r2", "r3", "r12", "cc", "memory");
}

static inline void qrnn_whole_blocks(const qrnn_matrix *matrix, const int8_t *weight, const uint32_t *operand, const int32_t *row,
                                     uint32_t blocks, int16_t *y)
{
    qrnn_blocks(weight, operand, matrix->columns, row, blocks, y);
}
#endif

/* Operands that lie in several places become one vector, as qrnn_dot_dsp.h has it: begin, then put all columns in whatever order, then end. */
static inline void qrnn_begin_columns(uint32_t *operand)
{
    (void)operand;
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    (void)wide;
    QRNN_COPY((uint8_t *)operand + 2u * column, from, 2u * count);
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    (void)wide;
    QRNN_CLEAR((uint8_t *)operand + 2u * column, 2u * count);
}

static inline void qrnn_end_columns(uint32_t *operand, uint32_t columns, uint32_t four)
{
#ifdef QRNN_USE_FOUR
    if (four != 0u) {
        qrnn_sum_groups(operand, columns);
    }
#else
    (void)operand;
    (void)columns;
    (void)four;
#endif
}
#endif

#endif
