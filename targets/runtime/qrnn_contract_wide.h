/* SPDX-License-Identifier: Apache-2.0 */
/* Every function of the contract on int64_t, for layers that are translated from their Python.
 *
 * Made by tools/make_contract.py from the Python code of the contract (qrnn/arithmetic), not written by hand. Tables are
 * read by the address of their row. Values need at most 64 bits, as the contract says. */
#ifndef QRNN_CONTRACT_WIDE_H
#define QRNN_CONTRACT_WIDE_H

#include "qrnn_types.h"

static inline int64_t qrnn_wide_max(int64_t a, int64_t b)
{
    return (a > b) ? a : b;
}

static inline int64_t qrnn_wide_min(int64_t a, int64_t b)
{
    return (a < b) ? a : b;
}

static inline int64_t qrnn_wide_abs(int64_t a)
{
    return (a < 0) ? (-a) : a;
}

/* a / b, rounded down; b is not 0. C rounds towards 0. Small numbers are divided in 32 bits, for which many cores have an instruction. */
static inline int64_t qrnn_wide_floor_divide(int64_t a, int64_t b)
{
    if (((a | b) >> 31) == 0) {
        return (int64_t)((uint32_t)a / (uint32_t)b);
    }
    const int64_t quotient = a / b;
    return (((a % b) != 0) && ((a < 0) != (b < 0))) ? (quotient - 1) : quotient;
}

/* What a / b, rounded down, leaves: its sign is that of b. */
static inline int64_t qrnn_wide_floor_modulo(int64_t a, int64_t b)
{
    const int64_t rest = a % b;
    return ((rest != 0) && ((rest < 0) != (b < 0))) ? (rest + b) : rest;
}

/* Return |x|. It is not computed as -x: a compiler may keep an int16 in 16 bits, where -32768 has no negative. */
static inline int64_t qrnn_wide_magnitude(int64_t x)
{
    return (x < 0) ? (0 - x) : x;
}

/* Clamp x to [low, high]. */
static inline int64_t qrnn_wide_saturate(int64_t x, int64_t low, int64_t high)
{
    return (x < low) ? low : ((x > high) ? high : x);
}

/* Clamp to int16. */
static inline int64_t qrnn_wide_saturate16(int64_t x)
{
    return qrnn_wide_saturate(x, INT64_C(-32768), 32767);
}

/* Clamp to int32. */
static inline int64_t qrnn_wide_saturate32(int64_t x)
{
    return qrnn_wide_saturate(x, INT32_MIN, INT64_C(2147483647));
}

/* Clamp x to 16 - left_shift bits, then shift left: an int16 whose lowest left_shift bits are zero. */
static inline int64_t qrnn_wide_saturate16_shifted(int64_t x, int64_t left_shift)
{
    return qrnn_wide_saturate(x, (INT64_C(-32768)) >> left_shift, 32767 >> left_shift) * (INT64_C(1) << left_shift);
}

/* Return round(x / 2^shift), halves towards plus infinity: (x + 2^(shift-1)) >> shift; shift 0 ... 62; x itself for 0. */
static inline int64_t qrnn_wide_shift_right_round(int64_t x, int64_t shift)
{
    return (x + ((INT64_C(1) << shift) >> 1)) >> shift;
}

/* Return round(acc * 2^left_shift * multiplier / 2^32), halves up: the one requantization of the contract. */
static inline int64_t qrnn_wide_requantize(int64_t acc, int64_t multiplier, int64_t left_shift)
{
    return (((acc * (INT64_C(1) << left_shift)) * multiplier) + INT64_C(2147483648)) >> 32;
}

/* Return round(x * q15 / 2^15), halves up; x int32, q15 in [-32768, 32768], a Q0.15 factor. */
static inline int64_t qrnn_wide_multiply_q15(int64_t x, int64_t q15)
{
    return qrnn_wide_shift_right_round(x * q15, 15);
}

/* Return x, int16 with from_frac fraction bits, as int16 with to_frac: rounded half up, or shifted left and saturated. */
static inline int64_t qrnn_wide_align16(int64_t x, int64_t from_frac, int64_t to_frac)
{
    if (to_frac >= from_frac) {
        return qrnn_wide_saturate16(x * (INT64_C(1) << (to_frac - from_frac)));
    }
    return qrnn_wide_shift_right_round(x, from_frac - to_frac);
}

/* Return sat16(round((a * 2^a_shift + b * 2^b_shift) / 2^out_shift)): two int16 brought to the finer format, added, rounded once. */
static inline int64_t qrnn_wide_add16(int64_t a, int64_t b, int64_t a_shift, int64_t b_shift, int64_t out_shift)
{
    return qrnn_wide_saturate16(qrnn_wide_shift_right_round((a * (INT64_C(1) << a_shift)) + (b * (INT64_C(1) << b_shift)), out_shift));
}

/* Return the operand of a matrix product for an int16: clamp(round(x / 2^shift), +-limit); limit 127 for int8, at most 32767 for
 * int16. */
static inline int64_t qrnn_wide_to_operand(int64_t x, int64_t shift, int64_t limit)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(x, shift), 0 - limit, limit);
}

/* Return clamp(round((code * multiplier + bias) / 2^shift), +-limit), halves up: the integer of a graph input for a converter's
 * code. */
static inline int64_t qrnn_wide_from_code(int64_t code, int64_t multiplier, int64_t bias, int64_t shift, int64_t limit)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round((code * multiplier) + bias, shift), 0 - limit, limit);
}

/* Return p(x) for x >= 0: table[k] + round((table[k+1] - table[k]) * fraction), k = x >> segment_bits. */
static inline int64_t qrnn_wide_piecewise_linear(int64_t x, const QRNN_FLASH int32_t *table, int64_t segment_bits)
{
    int64_t k = x >> segment_bits;
    int64_t fraction = (x * (INT64_C(1) << (15 - segment_bits))) & 32767;
    return (int64_t)table[k] + qrnn_wide_multiply_q15((int64_t)table[k + 1] - (int64_t)table[k], fraction);
}

/* Return y = offset + sign(x) * p(min(|x|, 32767 - cut)) for an int16 x, and -y where offset < 0; |-32768| counts as 32767. */
static inline int64_t qrnn_wide_evaluate_odd(int64_t x, int64_t offset, int64_t segment_bits, int64_t cut,
                                             const QRNN_FLASH int32_t *table)
{
    int64_t p = qrnn_wide_piecewise_linear(qrnn_wide_saturate(qrnn_wide_magnitude(x), 0, 32767 - cut), table, segment_bits);
    int64_t y = (x < 0) ? (offset - p) : (offset + p);
    return (offset < 0) ? (0 - y) : y;
}

/* Return clamp(round((x * slope + intercept) / 2^shift), low, high) for an int16 x; |x * slope + intercept| + 2^shift < 2^31. */
static inline int64_t qrnn_wide_evaluate_ramp(int64_t x, int64_t slope, int64_t intercept, int64_t shift, int64_t low, int64_t high)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round((x * slope) + intercept, shift), low, high);
}

/* Return p(clamp(x, lowest, highest) + 32768) for an int16 x; knot k of the table is x = (k << segment_bits) - 32768. */
static inline int64_t qrnn_wide_evaluate_table(int64_t x, int64_t lowest, int64_t highest, int64_t segment_bits,
                                               const QRNN_FLASH int32_t *table)
{
    return qrnn_wide_piecewise_linear(qrnn_wide_saturate(x, lowest, highest) + INT64_C(32768), table, segment_bits);
}

/* Return below where x <= threshold, else min(x * slope + intercept, high), for an int16 x; |x * slope + intercept| < 2^31. */
static inline int64_t qrnn_wide_evaluate_threshold(int64_t x, int64_t threshold, int64_t slope, int64_t intercept, int64_t high,
                                                   int64_t below)
{
    int64_t line = (x * slope) + intercept;
    return (x <= threshold) ? below : ((line > high) ? high : line);
}

/* Return the value of gate function row at x, an int16. */
static inline int64_t qrnn_wide_evaluate(int64_t x, const QRNN_FLASH int32_t *params, const QRNN_FLASH int32_t *tables)
{
    if (params[0] == 0) {
        return qrnn_wide_evaluate_odd(x, params[3], params[4], params[5], tables);
    }
    if (params[0] == 2) {
        return qrnn_wide_evaluate_table(x, params[3], params[5], params[4], tables);
    }
    if (params[0] == 3) {
        return qrnn_wide_evaluate_threshold(x, params[3], params[4], params[5], params[6], params[7]);
    }
    return qrnn_wide_evaluate_ramp(x, params[3], params[4], params[5], params[6], params[7]);
}

/* Return exp(-d) in Q0.15, for d >= 0 with frac fraction bits (0 ... 15), d int32; table over [0, 16), 128 segments. */
static inline int64_t qrnn_wide_exp_weight(int64_t d, int64_t frac, const QRNN_FLASH int32_t *table)
{
    if (frac > 11) {
        d = qrnn_wide_shift_right_round(d, frac - 11);
    } else {
        d = d * (INT64_C(1) << (11 - frac));
    }
    return qrnn_wide_piecewise_linear(qrnn_wide_saturate(d, 0, 32767), table, 8);
}

/* Return round(2^14 * weight / total), halves up: one probability in Q1.14; weight <= 2^15, 0 < total < 2^31. */
static inline int64_t qrnn_wide_softmax_divide(int64_t weight, int64_t total)
{
    return qrnn_wide_floor_divide((weight * INT64_C(32768)) + total, 2 * total);
}

/* Add both partial sums, then saturate once: int16 in the gate's input format. */
static inline int64_t qrnn_wide_preactivation(int64_t x_part, int64_t h_part, int64_t pre_shift)
{
    return qrnn_wide_saturate16_shifted(x_part + h_part, pre_shift);
}

/* Return the cell's part of a pre-activation, weight * c, in the partial sums' format, within +-2^30; weight int16, shift 0 ... 46. */
static inline int64_t qrnn_wide_peephole(int64_t c, int64_t weight, int64_t shift)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(c * weight, shift), INT64_C(-1073741824), INT64_C(1073741824));
}

/* Return the pre-activation of a GRU's n with linear_before_reset = 1: W*x + r*(R*h + b), with one rounding and one saturation. */
static inline int64_t qrnn_wide_candidate_after_reset(int64_t x_part, int64_t h_part, int64_t r, int64_t r_frac, int64_t pre_shift)
{
    return qrnn_wide_saturate16_shifted(x_part + qrnn_wide_shift_right_round(h_part * r, r_frac), pre_shift);
}

/* Return the operand of r*h of a GRU with linear_before_reset = 0, rounded once from the full product. */
static inline int64_t qrnn_wide_reset_operand(int64_t r, int64_t h, int64_t r_frac, int64_t shift, int64_t limit)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(r * h, r_frac + shift), 0 - limit, limit);
}

/* Return f = 1 - i, exactly; i_frac fraction bits. */
static inline int64_t qrnn_wide_coupled_forget(int64_t i, int64_t i_frac)
{
    return (INT64_C(1) << i_frac) - i;
}

/* Return c' = sat32(round(f*c) + round(i*g)), each rounded to c's fraction bits; product_shift = i_frac + g_frac - c_frac, 0 ...
 * 30. */
static inline int64_t qrnn_wide_lstm_cell_state(int64_t i, int64_t f, int64_t g, int64_t c, int64_t f_frac, int64_t product_shift)
{
    return qrnn_wide_saturate32(qrnn_wide_shift_right_round(c * f, f_frac) + qrnn_wide_shift_right_round(i * g, product_shift));
}

/* Return c as the int16 argument of the output activation, saturated; shift = c_frac - in_frac >= 0. */
static inline int64_t qrnn_wide_lstm_output_argument(int64_t c, int64_t shift)
{
    return qrnn_wide_saturate16(qrnn_wide_shift_right_round(c, shift));
}

/* Return h = o * activation(c) in one rounding; shift = o_frac + out_frac - h_frac, 0 ... 30. */
static inline int64_t qrnn_wide_lstm_hidden_state(int64_t o, int64_t activated_c, int64_t shift)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(o * activated_c, shift), -32767, 32767);
}

/* Return h' = z*h + (1 - z)*n with one rounding; n is first rounded to h's fraction bits, n_shift = n_frac - h_frac >= 0. */
static inline int64_t qrnn_wide_gru_hidden_state(int64_t z, int64_t n, int64_t h, int64_t z_frac, int64_t n_shift)
{
    int64_t blend = (z * h) + (((INT64_C(1) << z_frac) - z) * qrnn_wide_shift_right_round(n, n_shift));
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(blend, z_frac), -32767, 32767);
}

/* Return h = f(pre-activation), rounded from the function's fraction bits to those of h; shift = out_frac - h_frac >= 0. */
static inline int64_t qrnn_wide_rnn_hidden_state(int64_t activated, int64_t shift)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(activated, shift), -32767, 32767);
}

/* Return an initial state that is computed: x in the state's format, rounded half up or shifted left, within low ... high. */
static inline int64_t qrnn_wide_begin_state(int64_t x, int64_t left_shift, int64_t right_shift, int64_t low, int64_t high)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(x * (INT64_C(1) << left_shift), right_shift), low, high);
}

/* Return (F^2 * variance * 2^shift) + epsilon, at least 1: exact, in [1, 2^62). */
static inline int64_t qrnn_wide_norm_variance(int64_t count, int64_t total, int64_t squares, int64_t shift, int64_t epsilon)
{
    int64_t v = (((count * squares) - (total * total)) * (INT64_C(1) << shift)) + epsilon;
    return (v < 1) ? 1 : v;
}

/* Return the j with 4^j <= variance < 4^(j+1), 0 ... 30; variance 1 ... 2^62 - 1. */
static inline int64_t qrnn_wide_norm_exponent(int64_t variance)
{
    int64_t by32 = (variance < INT64_C(4294967296)) ? 0 : 32;
    int64_t v = variance >> by32;
    int64_t by16 = (v < INT64_C(65536)) ? 0 : 16;
    v = v >> by16;
    int64_t by8 = (v < 256) ? 0 : 8;
    v = v >> by8;
    int64_t by4 = (v < 16) ? 0 : 4;
    v = v >> by4;
    int64_t by2 = (v < 4) ? 0 : 2;
    return ((((by32 + by16) + by8) + by4) + by2) >> 1;
}

/* Return 2^(16+j) / sqrt(variance), where j is its norm_exponent: round(2^27 / sqrt(m)), halves up. */
static inline int64_t qrnn_wide_norm_scale(int64_t variance, int64_t exponent)
{
    int64_t shift = 60 - (2 * exponent);
    int64_t m = (variance * (INT64_C(1) << shift)) >> 38;
    int64_t t = INT64_C(1118225) - ((m * INT64_C(159746)) >> 22);
    t = t + ((t * ((INT64_C(4611686018427387904) - ((t * t) * m)) >> 24)) >> 39);
    t = t + ((t * ((INT64_C(4611686018427387904) - ((t * t) * m)) >> 24)) >> 39);
    t = t + ((t * ((INT64_C(4611686018427387904) - ((t * t) * m)) >> 24)) >> 39);
    int64_t r = (t + 8) >> 4;
    int64_t odd = (2 * r) + 1;
    return (((odd * odd) * m) > INT64_C(72057594037927936)) ? r : (r + 1);
}

/* Return gain * (F * x - S) * scale / 2^(exponent + gain_shift + 8) + bias / 2^8, rounded once, half up, and saturated to int16. */
static inline int64_t qrnn_wide_normalize(int64_t x, int64_t count, int64_t total, int64_t scale, int64_t exponent, int64_t gain,
                                          int64_t gain_shift, int64_t bias)
{
    int64_t product = (((count * x) - total) * scale) * gain;
    int64_t by = qrnn_wide_saturate(exponent + gain_shift, 0, 62);
    return qrnn_wide_saturate(qrnn_wide_shift_right_round((product >> by) + bias, 8), INT64_C(-32768), 32767);
}

/* Return floor(sqrt(v)), 0 ... 2^31 - 1, for v in 0 ... 2^62 - 1: exact, without a division and without a loop. */
static inline int64_t qrnn_wide_integer_root(int64_t v)
{
    int64_t positive = (v < 1) ? 1 : v;
    int64_t exponent = qrnn_wide_norm_exponent(positive);
    int64_t scale = qrnn_wide_norm_scale(positive, exponent);
    int64_t s = ((v >> exponent) * scale) >> 16;
    s = (s + ((((v - (s * s)) >> exponent) * scale) >> 17)) - 1;
    s = (((s + 1) * (s + 1)) > v) ? s : (s + 1);
    s = (((s + 1) * (s + 1)) > v) ? s : (s + 1);
    return (((s + 1) * (s + 1)) > v) ? s : (s + 1);
}

/* Return a^2 * 2^a_shift + b^2 * 2^b_shift + epsilon, exact, in 0 ... 2^62 - 1. */
static inline int64_t qrnn_wide_sum_of_squares(int64_t a, int64_t b, int64_t a_shift, int64_t b_shift, int64_t epsilon)
{
    return (((a * a) * (INT64_C(1) << a_shift)) + ((b * b) * (INT64_C(1) << b_shift))) + epsilon;
}

/* Return sat16(round(sqrt(a^2 * 2^a_shift + b^2 * 2^b_shift + epsilon) / 2^shift)), halves up; shift 1 ... 30. */
static inline int64_t qrnn_wide_magnitude16(int64_t a, int64_t b, int64_t a_shift, int64_t b_shift, int64_t epsilon, int64_t shift)
{
    int64_t root = qrnn_wide_integer_root(qrnn_wide_sum_of_squares(a, b, a_shift, b_shift, epsilon));
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(root, shift), INT64_C(-32768), 32767);
}

/* Return sat16(round((a^2 * 2^a_shift + b^2 * 2^b_shift + epsilon) / 2^shift)), halves up; shift 0 ... 46. */
static inline int64_t qrnn_wide_power16(int64_t a, int64_t b, int64_t a_shift, int64_t b_shift, int64_t epsilon, int64_t shift)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(qrnn_wide_sum_of_squares(a, b, a_shift, b_shift, epsilon), shift),
        INT64_C(-32768), 32767);
}

/* Return sat16(round(a * 2^a_shift / (b * 2^b_shift))), halves up; a, b int16, the shifts 0 ... 31. */
static inline int64_t qrnn_wide_divide16(int64_t a, int64_t b, int64_t a_shift, int64_t b_shift)
{
    int64_t top = qrnn_wide_magnitude(a) * (INT64_C(1) << a_shift);
    int64_t bottom = ((qrnn_wide_magnitude(b) < 1) ? 1 : qrnn_wide_magnitude(b)) * (INT64_C(1) << b_shift);
    int64_t up = qrnn_wide_floor_divide((2 * top) + bottom, 2 * bottom);
    int64_t down = qrnn_wide_floor_divide(((2 * top) + bottom) - (int64_t)((top < 1) ? 0 : 1), 2 * bottom);
    int64_t quotient = ((((a < 0) ? (-1) : 1) * ((b < 0) ? (-1) : 1)) < 0) ? (0 - down) : up;
    int64_t without = (a < 0) ? (INT32_C(-32768)) : ((a > 0) ? 32767 : 0);
    return (qrnn_wide_magnitude(b) < 1) ? without : qrnn_wide_saturate(quotient, INT64_C(-32768), 32767);
}

/* Return the place of the leading bit of v, floor(log2(v)), and 0 for v = 0; v 0 ... 65535. */
static inline int64_t qrnn_wide_leading_bit(int64_t v)
{
    int64_t by8 = (v < 256) ? 0 : 8;
    int64_t w = v >> by8;
    int64_t by4 = (w < 16) ? 0 : 4;
    w = w >> by4;
    int64_t by2 = (w < 4) ? 0 : 2;
    w = w >> by2;
    return ((by8 + by4) + by2) + (int64_t)((w < 2) ? 0 : 1);
}

/* Return the value of a function at x, an int16; -32768 counts as -32767. bits 0 ... 14. */
static inline int64_t qrnn_wide_octave_value(int64_t x, int64_t bits, const QRNN_FLASH int32_t *table)
{
    int64_t m = qrnn_wide_saturate(qrnn_wide_magnitude(x), 0, 32767);
    int64_t shift = qrnn_wide_saturate(qrnn_wide_leading_bit(m) - bits, 0, 14);
    int64_t k = ((m >> shift) + (shift * (INT64_C(1) << bits))) + ((x < 0) ? (((16 - bits) * (INT64_C(1) << bits)) + 1) : 0);
    int64_t part = m - ((m >> shift) * (INT64_C(1) << shift));
    int64_t value = ((int64_t)table[k] * (INT64_C(1) << shift)) + (((int64_t)table[k + 1] - (int64_t)table[k]) * part);
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(value, shift + 8), INT64_C(-32768), 32767);
}

/* Return ln(v) with 24 fraction bits, 0 ... 43 * 2^24, for v in 1 ... 2^62 - 1. */
static inline int64_t qrnn_wide_natural_log(int64_t v, const QRNN_FLASH int32_t *table)
{
    int64_t by32 = (v < INT64_C(4294967296)) ? 0 : 32;
    int64_t w = v >> by32;
    int64_t by16 = (w < INT64_C(65536)) ? 0 : 16;
    int64_t e = (by32 + by16) + qrnn_wide_leading_bit(w >> by16);
    int64_t m = ((v * (INT64_C(1) << (61 - e))) >> 46) & 32767;
    return (e * INT64_C(11629080)) + qrnn_wide_piecewise_linear(m, table, 8);
}

/* Return sat16(round((multiplier * ln(v) + bias) / 2^shift)), halves up, with v = sum_of_squares, and no less than least. */
static inline int64_t qrnn_wide_log_power16(int64_t a, int64_t b, int64_t a_shift, int64_t b_shift, int64_t epsilon, int64_t least,
                                            int64_t multiplier, int64_t bias, int64_t shift, const QRNN_FLASH int32_t *table)
{
    int64_t v = qrnn_wide_sum_of_squares(a, b, a_shift, b_shift, epsilon);
    int64_t value = (qrnn_wide_natural_log((v < least) ? least : v, table) * multiplier) + bias;
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(value, shift), INT64_C(-32768), 32767);
}

/* Return sat16(round((-d * 2^-in_frac - ln(total / 2^15)) * 2^out_frac)), halves up: the logarithm of a softmax. */
static inline int64_t qrnn_wide_log_softmax16(int64_t d, int64_t total, int64_t in_frac, int64_t out_frac,
                                              const QRNN_FLASH int32_t *table)
{
    int64_t value = ((d * (INT64_C(1) << (24 - in_frac))) + qrnn_wide_natural_log(total, table)) - INT64_C(174436200);
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(0 - value, 24 - out_frac), INT64_C(-32768), 32767);
}

/* Return high * 2^31 + low + x within +-SUM_MAX: the sum whose parts are high int16 and low 0 ... 2^31 - 1, and x, of +-2^46. */
static inline int64_t qrnn_wide_add_to_sum(int64_t high, int64_t low, int64_t x)
{
    return qrnn_wide_saturate(((high * INT64_C(2147483648)) + low) + x, INT64_C(-70368744144896), INT64_C(70368744144896));
}

/* Return the upper part of a sum, floor(total / 2^31): int16 for totals within +-SUM_MAX. */
static inline int64_t qrnn_wide_sum_high(int64_t total)
{
    return total >> 31;
}

/* Return the lower part of a sum, the total modulo 2^31: 0 ... 2^31 - 1. */
static inline int64_t qrnn_wide_sum_low(int64_t total)
{
    return total & INT64_C(2147483647);
}

/* Return round(total * 2^shift / divisor), halves up, saturated to int16: floor((total * 2^(shift+1) + divisor) / (2 * divisor)). */
static inline int64_t qrnn_wide_divide_sum(int64_t total, int64_t divisor, int64_t shift)
{
    int64_t quotient = 0;
    int64_t dividend = (total * (2 * (INT64_C(1) << shift))) + divisor;
    int64_t whole = 2 * divisor;
    if (dividend < 0) {
        quotient = 0 - qrnn_wide_floor_divide((whole - 1) - dividend, whole);
    } else {
        quotient = qrnn_wide_floor_divide(dividend, whole);
    }
    return qrnn_wide_saturate(quotient, INT64_C(-32768), 32767);
}

/* Return high * 2^31 + low + x within 0 ... SQUARE_SUM_MAX; high and low 0 ... 2^31 - 1, x within +-2^61. */
static inline int64_t qrnn_wide_add_to_squares(int64_t high, int64_t low, int64_t x)
{
    return qrnn_wide_saturate(((high * INT64_C(2147483648)) + low) + x, 0, INT64_C(2305843008139952128));
}

/* Return round((x - total / count) * 2^14), halves up, within +-2^30. */
static inline int64_t qrnn_wide_mean_distance(int64_t x, int64_t count, int64_t total)
{
    int64_t quotient = 0;
    int64_t dividend = (((count * x) - total) * INT64_C(32768)) + count;
    int64_t whole = 2 * count;
    if (dividend < 0) {
        quotient = 0 - qrnn_wide_floor_divide((whole - 1) - dividend, whole);
    } else {
        quotient = qrnn_wide_floor_divide(dividend, whole);
    }
    return qrnn_wide_saturate(quotient, INT64_C(-1073741824), INT64_C(1073741824));
}

/* Return floor((squares / count - (total / count)^2) * 2^28), 0 ... 2^58, exact but for that floor. */
static inline int64_t qrnn_wide_mean_square(int64_t count, int64_t total, int64_t squares)
{
    int64_t within = qrnn_wide_saturate(total, 0 - (count * INT64_C(32768)), count * INT64_C(32768));
    int64_t q = qrnn_wide_floor_divide(within + (count * INT64_C(32768)), count) - INT64_C(32768);
    int64_t r = within - (q * count);
    int64_t less = qrnn_wide_floor_divide(r * r, count);
    int64_t rest = (r * r) - (less * count);
    int64_t part = (rest > 0) ? (count - rest) : 0;
    int64_t spread = ((qrnn_wide_saturate(squares, 0, count * INT64_C(1073741824)) - (q * (within + r))) - less) - (int64_t)((rest > 0)
        ? 1 : 0);
    int64_t top = qrnn_wide_saturate(spread, 0, count * INT64_C(1073741824));
    int64_t high = qrnn_wide_floor_divide(top, count);
    int64_t low = top - (high * count);
    return qrnn_wide_saturate((high * INT64_C(268435456)) + qrnn_wide_floor_divide((low * INT64_C(268435456))
        + qrnn_wide_floor_divide(part * INT64_C(268435456), count), count), 0, INT64_C(288230376151711744));
}

/* Return square + floor(square / (count - 1)), at most 2^59: a mean_square as the estimate by a sample; itself for one number. */
static inline int64_t qrnn_wide_sample_square(int64_t square, int64_t count)
{
    int64_t more = 0;
    if (count > 1) {
        more = qrnn_wide_floor_divide(square, count - 1);
    } else {
        more = 0;
    }
    return square + more;
}

/* Return (floor(sqrt(square)) + outside)^2, below 2^62: the square of a root to which a number in the root's unit is added. */
static inline int64_t qrnn_wide_added_root(int64_t square, int64_t outside)
{
    int64_t root = qrnn_wide_saturate(qrnn_wide_integer_root(square) + outside, 0, INT64_C(2147483647));
    return root * root;
}

/* Return gain * distance * scale / 2^(exponent + gain_shift + 8) + bias / 2^8, rounded once, half up, and saturated to int16. */
static inline int64_t qrnn_wide_normalize_distance(int64_t distance, int64_t scale, int64_t exponent, int64_t gain,
                                                   int64_t gain_shift, int64_t bias)
{
    int64_t by = qrnn_wide_saturate(exponent + gain_shift, 0, 62);
    return qrnn_wide_saturate(qrnn_wide_shift_right_round((((distance * scale) * gain) >> by) + bias, 8), INT64_C(-32768), 32767);
}

/* Return sat16(round(floor(value / 2^before) * multiplier / 2^shift)), halves up: a square, or its root, in the output's format. */
static inline int64_t qrnn_wide_moment16(int64_t value, int64_t before, int64_t multiplier, int64_t shift)
{
    int64_t kept = qrnn_wide_saturate(value >> before, 0, INT64_C(2147483647));
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(kept * multiplier, shift), INT64_C(-32768), 32767);
}

/* Return score * log2(e) with 20 fraction bits, rounded half up, for an int16 with in_frac fraction bits, 0 ... 15. */
static inline int64_t qrnn_wide_power_place(int64_t score, int64_t in_frac)
{
    return qrnn_wide_shift_right_round(score * INT64_C(96817625), in_frac + 6);
}

/* Return product * multiplier / 2^shift, rounded half up, within +-(2^36 - 1): the place of a score that is a sum of products. */
static inline int64_t qrnn_wide_score_place(int64_t product, int64_t multiplier, int64_t shift)
{
    return qrnn_wide_saturate(qrnn_wide_shift_right_round(product * multiplier, shift), INT64_C(-68719476735), INT64_C(68719476735));
}

/* Return the e of a power m * 2^(e - 23), the floor of a place: it lies within +-2^16, and within +-47274 of an int16's
 * power_place. */
static inline int64_t qrnn_wide_power_exponent(int64_t place)
{
    return place >> 20;
}

/* Return the m of a power, 2^23 * 2^f with f the fraction of a power_place: in [2^23, 2^24]. */
static inline int64_t qrnn_wide_power_mantissa(int64_t place, const QRNN_FLASH int32_t *table)
{
    int64_t part = place & 8191;
    int64_t k = (place >> 13) & 127;
    return (int64_t)table[k] + qrnn_wide_shift_right_round(((int64_t)table[k + 1] - (int64_t)table[k]) * part, 13);
}

/* Return high * 2^31 + low, the sum whose parts are high within +-2^30 and low 0 ... 2^31 - 1. */
static inline int64_t qrnn_wide_joined_sum(int64_t high, int64_t low)
{
    return (high * INT64_C(2147483648)) + low;
}

/* Return round(total / 2^rise) + round(term / 2^below), halves up: a joined_sum in new units, and one term more, within +-2^39. */
static inline int64_t qrnn_wide_weighted_sum(int64_t total, int64_t rise, int64_t term, int64_t below)
{
    int64_t kept = qrnn_wide_shift_right_round(total, qrnn_wide_saturate(rise, 0, 62));
    return qrnn_wide_saturate(kept + qrnn_wide_shift_right_round(term, qrnn_wide_saturate(below, 0, 62)), INT64_C(-2305843009213693952),
        INT64_C(2305843009213693952));
}

/* Return total * 2^15 / weight * 2^(up - down) for a numerator and a denominator, two weighted sums, rounded to int16: a step's
 * mean. */
static inline int64_t qrnn_wide_weighted_mean(int64_t total, int64_t weight, int64_t up, int64_t down)
{
    weight = (weight < INT64_C(274877906944)) ? INT64_C(274877906944) : weight;
    int64_t upper = weight >> 31;
    int64_t by16 = (upper < INT64_C(65536)) ? 0 : 16;
    int64_t shift = (by16 + qrnn_wide_leading_bit(upper >> by16)) + 1;
    int64_t numerator = qrnn_wide_saturate(total >> shift, INT64_C(-2147483647), INT64_C(2147483647));
    return qrnn_wide_divide_sum(numerator * INT64_C(32768), (weight >> shift) * (INT64_C(1) << down), up);
}

/* Return how far a score is below the largest one, top, 0 ... 2^31 - 1; -1 for a probability of 0, which is never chosen. */
static inline int64_t qrnn_wide_choice_distance(int64_t top, int64_t score, int64_t probabilities, const QRNN_FLASH int32_t *logs)
{
    if (probabilities < 1) {
        return qrnn_wide_saturate(top - score, 0, INT64_C(2147483647));
    }
    if (score < 1) {
        return -1;
    }
    return qrnn_wide_natural_log((top < 1) ? 1 : top, logs) - qrnn_wide_natural_log((score < 1) ? 1 : score, logs);
}

/* Return the weight of a token, 2^23 * e^(-distance / temperature) rounded, 0 ... 2^23; 0 for a distance below 0. */
static inline int64_t qrnn_wide_choice_weight(int64_t distance, int64_t multiplier, int64_t shift, const QRNN_FLASH int32_t *powers)
{
    int64_t place = qrnn_wide_score_place(0 - distance, multiplier, shift);
    int64_t fall = qrnn_wide_saturate(0 - qrnn_wide_power_exponent(place), 0, 30);
    return (distance < 0) ? 0 : qrnn_wide_shift_right_round(qrnn_wide_power_mantissa(place, powers), fall);
}

/* Return floor(a * b / 2^32) for a and b in 0 ... 2^32 - 1, within 49 bits on the way. */
static inline int64_t qrnn_wide_product_high(int64_t a, int64_t b)
{
    return (((a * (b & INT64_C(65535))) >> 16) + (a * (b >> 16))) >> 16;
}

/* Return a * b modulo 2^32 for a and b in 0 ... 2^32 - 1, within 49 bits on the way. */
static inline int64_t qrnn_wide_product_low(int64_t a, int64_t b)
{
    int64_t low = a * (b & INT64_C(65535));
    return ((((low >> 16) + (a * (b >> 16))) & INT64_C(65535)) * INT64_C(65536)) + (low & INT64_C(65535));
}

/* Return floor(total * word / 2^32) for total in 0 ... 2^40 - 1 and word in 0 ... 2^32 - 1: 0 ... total - 1, or 0 for total 0. */
static inline int64_t qrnn_wide_weight_share(int64_t total, int64_t word)
{
    return (((total >> 16) * word) + (((total & INT64_C(65535)) * word) >> 16)) >> 16;
}

/* Return clamp(floor((q * multiplier + bias) / 2^shift), +-limit): the integer of an input that is given a value of an output. */
static inline int64_t qrnn_wide_fed_value(int64_t q, int64_t multiplier, int64_t bias, int64_t shift, int64_t limit)
{
    return qrnn_wide_saturate(((q * multiplier) + bias) >> shift, 0 - limit, limit);
}

#endif
