/* Functions of single values, section 5 of docs/arithmetic.md. */
#ifndef QRNN_POINTWISE_H
#define QRNN_POINTWISE_H

#include "qrnn_gates.h"

/* y = round(gate(align16(x, in_frac, gate_frac)) / 2^shift); x and y may be one array */
static void qrnn_pointwise(const qrnn_gate *gate, const int16_t *x, uint32_t count, uint32_t in_frac, uint32_t gate_frac,
                           uint32_t shift, int16_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        const int32_t value = qrnn_evaluate(gate, qrnn_align16(x[k], in_frac, gate_frac));
        y[k] = (int16_t)qrnn_shift_right_round(value, shift);
    }
}

#endif
