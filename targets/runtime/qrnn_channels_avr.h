/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, with operands for AVR cores. */
#ifndef QRNN_CHANNELS_AVR_H
#define QRNN_CHANNELS_AVR_H

#define QRNN_OWN_COLUMNS
#include "qrnn_channels_plain.h"

#ifdef QRNN_USE_COLUMNS
#include "qrnn_dot_avr.h"

/* Operands that lie in several places become one vector, as qrnn_dot_avr.h has it: begin, then put all columns in whatever order, then end.
 * `wide` is 0 for operands of 8 bits. */
static inline void qrnn_begin_columns(uint32_t *operand)
{
    operand[0] = 0;
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    uint8_t *const bytes = (uint8_t *)&operand[1] + column;
    uint16_t *const halfwords = (uint16_t *)&operand[1] + column;
    uint32_t sum = operand[0];
    for (uint16_t k = 0; k < (uint16_t)count; k++) {
        const int16_t x = from[k];
        if (wide == 0u) {
            bytes[k] = (uint8_t)(x + 128);
        } else {
            halfwords[k] = (uint16_t)((uint16_t)x ^ 0x8000u);
        }
        sum += (uint32_t)(int32_t)x;
    }
    operand[0] = sum;
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    uint8_t *const bytes = (uint8_t *)&operand[1] + column;
    uint16_t *const halfwords = (uint16_t *)&operand[1] + column;
    for (uint16_t k = 0; k < (uint16_t)count; k++) {
        if (wide == 0u) {
            bytes[k] = 128u;
        } else {
            halfwords[k] = 0x8000u;
        }
    }
}

static inline void qrnn_end_columns(uint32_t *operand, uint32_t wide, uint32_t columns, uint32_t four)
{
    (void)wide;
    (void)columns;
    (void)four;
    operand[0] *= 128u;
}
#endif

#endif
