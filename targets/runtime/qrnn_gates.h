/* Gate functions of an int16 argument, section 3 of docs/arithmetic.md. Those that the model uses are compiled in. */
#ifndef QRNN_GATES_H
#define QRNN_GATES_H

#include "qrnn_arithmetic.h"

/* from + round((to - from) * fraction): between two entries of a table; bits of x below segment_bits are the fraction, in Q0.15 */
static inline int32_t qrnn_interpolate(int32_t x, uint32_t segment_bits, int32_t from, int32_t to)
{
    const int32_t fraction = (int32_t)(((uint32_t)x << (15U - segment_bits)) & 32767U);
    return from + qrnn_shift_right_round((to - from) * fraction, 15U);
}

#if defined(QRNN_GATE_ODD)
/* y = offset + sign(x) * p(min(|x|, 32767 - cut)), and -y where offset < 0 */
static inline int32_t qrnn_odd(const qrnn_gate *gate, int32_t x)
{
    const int32_t offset = gate->value[0];
    const uint32_t segment_bits = (uint32_t)gate->value[1];
    const int32_t most = 32767 - gate->value[2];
    const int32_t size = (x < 0) ? -x : x;
    const int32_t m = (size > most) ? most : size;
    const int16_t *entry = &gate->table[(uint32_t)m >> segment_bits];
    const int32_t p = qrnn_interpolate(m, segment_bits, entry[0], entry[1]);
    const int32_t y = (x < 0) ? (offset - p) : (offset + p);
    return (offset < 0) ? -y : y;
}
#endif

#if defined(QRNN_GATE_RAMP)
/* y = saturate(round((x * slope + intercept) / 2^shift), low, high) */
static inline int32_t qrnn_ramp(const qrnn_gate *gate, int32_t x)
{
    const int32_t line = (x * gate->value[0]) + gate->value[1];
    return qrnn_saturate(qrnn_shift_right_round(line, (uint32_t)gate->value[2]), gate->value[3], gate->value[4]);
}
#endif

#if defined(QRNN_GATE_TABLE)
/* y = p(saturate(x, lowest, highest) + 32768) */
static inline int32_t qrnn_table(const qrnn_gate *gate, int32_t x)
{
    const uint32_t segment_bits = (uint32_t)gate->value[1];
    const int32_t m = qrnn_saturate(x, gate->value[0], gate->value[2]) + 32768;
    const int32_t *entry = &gate->wide_table[(uint32_t)m >> segment_bits];
    return qrnn_interpolate(m, segment_bits, entry[0], entry[1]);
}
#endif

#if defined(QRNN_GATE_THRESHOLD)
/* y = below where x <= threshold, else min(x * slope + intercept, high) */
static inline int32_t qrnn_threshold(const qrnn_gate *gate, int32_t x)
{
    const int32_t line = (x * gate->value[1]) + gate->value[2];
    const int32_t above = (line > gate->value[3]) ? gate->value[3] : line;
    return (x <= gate->value[0]) ? gate->value[4] : above;
}
#endif

static inline int32_t qrnn_evaluate(const qrnn_gate *gate, int32_t x)
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
        return 0; /* the exporter writes no other kind */
#endif
    }
}

#endif
