/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, in vectors of an instruction set. */
#ifndef QRNN_CHANNELS_H
#define QRNN_CHANNELS_H

#define QRNN_HAS_WRITE_BLOCK
#include "qrnn_channels_scalar.h"

/* to_operand of `count` values, or zeros where there are none */
static inline void qrnn_keep_operands(const int16_t *values, uint32_t count, qrnn_operand_format format, int16_t *to)
{
    if (values == NULL) {
        QRNN_CLEAR(to, count * 2U);
        return;
    }
    for (uint32_t k = 0U; k < count; k += QRNN_BLOCK_ROWS) {
        qrnn_vector_write16_some(&to[k], qrnn_vector_operands(&values[k], count - k, format.shift, format.limit), count - k);
    }
}

/* y = max(x, y) */
static inline void qrnn_take_largest(const int16_t *x, uint32_t count, int16_t *y)
{
    for (uint32_t k = 0U; k < count; k += QRNN_BLOCK_ROWS) {
        const qrnn_vector largest = qrnn_vector_max(qrnn_vector_read16_some(&x[k], count - k), qrnn_vector_read16_some(&y[k], count - k));
        qrnn_vector_write16_some(&y[k], largest, count - k);
    }
}

#define qrnn_channels_add qrnn_channels_add_each

#ifdef QRNN_USE_COLUMNS
/* y = saturate16_shifted(requantize(sums, multiplier, left_shift), pre_shift) of the first `count` rows of a block */
static inline void qrnn_write_block(const int32_t *sums, const int32_t *multiplier, const uint8_t *left_shift, const uint8_t *pre_shift,
                                    uint32_t count, int16_t *y)
{
    const qrnn_vector sum = qrnn_vector_read32(sums);
    const qrnn_vector shifted = (left_shift == NULL) ? sum : qrnn_vector_shift_left_each(sum, qrnn_vector_read8(left_shift));
    const qrnn_vector found = qrnn_vector_requantize(shifted, qrnn_vector_read32(multiplier));
    const qrnn_vector limited = (pre_shift == NULL) ? qrnn_vector_saturate16(found) : qrnn_vector_saturate16_shifted(found, pre_shift);
    qrnn_vector_write16_some(y, limited, count);
}

/* Operands that lie in several places become one vector, as qrnn_dot_lanes.h has it: begin, then put all columns in whatever order, then end. */
static inline void qrnn_begin_columns(uint32_t *operand)
{
    (void)operand;
}

/* one operand; `plane` is 0 for those of 8 bits */
static inline void qrnn_put_column(uint8_t *operand, uint32_t plane, uint32_t column, int32_t x)
{
#if defined(QRNN_WIDE_ALONE)
    (void)plane;
    ((int16_t *)(void *)operand)[column] = (int16_t)x;
#elif defined(QRNN_PLANES)
    if (plane != 0U) {
        operand[column] = (uint8_t)(((uint32_t)(x >> 8) ^ QRNN_BYTE_FLIP) & 0xFFU);
        operand[plane + column] = (uint8_t)(((uint32_t)x ^ QRNN_LOW_FLIP) & 0xFFU);
    } else {
        operand[column] = (uint8_t)(((uint32_t)x ^ QRNN_BYTE_FLIP) & 0xFFU);
    }
#else
    if (plane != 0U) {
        ((int16_t *)(void *)operand)[column] = (int16_t)x;
    } else {
        operand[column] = (uint8_t)(((uint32_t)x ^ QRNN_BYTE_FLIP) & 0xFFU);
    }
#endif
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    uint8_t *const to = (uint8_t *)operand;
    uint32_t k = 0U;

    for (; (k + QRNN_BLOCK_ROWS) <= count; k += QRNN_BLOCK_ROWS) {
#if defined(QRNN_WIDE_ALONE)
        qrnn_vector_put_wide(to, wide, column + k, qrnn_vector_read16(&from[k]));
#else
        if (wide != 0U) {
            qrnn_vector_put_wide(to, wide, column + k, qrnn_vector_read16(&from[k]));
        } else {
            qrnn_vector_put(to, column + k, qrnn_vector_read16(&from[k]));
        }
#endif
    }
    for (; k < count; k++) {
        qrnn_put_column(to, wide, column + k, from[k]);
    }
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    for (uint32_t k = 0U; k < count; k++) {
        qrnn_put_column((uint8_t *)operand, wide, column + k, 0);
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
