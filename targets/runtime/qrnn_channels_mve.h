/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, for Arm Helium (Cortex-M55, M85). */
#ifndef QRNN_CHANNELS_H
#define QRNN_CHANNELS_H

#include "qrnn_blocks_mve.h"

/* to_operand of `count` values, or zeros where there are none */
static inline void qrnn_keep_operands(const int16_t *values, uint32_t count, qrnn_operand_format format, int16_t *to)
{
    if (values == NULL) {
        QRNN_CLEAR(to, count * sizeof(*to));
        return;
    }
    for (; count >= 8U; count -= 8U) {
        vstrhq_s16(to, qrnn_clamp_operands(vldrhq_s16(values), format.shift, format.limit));
        values += 8;
        to += 8;
    }
    if (count != 0U) {
        vstrhq_p_s16(to, qrnn_operands(values, count, format.shift, format.limit), vctp16q(count));
    }
}

/* y = max(x, y) */
static inline void qrnn_take_largest(const int16_t *x, uint32_t count, int16_t *y)
{
    for (; count >= 8U; count -= 8U) {
        vstrhq_s16(y, vmaxq_s16(vldrhq_s16(x), vldrhq_s16(y)));
        x += 8;
        y += 8;
    }
    if (count != 0U) {
        const mve_pred16_t lanes = vctp16q(count);
        vstrhq_p_s16(y, vmaxq_s16(vldrhq_z_s16(x, lanes), vldrhq_z_s16(y, lanes)), lanes);
    }
}

#define QRNN_CHANNELS 8U /* channels of a depthwise convolution that are computed at a time; constants are those of even ones, then of odd */

typedef struct {
    int32x4_t even;
    int32x4_t odd;
} qrnn_channels;

static inline qrnn_channels qrnn_channels_begin(const int32_t *bias)
{
    const qrnn_channels sums = {vldrwq_s32(bias), vldrwq_s32(&bias[4])};
    return sums;
}

/* The products of a tap with `count` channels; no values are read beyond. */
static inline void qrnn_channels_add(qrnn_channels *sums, const int8_t *weight, const int16_t *x, uint32_t count)
{
    const int16x8_t w = vldrbq_s16(weight);
    const int16x8_t values = (count < QRNN_CHANNELS) ? vldrhq_z_s16(x, vctp16q(count)) : vldrhq_s16(x);

    sums->even = vaddq_s32(sums->even, vmullbq_int_s16(w, values));
    sums->odd = vaddq_s32(sums->odd, vmulltq_int_s16(w, values));
}

/* saturate16_shifted(requantize(sum, multiplier, left_shift), pre_shift), of which the last saturation is left where pre_shift is NULL */
static inline int32x4_t qrnn_channels_requantize(int32x4_t sum, const int32_t *multiplier, const uint8_t *left_shift,
                                                 const uint8_t *pre_shift)
{
    if (left_shift != NULL) {
        sum = vshlq_s32(sum, vreinterpretq_s32_u32(vldrbq_u32(left_shift)));
    }
    sum = vrmulhq_s32(sum, vldrwq_s32(multiplier));
    if (pre_shift != NULL) {
        const int32x4_t left = vreinterpretq_s32_u32(vldrbq_u32(pre_shift));
        const int32x4_t right = vnegq_s32(left);
        const int32x4_t high = vshlq_s32(vdupq_n_s32(32767), right);
        const int32x4_t low = vshlq_s32(vdupq_n_s32(-32768), right);
        sum = vshlq_s32(vmaxq_s32(vminq_s32(sum, high), low), left);
    }
    return sum;
}

/* y = saturate16_shifted(requantize(sums, multiplier, left_shift), pre_shift) of `count` channels */
static inline void qrnn_channels_end(const qrnn_channels *sums, const int32_t *multiplier, const uint8_t *left_shift,
                                     const uint8_t *pre_shift, uint32_t count, int16_t *y)
{
    const int32x4_t even = qrnn_channels_requantize(sums->even, multiplier, left_shift, pre_shift);
    const int32x4_t odd = qrnn_channels_requantize(sums->odd, &multiplier[4], (left_shift == NULL) ? NULL : &left_shift[4],
                                                   (pre_shift == NULL) ? NULL : &pre_shift[4]);
    const int16x8_t both = vqmovntq_s32(vqmovnbq_s32(vdupq_n_s16(0), even), odd);

    if (count >= QRNN_CHANNELS) {
        vstrhq_s16(y, both);
    } else {
        vstrhq_p_s16(y, both, vctp16q(count));
    }
}

/* the same of a block of four rows of a matrix */
static inline void qrnn_write_block(const int32_t sums[4], const int32_t multiplier[4], const uint8_t *left_shift,
                                    const uint8_t *pre_shift, uint32_t count, int16_t *y)
{
    const int32x4_t value = qrnn_channels_requantize(vldrwq_s32(sums), multiplier, left_shift, pre_shift);
    const int32x4_t low = vreinterpretq_s32_s16(vqmovnbq_s32(vreinterpretq_s16_s32(value), value));

    if (count >= 4U) {
        vstrhq_s32(y, low);
    } else {
        vstrhq_p_s32(y, low, vctp32q(count));
    }
}

#ifdef QRNN_USE_COLUMNS
#if defined(QRNN_HAS_BLOCKS)
/* Whole blocks of rows, which are shifted neither before nor after, with weights of eight bits: in one loop, since a compiler takes more
 * instructions for what stands between the products than the products of short rows take. */
#define QRNN_WHOLE_BLOCKS

static inline int qrnn_takes_whole_blocks(const qrnn_matrix *matrix)
{
    return qrnn_takes_blocks(matrix) && (matrix->pre_shift == NULL);
}

/* y = saturate16(requantize(sum over k of weight[r, k] * operand[k] + bias[r])) of the rows of `blocks` blocks, at least one */
QRNN_DEFINE_BLOCKS(qrnn_whole_blocks, int16_t, QRNN_STORE_HALFWORDS)
#endif

/* Operands that lie in several places become one vector, as qrnn_dot_mve.h has it: begin, then put all columns in whatever order, then end. */
static inline void qrnn_begin_columns(uint32_t *operand)
{
    (void)operand;
}

/* Less than eight columns; `wide` is the number of bytes of a plane of operands of 16 bits, or 0. Operands of
 * 16 bits go one by one, since GCC 12 takes one of two stores of some lanes into one array for a store that nobody reads. */
static inline void qrnn_put_rest(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    int8_t *const to = (int8_t *)operand + column;

    if (wide != 0u) {
        for (uint32_t k = 0; k < count; k++) {
            to[k] = (int8_t)(from[k] >> 8);
            to[wide + k] = (int8_t)((from[k] & 255) - 128);
        }
    } else {
        const mve_pred16_t lanes = vctp16q(count);
        vstrbq_p_s16(to, vldrhq_z_s16(from, lanes), lanes);
    }
}

static inline void qrnn_put_whole_eight(uint32_t *operand, uint32_t wide, uint32_t column, int16x8_t x)
{
    int8_t *const to = (int8_t *)operand + column;

    if (wide != 0u) {
        qrnn_split(x, to, to + wide);
    } else {
        vstrbq_s16(to, x);
    }
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    uint32_t k = 0;

    for (; k + 8u <= count; k += 8u) {
        qrnn_put_whole_eight(operand, wide, column + k, vldrhq_s16(&from[k]));
    }
    if (k < count) {
        qrnn_put_rest(operand, wide, column + k, &from[k], count - k);
    }
}

#define QRNN_KEEPS_COLUMNS

/* `qrnn_keep_operands`, of which the columns are put too */
static inline void qrnn_keep_columns(const int16_t *values, uint32_t count, qrnn_operand_format format, int16_t *to, uint32_t *operand,
                                     uint32_t wide)
{
    uint32_t column = 0;

    if (values == NULL) {
        qrnn_keep_operands(values, count, format, to);
        qrnn_put_columns(operand, wide, 0u, to, count);
        return;
    }
    for (; column + 8u <= count; column += 8u) {
        const int16x8_t x = qrnn_clamp_operands(vldrhq_s16(&values[column]), format.shift, format.limit);

        vstrhq_s16(&to[column], x);
        qrnn_put_whole_eight(operand, wide, column, x);
    }
    if (column != count) {
        const uint32_t rest = count - column;

        vstrhq_p_s16(&to[column], qrnn_operands(&values[column], rest, format.shift, format.limit), vctp16q(rest));
        qrnn_put_rest(operand, wide, column, &to[column], rest);
    }
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    QRNN_CLEAR((uint8_t *)operand + column, count);
    if (wide != 0u) {
        int8_t *const low = (int8_t *)operand + wide + column;
        uint32_t k = 0;

        for (; k + 8u <= count; k += 8u) {
            vstrbq_s16(&low[k], vdupq_n_s16(-128));
        }
        for (; k < count; k++) {
            low[k] = -128;
        }
    }
}

static inline void qrnn_end_columns(uint32_t *operand, uint32_t wide, uint32_t columns, uint32_t four)
{
    (void)wide;
    (void)operand;
    (void)columns;
    (void)four;
}
#endif

#endif
