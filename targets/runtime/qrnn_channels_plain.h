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

#endif
