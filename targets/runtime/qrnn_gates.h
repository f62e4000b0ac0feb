/* SPDX-License-Identifier: Apache-2.0 */
/* Gate functions, section 3 of docs/arithmetic.md, each lane an argument. Those that the model uses are compiled in.
 *
 * The contract gives them saturate16(x). Here they take any x with |x| < 2^31 and saturate themselves: for ODD and TABLE that is no
 * work, since what they clamp their arguments to lies within 16 bits. */
#ifndef QRNN_GATES_H
#define QRNN_GATES_H

#include "qrnn_lanes.h"

/* from + round((to - from) * fraction): between two entries of a table; bits of x below segment_bits are the fraction, in Q0.15 */
static inline qrnn_lanes qrnn_interpolate(qrnn_lanes x, uint32_t segment_bits, qrnn_lanes from, qrnn_lanes to)
{
    const qrnn_lanes fraction = qrnn_lanes_and(qrnn_lanes_shift_left(x, 15U - segment_bits), qrnn_lanes_all(32767));
    const qrnn_lanes rise = qrnn_lanes_multiply(qrnn_lanes_subtract(to, from), fraction);
    return qrnn_lanes_add(from, qrnn_lanes_shift_right_round(rise, 15U));
}

#if defined(QRNN_GATE_ODD)
/* y = offset + sign(x) * p(min(|x|, 32767 - cut)), and -y where offset < 0: |offset| + p, with the sign of x, turned where offset < 0 */
static inline qrnn_lanes qrnn_odd(const qrnn_gate *gate, qrnn_lanes x)
{
    const int32_t offset = gate->value[0];
    const uint32_t segment_bits = (uint32_t)gate->value[1];
#if defined(QRNN_USE_CUT)
    const qrnn_lanes m = qrnn_lanes_min(qrnn_lanes_size(x), 32767 - gate->value[2]);
#else /* cut is 0 */
    const qrnn_lanes m = qrnn_lanes_at_most_32767(qrnn_lanes_size(x));
#endif
    const qrnn_lanes k = qrnn_lanes_shift_right(m, segment_bits);
    const qrnn_lanes from = qrnn_lanes_entry16(gate->table, k);
    const qrnn_lanes to = qrnn_lanes_entry16(&gate->table[1], k);
    const qrnn_lanes p = qrnn_interpolate(m, segment_bits, from, to);
    return (offset < 0) ? qrnn_lanes_subtract(qrnn_lanes_all(-offset), qrnn_lanes_with_sign(p, x))
                        : qrnn_lanes_add(qrnn_lanes_all(offset), qrnn_lanes_with_sign(p, x));
}
#endif

#if defined(QRNN_GATE_RAMP)
/* y = saturate(round((x * slope + intercept) / 2^shift), low, high) */
static inline qrnn_lanes qrnn_ramp(const qrnn_gate *gate, qrnn_lanes x)
{
    const qrnn_lanes rise = qrnn_lanes_multiply(qrnn_lanes_saturate16(x), qrnn_lanes_all(gate->value[0]));
    const qrnn_lanes line = qrnn_lanes_add(rise, qrnn_lanes_all(gate->value[1]));
    const qrnn_lanes y = qrnn_lanes_shift_right_round(line, (uint32_t)gate->value[2]);
    return qrnn_lanes_min(qrnn_lanes_max(y, gate->value[3]), gate->value[4]);
}
#endif

#if defined(QRNN_GATE_TABLE)
/* y = p(saturate(x, lowest, highest) + 32768) */
static inline qrnn_lanes qrnn_table(const qrnn_gate *gate, qrnn_lanes x)
{
    const uint32_t segment_bits = (uint32_t)gate->value[1];
    const qrnn_lanes within = qrnn_lanes_min(qrnn_lanes_max(x, gate->value[0]), gate->value[2]);
    const qrnn_lanes m = qrnn_lanes_add(within, qrnn_lanes_all(32768));
    const qrnn_lanes k = qrnn_lanes_shift_right(m, segment_bits);
    const qrnn_lanes from = qrnn_lanes_entry32(gate->wide_table, k);
    const qrnn_lanes to = qrnn_lanes_entry32(&gate->wide_table[1], k);
    return qrnn_interpolate(m, segment_bits, from, to);
}
#endif

#if defined(QRNN_GATE_THRESHOLD)
/* y = below where x <= threshold, else min(x * slope + intercept, high) */
static inline qrnn_lanes qrnn_threshold(const qrnn_gate *gate, qrnn_lanes x)
{
    const qrnn_lanes argument = qrnn_lanes_saturate16(x);
    const qrnn_lanes rise = qrnn_lanes_multiply(argument, qrnn_lanes_all(gate->value[1]));
    const qrnn_lanes line = qrnn_lanes_add(rise, qrnn_lanes_all(gate->value[2]));
    return qrnn_lanes_choose(argument, gate->value[0], gate->value[4], qrnn_lanes_min(line, gate->value[3]));
}
#endif

static inline qrnn_lanes qrnn_evaluate(const qrnn_gate *gate, qrnn_lanes x)
{
    switch (gate->kind) {
#if defined(QRNN_GATE_RAMP)
    case QRNN_RAMP:
        return qrnn_ramp(gate, x);
#endif
#if defined(QRNN_GATE_TABLE)
    case QRNN_TABLE:
        return qrnn_table(gate, x);
#endif
#if defined(QRNN_GATE_THRESHOLD)
    case QRNN_THRESHOLD:
        return qrnn_threshold(gate, x);
#endif
    default:
#if defined(QRNN_GATE_ODD)
        return qrnn_odd(gate, x);
#else
        return qrnn_lanes_all(0); /* the exporter writes no other kind */
#endif
    }
}

#endif
