/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of single values, section 5 of docs/arithmetic.md. */
#ifndef QRNN_POINTWISE_H
#define QRNN_POINTWISE_H

#include "qrnn_contract_lanes.h"

/* y = round(gate(align16(x, in_frac, gate_frac)) / 2^shift); x and y may be one array. */
static void qrnn_pointwise(const QRNN_FLASH qrnn_gate *gate, const int16_t *x, uint32_t count, uint32_t in_frac, uint32_t gate_frac,
                           uint32_t shift, int16_t *y)
{
    for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
        const qrnn_lanes value = qrnn_lanes_read16(&x[k], count - k);
        const qrnn_lanes result = qrnn_evaluate(gate, qrnn_align16_argument(value, in_frac, gate_frac));
        qrnn_lanes_write16(&y[k], qrnn_lanes_shift_right_round(result, shift), count - k);
    }
}

#endif
