/* SPDX-License-Identifier: Apache-2.0 */
/* The contract's gate functions and cells, each lane a unit.
 *
 * Made by tools/make_contract.py from the Python code of the contract (qrnn/arithmetic), not written by hand. Every value is
 * computed in 32 bits where the bounds of the arguments prove that it fits, and in 64 bits elsewhere. */
#ifndef QRNN_CONTRACT_LANES_H
#define QRNN_CONTRACT_LANES_H

#include "qrnn_lanes.h"

#if !defined(QRNN_HAS_PIECEWISE_LINEAR16)
/* Return p(x) for x >= 0: table[k] + round((table[k+1] - table[k]) * fraction), k = x >> segment_bits.
 * segment_bits 0 ... 15; table reaches to entry k + 1: 2^(15 - segment_bits) + 1 entries for x <= 32767, 2^(16 - segment_bits) + 1
 * for x <= 65535. The fraction is taken to Q0.15, so one rounding, half up. Neighbours differ by at most 65534: the product is an
 * int32.
 * Section 3 of docs/arithmetic.md. Here x 0 ... 2^16 - 1, entries of table -2^15 ... 2^15 - 1, segment_bits 0 ... 15. */
static inline qrnn_lanes qrnn_piecewise_linear16(qrnn_lanes x, const QRNN_FLASH int16_t *table, uint32_t segment_bits)
{
    const qrnn_lanes k = qrnn_lanes_shift_right(x, segment_bits);
    const qrnn_lanes from = qrnn_lanes_entry16(table, k);
    const qrnn_lanes to = qrnn_lanes_entry16(&table[1], k);
    const qrnn_lanes fraction = qrnn_lanes_and(qrnn_lanes_shift_left(x, 15U - segment_bits), qrnn_lanes_all(32767));
    return qrnn_lanes_add(from, qrnn_lanes_shift_right_round(qrnn_lanes_multiply(qrnn_lanes_subtract(to, from), fraction), 15U));
}
#endif

/* Return p(x) for x >= 0: table[k] + round((table[k+1] - table[k]) * fraction), k = x >> segment_bits.
 * Section 3 of docs/arithmetic.md. Here x 0 ... 2^16 - 1, entries of table -2^15 ... 2^15, segment_bits 0 ... 15. */
static inline qrnn_lanes qrnn_piecewise_linear32(qrnn_lanes x, const QRNN_FLASH int32_t *table, uint32_t segment_bits)
{
    const qrnn_lanes k = qrnn_lanes_shift_right(x, segment_bits);
    const qrnn_lanes from = qrnn_lanes_entry32(table, k);
    const qrnn_lanes to = qrnn_lanes_entry32(&table[1], k);
    const qrnn_lanes fraction = qrnn_lanes_and(qrnn_lanes_shift_left(x, 15U - segment_bits), qrnn_lanes_all(32767));
    return qrnn_lanes_add(from, qrnn_lanes_shift_right_round(qrnn_lanes_multiply(qrnn_lanes_subtract(to, from), fraction), 15U));
}

#if defined(QRNN_USE_CUT)
/* Return y = offset + sign(x) * p(min(|x|, 32767 - cut)) for an int16 x, and -y where offset < 0; |-32768| counts as 32767.
 * offset 0 or +-2^14. A negative one gives |offset| - sign(x) * p: exactly 1 - f for the f of the positive offset, which entries of
 * the opposite sign would not, since halves are rounded up whatever the sign. cut 0 ... 32767 clips the argument.
 * Section 3 of docs/arithmetic.md. Here x -(2^31 - 1) ... 2^31 - 1, offset -2^14 ... 2^14, segment_bits 0 ... 15,
 * cut 0 ... 2^15 - 1, entries of table -2^15 ... 2^15 - 1. */
static inline qrnn_lanes qrnn_evaluate_odd(const QRNN_FLASH qrnn_gate *gate, qrnn_lanes x)
{
    const int32_t offset = gate->value[0];
    const uint32_t segment_bits = (uint32_t)gate->value[1];
    const int32_t cut = gate->value[2];
    const QRNN_FLASH int16_t *table = gate->table;
    const qrnn_lanes p = qrnn_piecewise_linear16(qrnn_lanes_min(qrnn_lanes_size(x), 32767 - cut), table, segment_bits);
    return (offset < 0) ? qrnn_lanes_subtract(qrnn_lanes_all(-offset), qrnn_lanes_with_sign(p, x))
        : qrnn_lanes_add(qrnn_lanes_all(offset), qrnn_lanes_with_sign(p, x));
}
#else
/* Return y = offset + sign(x) * p(min(|x|, 32767 - cut)) for an int16 x, and -y where offset < 0; |-32768| counts as 32767.
 * Section 3 of docs/arithmetic.md. Here x -(2^31 - 1) ... 2^31 - 1, offset -2^14 ... 2^14, segment_bits 0 ... 15, cut = 0,
 * entries of table -2^15 ... 2^15 - 1. */
static inline qrnn_lanes qrnn_evaluate_odd(const QRNN_FLASH qrnn_gate *gate, qrnn_lanes x)
{
    const int32_t offset = gate->value[0];
    const uint32_t segment_bits = (uint32_t)gate->value[1];
    const QRNN_FLASH int16_t *table = gate->table;
    const qrnn_lanes p = qrnn_piecewise_linear16(qrnn_lanes_at_most_32767(qrnn_lanes_size(x)), table, segment_bits);
    return (offset < 0) ? qrnn_lanes_subtract(qrnn_lanes_all(-offset), qrnn_lanes_with_sign(p, x))
        : qrnn_lanes_add(qrnn_lanes_all(offset), qrnn_lanes_with_sign(p, x));
}
#endif

/* Return clamp(round((x * slope + intercept) / 2^shift), low, high) for an int16 x; |x * slope + intercept| + 2^shift < 2^31.
 * Section 3 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, slope -(2^15 - 1) ... 2^15 - 1, intercept -2^31 ... 2^31 - 1,
 * shift 0 ... 15, low -2^15 ... 2^15, high -2^15 ... 2^15. |x * slope + intercept| + 2^15 < 2^31 is checked for every gate
 * function.
 * Saturates its argument to int16 itself. */
static inline qrnn_lanes qrnn_evaluate_ramp(const QRNN_FLASH qrnn_gate *gate, qrnn_lanes x)
{
    const int32_t slope = gate->value[0];
    const int32_t intercept = gate->value[1];
    const uint32_t shift = (uint32_t)gate->value[2];
    const int32_t low = gate->value[3];
    const int32_t high = gate->value[4];
    const qrnn_lanes x16 = qrnn_lanes_saturate16(x);
    return qrnn_lanes_min(qrnn_lanes_max(qrnn_lanes_shift_right_round(qrnn_lanes_add(qrnn_lanes_multiply(x16,
        qrnn_lanes_all(slope)), qrnn_lanes_all(intercept)), shift), low), high);
}

/* Return p(clamp(x, lowest, highest) + 32768) for an int16 x; knot k of the table is x = (k << segment_bits) - 32768.
 * -32768 <= lowest <= highest <= 32767; entries within +-32768.
 * Section 3 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, lowest -2^15 ... 2^15 - 1, highest -2^15 ... 2^15 - 1,
 * segment_bits 0 ... 15, entries of table -2^15 ... 2^15. */
static inline qrnn_lanes qrnn_evaluate_table(const QRNN_FLASH qrnn_gate *gate, qrnn_lanes x)
{
    const int32_t lowest = gate->value[0];
    const int32_t highest = gate->value[2];
    const uint32_t segment_bits = (uint32_t)gate->value[1];
    const QRNN_FLASH int32_t *table = gate->wide_table;
    return qrnn_piecewise_linear32(qrnn_lanes_add(qrnn_lanes_min(qrnn_lanes_max(x, lowest), highest), qrnn_lanes_all(32768)), table,
        segment_bits);
}

/* Return below where x <= threshold, else min(x * slope + intercept, high), for an int16 x; |x * slope + intercept| < 2^31.
 * Section 3 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, threshold -2^15 ... 2^15 - 1, slope -(2^15 - 1) ... 2^15 - 1,
 * intercept -2^31 ... 2^31 - 1, high -2^15 ... 2^15, below -2^15 ... 2^15. |x * slope + intercept| < 2^31 is checked for every gate
 * function.
 * Saturates its argument to int16 itself. */
static inline qrnn_lanes qrnn_evaluate_threshold(const QRNN_FLASH qrnn_gate *gate, qrnn_lanes x)
{
    const int32_t threshold = gate->value[0];
    const int32_t slope = gate->value[1];
    const int32_t intercept = gate->value[2];
    const int32_t high = gate->value[3];
    const int32_t below = gate->value[4];
    const qrnn_lanes x16 = qrnn_lanes_saturate16(x);
    const qrnn_lanes line = qrnn_lanes_add(qrnn_lanes_multiply(x16, qrnn_lanes_all(slope)), qrnn_lanes_all(intercept));
    return qrnn_lanes_choose(x16, threshold, below, qrnn_lanes_min(line, high));
}

/* Return x, int16 with from_frac fraction bits, as int16 with to_frac: rounded half up, or shifted left and saturated.
 * Section 2 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, from_frac 0 ... 15, to_frac 0 ... 15.
 * saturate16 is left to the gate function, which saturates its argument itself. */
static inline qrnn_lanes qrnn_align16_argument(qrnn_lanes x, uint32_t from_frac, uint32_t to_frac)
{
    return (to_frac >= from_frac) ? qrnn_lanes_shift_left(x, to_frac - from_frac) : qrnn_lanes_shift_right_round(x, from_frac
        - to_frac);
}

/* Add both partial sums, then saturate once: int16 in the gate's input format.
 * Section 4 of docs/arithmetic.md. Here x_part -(2^30 - 1) ... 2^30 - 1, h_part -(2^30 - 1) ... 2^30 - 1.
 * saturate16_shifted is left to the gate function, which saturates its argument itself. */
static inline qrnn_lanes qrnn_preactivation(qrnn_lanes x_part, qrnn_lanes h_part)
{
    return qrnn_lanes_add(x_part, h_part);
}

#if defined(QRNN_UNIT_GATES)
/* Return the pre-activation of a GRU's n with linear_before_reset = 1: W*x + r*(R*h + b), with one rounding and one saturation.
 * Section 4 of docs/arithmetic.md. Here x_part -(2^30 - 1) ... 2^30 - 1, h_part -(2^30 - 1) ... 2^30 - 1, r 0 ... 2^15,
 * r_frac = 15.
 * saturate16_shifted is left to the gate function, which saturates its argument itself. */
static inline qrnn_lanes qrnn_candidate_after_reset(qrnn_lanes x_part, qrnn_lanes h_part, qrnn_lanes r, uint32_t r_frac)
{
    (void)r_frac;
    return qrnn_lanes_add(x_part, qrnn_lanes_multiply_q15(h_part, r));
}
#else
/* Return the pre-activation of a GRU's n with linear_before_reset = 1: W*x + r*(R*h + b), with one rounding and one saturation.
 * Section 4 of docs/arithmetic.md. Here x_part -(2^30 - 1) ... 2^30 - 1, h_part -(2^30 - 1) ... 2^30 - 1, r -2^15 ... 2^15,
 * r_frac 0 ... 15.
 * saturate16_shifted is left to the gate function, which saturates its argument itself. */
static inline qrnn_lanes qrnn_candidate_after_reset(qrnn_lanes x_part, qrnn_lanes h_part, qrnn_lanes r, uint32_t r_frac)
{
    return qrnn_within_int32(x_part + qrnn_shift_right_round64((int64_t)h_part * r, r_frac));
}
#endif

/* Return the operand of r*h of a GRU with linear_before_reset = 0, rounded once from the full product.
 * Section 4 of docs/arithmetic.md. Here r -2^15 ... 2^15, h -(2^15 - 1) ... 2^15 - 1, r_frac 0 ... 15, shift 0 ... 15,
 * limit 1 ... 2^15 - 1. */
static inline qrnn_lanes qrnn_reset_operand(qrnn_lanes r, qrnn_lanes h, uint32_t r_frac, uint32_t shift, int32_t limit)
{
    return qrnn_lanes_max(qrnn_lanes_min(qrnn_lanes_shift_right_round(qrnn_lanes_multiply(r, h), r_frac + shift), limit), -limit);
}

/* Return f = 1 - i, exactly; i_frac fraction bits.
 * Section 4 of docs/arithmetic.md. Here i -2^15 ... 2^15, i_frac 0 ... 15. */
static inline qrnn_lanes qrnn_coupled_forget(qrnn_lanes i, uint32_t i_frac)
{
    return qrnn_lanes_subtract(qrnn_lanes_all(INT32_C(1) << i_frac), i);
}

#if defined(QRNN_UNIT_GATES)
/* Return c' = sat32(round(f*c) + round(i*g)), each rounded to c's fraction bits; product_shift = i_frac + g_frac - c_frac, 0 ...
 * 30.
 * Section 4 of docs/arithmetic.md. Here i -2^15 ... 2^15, f 0 ... 2^15, g -2^15 ... 2^15, c -2^31 ... 2^31 - 1, f_frac = 15,
 * product_shift 0 ... 30. */
static inline qrnn_lanes qrnn_lstm_cell_state(qrnn_lanes i, qrnn_lanes f, qrnn_lanes g, qrnn_lanes c, uint32_t f_frac,
                                              uint32_t product_shift)
{
    (void)f_frac;
    return qrnn_lanes_add_saturate32(qrnn_lanes_multiply_q15(c, f), qrnn_lanes_shift_right_round(qrnn_lanes_multiply(i, g),
        product_shift));
}
#else
/* Return c' = sat32(round(f*c) + round(i*g)), each rounded to c's fraction bits; product_shift = i_frac + g_frac - c_frac, 0 ...
 * 30.
 * Section 4 of docs/arithmetic.md. Here i -2^15 ... 2^15, f -2^15 ... 2^16, g -2^15 ... 2^15, c -2^31 ... 2^31 - 1,
 * f_frac 0 ... 15, product_shift 0 ... 30. */
static inline qrnn_lanes qrnn_lstm_cell_state(qrnn_lanes i, qrnn_lanes f, qrnn_lanes g, qrnn_lanes c, uint32_t f_frac,
                                              uint32_t product_shift)
{
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64((int64_t)c * f, f_frac) + qrnn_shift_right_round(i * g, product_shift),
        INT64_C(-2147483648), INT64_C(2147483647));
}
#endif

/* Return c as the int16 argument of the output activation, saturated; shift = c_frac - in_frac >= 0.
 * Section 4 of docs/arithmetic.md. Here c -2^31 ... 2^31 - 1, shift 0 ... 23.
 * saturate16 is left to the gate function, which saturates its argument itself. */
static inline qrnn_lanes qrnn_lstm_output_argument(qrnn_lanes c, uint32_t shift)
{
    return qrnn_lanes_shift_right_round_full(c, shift);
}

/* Return h = o * activation(c) in one rounding; shift = o_frac + out_frac - h_frac, 0 ... 30.
 * Section 4 of docs/arithmetic.md. Here o -2^15 ... 2^15, activated_c -2^15 ... 2^15, shift 0 ... 30. */
static inline qrnn_lanes qrnn_lstm_hidden_state(qrnn_lanes o, qrnn_lanes activated_c, uint32_t shift)
{
    return qrnn_lanes_state(qrnn_lanes_shift_right_round(qrnn_lanes_multiply(o, activated_c), shift));
}

#if defined(QRNN_UNIT_GATES)
/* Return h' = z*h + (1 - z)*n with one rounding; n is first rounded to h's fraction bits, n_shift = n_frac - h_frac >= 0.
 * For z in [0, 1] this is a convex combination of two values within +-32767, which cannot saturate.
 * Section 4 of docs/arithmetic.md. Here z 0 ... 2^15, n -(2^15 - 1) ... 2^15 - 1, h -(2^15 - 1) ... 2^15 - 1, z_frac = 15,
 * n_shift 0 ... 15. z lies in [0, 1]: the blend is 2^15 times a mean of n and h. */
static inline qrnn_lanes qrnn_gru_hidden_state(qrnn_lanes z, qrnn_lanes n, qrnn_lanes h, uint32_t z_frac, uint32_t n_shift)
{
    (void)z_frac;
    const qrnn_lanes blend = qrnn_lanes_add(qrnn_lanes_multiply(z, h),
        qrnn_lanes_multiply(qrnn_lanes_subtract(qrnn_lanes_all(32768), z), qrnn_lanes_shift_right_round(n, n_shift)));
    return qrnn_lanes_shift_right_round(blend, 15U);
}
#else
/* Return h' = z*h + (1 - z)*n with one rounding; n is first rounded to h's fraction bits, n_shift = n_frac - h_frac >= 0.
 * Section 4 of docs/arithmetic.md. Here z -2^15 ... 2^15, n -2^15 ... 2^15, h -(2^15 - 1) ... 2^15 - 1, z_frac 0 ... 15,
 * n_shift 0 ... 15. */
static inline qrnn_lanes qrnn_gru_hidden_state(qrnn_lanes z, qrnn_lanes n, qrnn_lanes h, uint32_t z_frac, uint32_t n_shift)
{
    const int64_t blend = (z * h) + (((int64_t)((INT32_C(1) << z_frac) - z)) * qrnn_shift_right_round(n, n_shift));
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64(blend, z_frac), INT64_C(-32767), INT64_C(32767));
}
#endif

/* Return h = f(pre-activation), rounded from the function's fraction bits to those of h; shift = out_frac - h_frac >= 0.
 * Section 4 of docs/arithmetic.md. Here activated -2^15 ... 2^15, shift 0 ... 15. */
static inline qrnn_lanes qrnn_rnn_hidden_state(qrnn_lanes activated, uint32_t shift)
{
    return qrnn_lanes_state(qrnn_lanes_shift_right_round(activated, shift));
}

/* The gate function at x, by its kind; those that the model uses are compiled in. x is any number with |x| < 2^31: every kind
 * saturates it to int16, ODD and TABLE by what they clamp their arguments to. */
static inline qrnn_lanes qrnn_evaluate(const QRNN_FLASH qrnn_gate *gate, qrnn_lanes x)
{
    switch (gate->kind) {
#if defined(QRNN_GATE_RAMP)
    case QRNN_RAMP:
        return qrnn_evaluate_ramp(gate, x);
#endif
#if defined(QRNN_GATE_TABLE)
    case QRNN_TABLE:
        return qrnn_evaluate_table(gate, x);
#endif
#if defined(QRNN_GATE_THRESHOLD)
    case QRNN_THRESHOLD:
        return qrnn_evaluate_threshold(gate, x);
#endif
#if defined(QRNN_GATE_SIGNED)
    case QRNN_SIGNED:
        return qrnn_evaluate_signed(gate, x);
#endif
    default:
#if defined(QRNN_GATE_ODD)
        return qrnn_evaluate_odd(gate, x);
#else
        (void)x;
        return qrnn_lanes_all(0); /* the exporter writes no other kind */
#endif
    }
}

#endif
