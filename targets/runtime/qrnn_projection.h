/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a projection, section 4 of docs/arithmetic.md: what a dense product becomes before it is fed back. */
#ifndef QRNN_PROJECTION_H
#define QRNN_PROJECTION_H

#include "qrnn_contract_lanes.h"

/* s = saturate(round(f(v) / 2^shift), 32767), f a gate function, or the identity where gate is NULL; in place */
static void qrnn_to_state(const QRNN_FLASH qrnn_gate *gate, uint32_t count, uint32_t shift, int16_t *v)
{
    for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
        const qrnn_lanes argument = qrnn_lanes_read16(&v[k], count - k);
        const qrnn_lanes value = (gate == NULL) ? argument : qrnn_evaluate(gate, argument);
        qrnn_lanes_write16(&v[k], qrnn_lanes_symmetric16(qrnn_lanes_shift_right_round(value, shift)), count - k);
    }
}

#endif
