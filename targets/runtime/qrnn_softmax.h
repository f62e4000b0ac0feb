/* SPDX-License-Identifier: Apache-2.0 */
/* The integer softmax, section 3 of docs/arithmetic.md. */
#ifndef QRNN_SOFTMAX_H
#define QRNN_SOFTMAX_H

#include "qrnn_contract.h"

/* y_k = round(2^14 * w_k / total), w_k = exp(x_k - max x): probabilities in Q1.14; x and y may be one array */
static void qrnn_softmax(const int16_t *x, uint32_t count, uint32_t frac, const uint16_t *table, int16_t *y)
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
