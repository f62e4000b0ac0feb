/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, in C99 for any processor. */
#ifndef QRNN_CHANNELS_H
#define QRNN_CHANNELS_H

#include "qrnn_channels_scalar.h"

/* to_operand of `count` values, or zeros where there are none */
static inline void qrnn_keep_operands(const int16_t *values, uint32_t count, qrnn_operand_format format, int16_t *to)
{
    for (uint32_t k = 0U; k < count; k++) {
        to[k] = (values == NULL) ? (int16_t)0 : (int16_t)qrnn_to_operand(values[k], format.shift, format.limit);
    }
}

/* y = max(x, y) */
static inline void qrnn_take_largest(const int16_t *x, uint32_t count, int16_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        y[k] = (x[k] > y[k]) ? x[k] : y[k];
    }
}

#define qrnn_channels_add qrnn_channels_add_each

#if defined(QRNN_USE_COLUMNS) && !defined(QRNN_OWN_COLUMNS)
#include "qrnn_dot_plain.h"

/* Operands that lie in several places become one vector, as qrnn_dot_plain.h has it: begin, then put all columns in whatever order, then end. */
static inline void qrnn_begin_columns(uint32_t *operand)
{
    operand[0] = 0;
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    uint32_t *const to = &operand[1u + column];
    uint32_t sum = operand[0];
    (void)wide;
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t x = (uint32_t)(int32_t)from[k];
        to[k] = x;
        sum += x;
    }
    operand[0] = sum;
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    (void)wide;
    QRNN_CLEAR(&operand[1u + column], count * 4u);
}

static inline void qrnn_end_columns(uint32_t *operand, uint32_t columns, uint32_t four)
{
    operand[0] *= 128u;
#ifdef QRNN_USE_FOUR
    if (four != 0u) {
        qrnn_sum_groups(operand, columns);
    }
#else
    (void)columns;
    (void)four;
#endif
}
#endif

#endif
