/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, for the Arm DSP extension (Cortex-M4, M7, M33). */
#ifndef QRNN_CHANNELS_H
#define QRNN_CHANNELS_H

#include "qrnn_channels_scalar.h"
#include "qrnn_blocks_dsp.h"

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
        for (uint32_t k = 0U; k < (count % 4U); k++) {
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
#if defined(QRNN_HAS_BLOCKS)
/* Whole blocks of rows, which are shifted neither before nor after, with weights of eight bits: in one loop, since a compiler takes more
 * instructions for what stands between the products than it has to, which shows where rows are short. */
#define QRNN_WHOLE_BLOCKS
#define QRNN_READS_STEPS /* of which the operands may lie in a step, in whole words: two columns to a word, as signed halfwords */

static inline int qrnn_takes_whole_blocks(const qrnn_matrix *matrix)
{
    return qrnn_takes_blocks(matrix) && (matrix->pre_shift == NULL);
}

/* y = saturate16(requantize(sum over k of weight[r, k] * operand[k] + bias[r])) of the rows of `blocks` blocks, at least one */
QRNN_DEFINE_BLOCKS(qrnn_whole_blocks, int16_t, QRNN_STORE_HALFWORDS)
#endif

/* Operands that lie in several places become one vector, as qrnn_dot_dsp.h has it: begin, then put all columns in whatever order, then end. */
static inline void qrnn_begin_columns(uint32_t *operand)
{
    (void)operand;
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    (void)wide;
    QRNN_COPY((uint8_t *)operand + (2u * column), from, 2u * count);
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    (void)wide;
    QRNN_CLEAR((uint8_t *)operand + (2u * column), 2u * count);
}

static inline void qrnn_end_columns(uint32_t *operand, uint32_t wide, uint32_t columns, uint32_t four)
{
    (void)wide;
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
