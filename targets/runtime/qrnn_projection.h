/* The end of a projection, section 4 of docs/arithmetic.md: what a dense product becomes before it is fed back. */
#ifndef QRNN_PROJECTION_H
#define QRNN_PROJECTION_H

#include "qrnn_gates.h"

/* s = saturate(round(f(v) / 2^shift), 32767), f a gate function, or the identity where gate is NULL; in place */
static void qrnn_to_state(const qrnn_gate *gate, uint32_t count, uint32_t shift, int16_t *v)
{
    for (uint32_t k = 0U; k < count; k++) {
        const int32_t value = (gate == NULL) ? v[k] : qrnn_evaluate(gate, v[k]);
        v[k] = (int16_t)qrnn_saturate(qrnn_shift_right_round(value, shift), -32767, 32767);
    }
}

#endif
