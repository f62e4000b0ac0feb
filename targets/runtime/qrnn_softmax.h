/* SPDX-License-Identifier: Apache-2.0 */
/* The integer softmax, section 3 of docs/arithmetic.md. */
#ifndef QRNN_SOFTMAX_H
#define QRNN_SOFTMAX_H

#include "qrnn_contract.h"

#if defined(QRNN_HAS_EXP_WEIGHT)
/* qrnn_exp_weight: both entries from one address, and a mask that an instruction holds */
static inline int32_t qrnn_exp_weight(int32_t d, uint32_t frac, const QRNN_FLASH uint16_t *table)
{
    const int32_t scaled = (frac > 11U) ? qrnn_shift_right_round(d, frac - 11U) : qrnn_shift_left(d, 11U - frac);
    const int32_t m = qrnn_at_most(scaled, 32767);
    const QRNN_FLASH uint16_t *entry = &table[m >> 8];
    return (int32_t)entry[0] + qrnn_shift_right_round(((int32_t)entry[1] - (int32_t)entry[0]) * ((m & 255) * 128), 15U);
}
#endif

/* y_k = round(2^14 * w_k / total), w_k = exp(x_k - max x): probabilities in Q1.14; x and y may be one array */
static void qrnn_softmax(const int16_t *x, uint32_t count, uint32_t frac, const QRNN_FLASH uint16_t *table, int16_t *y)
{
    int32_t largest = INT16_MIN;
    uint32_t total = 0U;

    for (uint32_t k = 0U; k < count; k++) {
        largest = (x[k] > largest) ? x[k] : largest;
    }
    for (uint32_t k = 0U; k < count; k++) {
        total += (uint32_t)qrnn_exp_weight(largest - x[k], frac, table);
    }
    for (uint32_t k = 0U; k < count; k++) {
        const uint32_t weight = (uint32_t)qrnn_exp_weight(largest - x[k], frac, table);
        y[k] = (int16_t)qrnn_softmax_divide(weight, total);
    }
}

#endif
