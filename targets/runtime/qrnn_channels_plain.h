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

/* Operand x of a column, as qrnn_dot_plain.h has it; `wide` as qrnn_wide_columns says it */
static inline void qrnn_put_operand(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t x)
{
#ifdef QRNN_USE_FOUR
    if (wide == 0xFFFFFFFFu) {
        operand[1u + column] = x;
        return;
    }
#endif
#if defined(QRNN_USE_WIDE)
    if (wide != 0u) {
        qrnn_put_wide(operand, column, (x + 32768u) & 0xFFFFu);
        return;
    }
#endif
    (void)wide;
#ifdef QRNN_OWN_NARROW /* halfwords, until all are there */
    {
        const uint16_t half = (uint16_t)(x & 0xFFFFu);
        QRNN_COPY((uint8_t *)operand + 2u * column, &half, sizeof half);
    }
#else
    ((uint8_t *)&operand[1])[column] = (uint8_t)((x + 128u) & 0xFFu);
#endif
}

/* Operands that lie in several places become one vector, as qrnn_dot_plain.h has it: begin, then put all columns in whatever order, then end. */
#ifdef QRNN_OWN_NARROW
#define QRNN_HAS_SUM(wide) ((wide) != 0u)
#else
#define QRNN_HAS_SUM(wide) 1
#endif

static inline void qrnn_begin_columns(uint32_t *operand)
{
    operand[0] = 0;
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    uint32_t sum = 0;
    for (uint32_t k = 0; k < count; k++) {
        const uint32_t x = (uint32_t)(int32_t)from[k];
        qrnn_put_operand(operand, wide, column + k, x);
        sum += x;
    }
    operand[0] += QRNN_HAS_SUM(wide) ? sum : 0u;
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    for (uint32_t k = 0; k < count; k++) {
        qrnn_put_operand(operand, wide, column + k, 0);
    }
}

static inline void qrnn_end_columns(uint32_t *operand, uint32_t wide, uint32_t columns, uint32_t four)
{
#ifdef QRNN_USE_FOUR
    if (four != 0u) {
        qrnn_sum_groups(operand, columns);
    }
#endif
    (void)four;
#ifdef QRNN_OWN_NARROW
    if (wide == 0u) { /* x[k + 1] 2^16 + x[k] of the halfwords x[k], x[k + 1] */
        for (uint32_t pair = 0; pair < columns / 2u; pair++) {
            operand[pair] -= (operand[pair] & 0x8000u) << 1;
        }
        return;
    }
#endif
    operand[0] = (operand[0] + (wide != 0u ? 32768u : 128u) * columns) * 128u;
}
#endif

#endif
