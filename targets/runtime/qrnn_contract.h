/* SPDX-License-Identifier: Apache-2.0 */
/* The contract's scalar functions: the one rounding, saturations, requantization and softmax.
 *
 * Made by tools/make_contract.py from the Python code of the contract (qrnn/arithmetic), not written by hand. Every value is
 * computed in 32 bits where the bounds of the arguments prove that it fits, and in 64 bits elsewhere. */
#ifndef QRNN_CONTRACT_H
#define QRNN_CONTRACT_H

#include "qrnn_arithmetic.h"

/* The kinds of gate functions, section 3 of docs/arithmetic.md. SIGNED is ODD with a table for both signs: qrnn_gates_dsp.h. */
typedef enum { QRNN_ODD = 0, QRNN_RAMP = 1, QRNN_TABLE = 2, QRNN_THRESHOLD = 3, QRNN_SIGNED = 4 } qrnn_gate_kind;

/* Return |x|. It is not computed as -x: a compiler may keep an int16 in 16 bits, where -32768 has no negative.
 * Section 2 of docs/arithmetic.md. Here x -(2^31 - 1) ... 2^31 - 1. */
static inline int32_t qrnn_magnitude(int32_t x)
{
    return (x < 0) ? (-x) : x;
}

/* Clamp x to [low, high].
 * Section 2 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, high -2^31 ... 2^31 - 1. There is no lower end. */
static inline int32_t qrnn_at_most(int32_t x, int32_t high)
{
    return (x > high) ? high : x;
}

/* Clamp x to [low, high].
 * Section 2 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, low -2^31 ... 2^31 - 1. There is no upper end. */
static inline int32_t qrnn_at_least(int32_t x, int32_t low)
{
    return (x < low) ? low : x;
}

/* Clamp x to [low, high].
 * Section 2 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, low -2^31 ... 2^31 - 1, high -2^31 ... 2^31 - 1. */
static inline int32_t qrnn_saturate(int32_t x, int32_t low, int32_t high)
{
    return (x < low) ? low : ((x > high) ? high : x);
}

/* Clamp x to [low, high].
 * Section 2 of docs/arithmetic.md. Here x -2^62 ... 2^62, high -2^62 ... 2^62. There is no lower end. */
static inline int64_t qrnn_at_most64(int64_t x, int64_t high)
{
    return (x > high) ? high : x;
}

/* Clamp x to [low, high].
 * Section 2 of docs/arithmetic.md. Here x -2^62 ... 2^62, low -2^62 ... 2^62. There is no upper end. */
static inline int64_t qrnn_at_least64(int64_t x, int64_t low)
{
    return (x < low) ? low : x;
}

/* Clamp x to [low, high].
 * Section 2 of docs/arithmetic.md. Here x -2^62 ... 2^62, low -2^62 ... 2^62, high -2^62 ... 2^62. */
static inline int64_t qrnn_saturate64(int64_t x, int64_t low, int64_t high)
{
    return (x < low) ? low : ((x > high) ? high : x);
}

#if !defined(QRNN_HAS_SSAT)
/* Clamp to int16.
 * Section 2 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1. */
static inline int32_t qrnn_saturate16(int32_t x)
{
    return qrnn_saturate(x, -32768, 32767);
}
#endif

/* Clamp x to 16 - left_shift bits, then shift left: an int16 whose lowest left_shift bits are zero.
 * left_shift 0 ... 15; x int32. For left_shift = 0 this is saturate16.
 * Section 2 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, left_shift 0 ... 15. */
static inline int32_t qrnn_saturate16_shifted(int32_t x, uint32_t left_shift)
{
    return qrnn_shift_left(qrnn_saturate(x, INT32_C(-32768) >> left_shift, INT32_C(32767) >> left_shift), left_shift);
}

/* Return round(x / 2^shift), halves towards plus infinity: (x + 2^(shift-1)) >> shift; shift 0 ... 62; x itself for 0.
 * This is the only rounding of the contract. x int64 with |x| + 2^(shift-1) < 2^63.
 * Section 2 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, shift 0 ... 30. x + 2^(shift - 1) fits 32 bits wherever this is
 * called. */
static inline int32_t qrnn_shift_right_round(int32_t x, uint32_t shift)
{
    return (x + ((INT32_C(1) << shift) >> 1U)) >> shift;
}

/* Return round(x / 2^shift), halves towards plus infinity: (x + 2^(shift-1)) >> shift; shift 0 ... 62; x itself for 0.
 * Section 2 of docs/arithmetic.md. Here x -2^62 ... 2^62 - 1, shift 0 ... 62. */
static inline int64_t qrnn_shift_right_round64(int64_t x, uint32_t shift)
{
    return (x + ((INT64_C(1) << shift) >> 1U)) >> shift;
}

#if !defined(QRNN_HAS_REQUANTIZE)
/* Return round(acc * 2^left_shift * multiplier / 2^32), halves up: the one requantization of the contract.
 * acc int32 with |acc| * 2^left_shift < 2^31 (proved at conversion); multiplier even, 0 <= multiplier < 2^31; result |r| < 2^30 +
 * 1. The result is equal to SMMULR, VRMULH, SQRDMULH(acc, multiplier/2), and to a 64-bit multiply-add with a shift.
 * Section 2 of docs/arithmetic.md. Here acc -(2^31 - 1) ... 2^31 - 1, multiplier 0 ... 2147483646, left_shift 0 ... 30. |acc| *
 * 2^left_shift < 2^31 is proved for every row when a model is made and when it is loaded. */
static inline int32_t qrnn_requantize(int32_t acc, int32_t multiplier, uint32_t left_shift)
{
    return (int32_t)((((int64_t)qrnn_shift_left(acc, left_shift) * multiplier) + INT64_C(2147483648)) >> 32U);
}
#endif

/* Return x, int16 with from_frac fraction bits, as int16 with to_frac: rounded half up, or shifted left and saturated.
 * Section 2 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, from_frac 0 ... 15, to_frac 0 ... 15. */
static inline int32_t qrnn_align16(int32_t x, uint32_t from_frac, uint32_t to_frac)
{
    return (to_frac >= from_frac) ? qrnn_saturate16(qrnn_shift_left(x, to_frac - from_frac)) : qrnn_shift_right_round(x, from_frac
        - to_frac);
}

/* Return sat16(round((a * 2^a_shift + b * 2^b_shift) / 2^out_shift)): two int16 brought to the finer format, added, rounded once.
 * One of a_shift, b_shift is 0, the other 0 ... 15; out_shift 0 ... 15: within 32 bits and a sign.
 * Section 2 of docs/arithmetic.md. Here a -2^15 ... 2^15 - 1, b -2^15 ... 2^15 - 1, a_shift 0 ... 15, b_shift 0 ... 15,
 * out_shift 0 ... 15. One of a_shift and b_shift is 0. */
static inline int32_t qrnn_add16(int32_t a, int32_t b, uint32_t a_shift, uint32_t b_shift, uint32_t out_shift)
{
    return qrnn_saturate16(qrnn_shift_right_round(qrnn_shift_left(a, a_shift) + qrnn_shift_left(b, b_shift), out_shift));
}

/* Return the operand of a matrix product for an int16: clamp(round(x / 2^shift), +-limit); limit 127 for int8, at most 32767 for
 * int16.
 * Section 2 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, shift 0 ... 15, limit 1 ... 2^15 - 1. */
static inline int32_t qrnn_to_operand(int32_t x, uint32_t shift, int32_t limit)
{
    return qrnn_at_least(qrnn_at_most(qrnn_shift_right_round(x, shift), limit), -limit);
}

/* Return clamp(round((code * multiplier + bias) / 2^shift), +-limit), halves up: the integer of a graph input for a converter's
 * code.
 * code int32; |multiplier| < 2^30; |bias| <= 2^61; shift 0 ... 62; limit 1 ... 32767.
 * Section 7 of docs/arithmetic.md. Here code -2^31 ... 2^31 - 1, multiplier -(2^30 - 1) ... 2^30 - 1, bias -2^61 ... 2^61,
 * shift 0 ... 62, limit 1 ... 2^15 - 1. */
static inline int32_t qrnn_from_code(int32_t code, int32_t multiplier, int64_t bias, uint32_t shift, int32_t limit)
{
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64(((int64_t)code * multiplier) + bias, shift), (int64_t)(-limit),
        (int64_t)limit);
}

/* Return p(x) for x >= 0: table[k] + round((table[k+1] - table[k]) * fraction), k = x >> segment_bits.
 * segment_bits 0 ... 15; table reaches to entry k + 1: 2^(15 - segment_bits) + 1 entries for x <= 32767, 2^(16 - segment_bits) + 1
 * for x <= 65535. The fraction is taken to Q0.15, so one rounding, half up. Neighbours differ by at most 65534: the product is an
 * int32.
 * Section 3 of docs/arithmetic.md. Here x 0 ... 2^15 - 1, entries of table 0 ... 2^15, segment_bits 0 ... 15. */
static inline int32_t qrnn_piecewise_linear(int32_t x, const QRNN_FLASH uint16_t *table, uint32_t segment_bits)
{
    const int32_t k = x >> segment_bits;
    const int32_t from = table[k];
    const int32_t to = table[k + 1];
    const int32_t fraction = qrnn_shift_left(x, 15U - segment_bits) & 32767;
    return from + qrnn_shift_right_round((to - from) * fraction, 15U);
}

#if !defined(QRNN_HAS_EXP_WEIGHT)
/* Return exp(-d) in Q0.15, for d >= 0 with frac fraction bits (0 ... 15), d int32; table over [0, 16), 128 segments.
 * Section 3 of docs/arithmetic.md. Here d 0 ... 2^16 - 1, frac 0 ... 15, entries of table 0 ... 2^15. */
static inline int32_t qrnn_exp_weight(int32_t d, uint32_t frac, const QRNN_FLASH uint16_t *table)
{
    const int32_t d_ = (frac > 11U) ? qrnn_shift_right_round(d, frac - 11U) : qrnn_shift_left(d, 11U - frac);
    return qrnn_piecewise_linear(qrnn_at_most(d_, 32767), table, 8U);
}
#endif

/* Return round(2^14 * weight / total), halves up: one probability in Q1.14; weight <= 2^15, 0 < total < 2^31.
 * Section 3 of docs/arithmetic.md. Here weight 0 ... 2^15, total 1 ... 2^31 - 1. */
static inline uint32_t qrnn_softmax_divide(uint32_t weight, uint32_t total)
{
    return ((weight << 15U) + total) / (2U * total);
}

/* Return the cell's part of a pre-activation, weight * c, in the partial sums' format, within +-2^30; weight int16, shift 0 ... 46.
 * The part is added to x_part, which then still fits an int32; the sum with h_part takes 33 bits.
 * Section 4 of docs/arithmetic.md. Here c -2^31 ... 2^31 - 1, weight -2^15 ... 2^15 - 1, shift 0 ... 46. */
static inline int32_t qrnn_peephole(int32_t c, int32_t weight, uint32_t shift)
{
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64((int64_t)c * weight, shift), INT64_C(-1073741824),
        INT64_C(1073741824));
}

/* Return (F^2 * variance * 2^shift) + epsilon, at least 1: exact, in [1, 2^62).
 * count is F, 1 ... 32767; total is S, or 0 for RMS normalization; squares is Q. shift is even, with F^2 * 2^shift <= 2^31, and
 * epsilon is F^2 times the real one in units of 2^(-shift - 2 * in_frac), 0 ... 2^61 - 1. By Cauchy and Schwarz F * Q >= S^2. The
 * result is below 1 only where all x_k are equal (or 0, for RMS) and epsilon is 0; each F * x_k - S is 0 then, and the output is
 * the bias.
 * Section 5 of docs/arithmetic.md. Here count 1 ... 2^15 - 1, total -1073709056 ... 1073709056, squares 0 ... 35183298347008,
 * shift 0 ... 30, epsilon 0 ... 2^61 - 1. count * squares >= total^2 by Cauchy and Schwarz, and count^2 * 2^shift <= 2^31 is
 * checked for every layer. */
static inline int64_t qrnn_norm_variance(int32_t count, int32_t total, int64_t squares, uint32_t shift, int64_t epsilon)
{
    const int64_t v = (((count * squares) - ((int64_t)total * total)) << shift) + epsilon;
    return (v < INT64_C(1)) ? INT64_C(1) : v;
}

/* Return the j with 4^j <= variance < 4^(j+1), 0 ... 30; variance 1 ... 2^62 - 1.
 * Section 5 of docs/arithmetic.md. Here variance 1 ... 2^62 - 1. */
static inline int32_t qrnn_norm_exponent(int64_t variance)
{
    const int32_t by32 = (variance < INT64_C(4294967296)) ? 0 : 32;
    const int64_t v = variance >> (uint32_t)by32;
    const int32_t by16 = (v < INT64_C(65536)) ? 0 : 16;
    const int64_t v_ = v >> (uint32_t)by16;
    const int32_t by8 = (v_ < INT64_C(256)) ? 0 : 8;
    const int64_t v__ = v_ >> (uint32_t)by8;
    const int32_t by4 = (v__ < INT64_C(16)) ? 0 : 4;
    const int64_t v___ = v__ >> (uint32_t)by4;
    const int32_t by2 = (v___ < INT64_C(4)) ? 0 : 2;
    return ((((by32 + by16) + by8) + by4) + by2) >> 1U;
}

/* Return 2^(16+j) / sqrt(variance), where j is its norm_exponent: round(2^27 / sqrt(m)), halves up.
 * m = floor(variance * 4^(11-j)), the 24 bits of variance from its leading one on, lies in [2^22, 2^24), the result in [2^15,
 * 2^16]. It is the nearest whole number for every m, by whatever way it is found: here three Newton steps from a line, t -> t + t *
 * (1 - t^2 * m / 2^62) / 2 towards 2^31 / sqrt(m), which end within 2 units below it, and one comparison. t^2 * m stays below 2^63.
 * Section 5 of docs/arithmetic.md. Here variance 1 ... 2^62 - 1, exponent 0 ... 30. exponent is that of variance. The bounds of t,
 * of t * t * m and of r are those of every m. */
static inline int32_t qrnn_norm_scale(int64_t variance, int32_t exponent)
{
    const int32_t shift = 60 - (2 * exponent);
    const int64_t m = (variance << (uint32_t)shift) >> 38U;
    const int32_t t = INT32_C(1118225) - ((int32_t)((m * INT64_C(159746)) >> 22U));
    const int32_t t_ = t + ((int32_t)((t * ((INT64_C(4611686018427387904) - (((int64_t)t * t) * m)) >> 24U)) >> 39U));
    const int32_t t__ = t_ + ((int32_t)((t_ * ((INT64_C(4611686018427387904) - (((int64_t)t_ * t_) * m)) >> 24U)) >> 39U));
    const int32_t t___ = t__ + ((int32_t)((t__ * ((INT64_C(4611686018427387904) - (((int64_t)t__ * t__) * m)) >> 24U)) >> 39U));
    const int32_t r = (t___ + 8) >> 4U;
    const int32_t odd = (2 * r) + 1;
    return ((((int64_t)odd * odd) * m) > INT64_C(72057594037927936)) ? r : (r + 1);
}

/* Return gain * (F * x - S) * scale / 2^(exponent + gain_shift + 8) + bias / 2^8, rounded once, half up, and saturated to int16.
 * x int16; gain int16; bias int32 with 8 more fraction bits than the output; count, total as in norm_variance; scale and exponent
 * are those of the row. exponent + gain_shift >= 0 unless F * x - S is 0, which the conversion and the checks of a model make sure
 * of. The product is below 2^62, so that a shift of more than 62 would change nothing. Cutting it off before the bias is added
 * changes nothing either: floor((floor(p / 2^k) + b) / 2^8) = floor((p + b * 2^k) / 2^(k+8)).
 * Section 5 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, count 1 ... 2^15 - 1, total -1073709056 ... 1073709056,
 * scale 2^15 ... 2^16, exponent 0 ... 30, gain -2^15 ... 2^15 - 1, gain_shift -128 ... 127, bias -2^31 ... 2^31 - 1. */
static inline int32_t qrnn_normalize(int32_t x, int32_t count, int32_t total, int32_t scale, int32_t exponent, int32_t gain,
                                     int32_t gain_shift, int32_t bias)
{
    const int64_t product = (((int64_t)((count * x) - total)) * scale) * gain;
    const int32_t by = qrnn_saturate(exponent + gain_shift, 0, 62);
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64((product >> (uint32_t)by) + bias, 8U), INT64_C(-32768),
        INT64_C(32767));
}

/* Return floor(sqrt(v)), 0 ... 2^31 - 1, for v in 0 ... 2^62 - 1: exact, without a division and without a loop.
 * s, v times norm_scale, is the root but for 2^-16 of itself and less than 2. One Newton step, s + (v - s^2) * scale / 2^(17+j),
 * leaves an error of at most 0.775 and what its two shifts cut off. The root is one of the four numbers from s - 1 on, and three
 * comparisons find it.
 * Section 5 of docs/arithmetic.md. Here v 0 ... 2^62 - 1. v < 4^(exponent + 1), and the root of v is s but for 2^-16 of itself and
 * 2; then it is one of s - 1 ... s + 2. */
static inline int64_t qrnn_integer_root(int64_t v)
{
    const int64_t positive = (v < INT64_C(1)) ? INT64_C(1) : v;
    const int32_t exponent = qrnn_norm_exponent(positive);
    const int32_t scale = qrnn_norm_scale(positive, exponent);
    const int64_t s = ((v >> (uint32_t)exponent) * scale) >> 16U;
    const int64_t s_ = (s + ((((v - (s * s)) >> (uint32_t)exponent) * scale) >> 17U)) - INT64_C(1);
    const int64_t s__ = (((s_ + INT64_C(1)) * (s_ + INT64_C(1))) > v) ? s_ : (s_ + INT64_C(1));
    const int64_t s___ = (((s__ + INT64_C(1)) * (s__ + INT64_C(1))) > v) ? s__ : (s__ + INT64_C(1));
    return (((s___ + INT64_C(1)) * (s___ + INT64_C(1))) > v) ? s___ : (s___ + INT64_C(1));
}

/* Return high * 2^31 + low + x within +-SUM_MAX: the sum whose parts are high int16 and low 0 ... 2^31 - 1, and x, of +-2^46.
 * A sum of at most MOST_SUMMED int16 lies within these bounds, so that nothing is saturated but parts that are no such sum's.
 * Section 5 of docs/arithmetic.md. Here high -2^15 ... 2^15 - 1, low 0 ... 2^31 - 1, x -2^46 ... 2^46. */
static inline int64_t qrnn_add_to_sum(int32_t high, int32_t low, int64_t x)
{
    return qrnn_saturate64((((int64_t)high * INT64_C(2147483648)) + low) + x, INT64_C(-70368744144896), INT64_C(70368744144896));
}

/* Return the upper part of a sum, floor(total / 2^31): int16 for totals within +-SUM_MAX.
 * Section 5 of docs/arithmetic.md. Here total -70368744144896 ... 70368744144896. */
static inline int32_t qrnn_sum_high(int64_t total)
{
    return (int32_t)(total >> 31U);
}

/* Return the lower part of a sum, the total modulo 2^31: 0 ... 2^31 - 1.
 * Section 5 of docs/arithmetic.md. Here total -70368744144896 ... 70368744144896. */
static inline int32_t qrnn_sum_low(int64_t total)
{
    return (int32_t)(total & INT64_C(2147483647));
}

/* Return round(total * 2^shift / divisor), halves up, saturated to int16: floor((total * 2^(shift+1) + divisor) / (2 * divisor)).
 * |total| <= SUM_MAX, shift 0 ... 15, divisor 1 ... 2^46: within 63 bits and a sign. Only positive numbers are divided: the floor
 * of a negative quotient is the ceiling of its magnitude, with the other sign.
 * Section 5 of docs/arithmetic.md. Here total -70368744144896 ... 70368744144896, divisor 1 ... 2^46, shift 0 ... 15. */
static inline int32_t qrnn_divide_sum(int64_t total, int64_t divisor, uint32_t shift)
{
    const int64_t dividend = (total * (INT32_C(2) << shift)) + divisor;
    const int64_t whole = INT64_C(2) * divisor;
    const int64_t quotient = (dividend < INT64_C(0)) ? (-(((whole - INT64_C(1)) - dividend) / whole)) : (dividend / whole);
    return (int32_t)qrnn_saturate64(quotient, INT64_C(-32768), INT64_C(32767));
}

/* Return high * 2^31 + low + x within 0 ... SQUARE_SUM_MAX; high and low 0 ... 2^31 - 1, x within +-2^61.
 * The parts are sum_high and sum_low of a sum of squares, of at most 2^31 - 1 int16; only parts that are no such sum's are
 * saturated.
 * Section 5 of docs/arithmetic.md. Here high 0 ... 2^31 - 1, low 0 ... 2^31 - 1, x -2^61 ... 2^61. */
static inline int64_t qrnn_add_to_squares(int32_t high, int32_t low, int64_t x)
{
    return qrnn_saturate64((((int64_t)high * INT64_C(2147483648)) + low) + x, INT64_C(0), INT64_C(2305843008139952128));
}

/* Return round((x - total / count) * 2^14), halves up, within +-2^30.
 * x int16, count 1 ... 2^31 - 1, |total| <= count * 2^15, or 0 for a mean that is not taken away. Only positive numbers are
 * divided.
 * Section 5 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, count 1 ... 2^31 - 1, total -70368744144896 ... 70368744144896. */
static inline int32_t qrnn_mean_distance(int32_t x, int32_t count, int64_t total)
{
    const int64_t dividend = ((((int64_t)count * x) - total) * INT64_C(32768)) + count;
    const int64_t whole = INT64_C(2) * count;
    const int64_t quotient = (dividend < INT64_C(0)) ? (-(((whole - INT64_C(1)) - dividend) / whole)) : (dividend / whole);
    return (int32_t)qrnn_saturate64(quotient, INT64_C(-1073741824), INT64_C(1073741824));
}

/* Return floor((squares / count - (total / count)^2) * 2^28), 0 ... 2^58, exact but for that floor.
 * count 1 ... 2^31 - 1; |total| <= count * 2^15, and 0 for the mean of the squares; squares <= count * 2^30. With q = floor(total /
 * count) and total = q * count + r, count times the variance is squares - q * (total + r) - r^2 / count, whose whole part and
 * remainder are divided by count one after the other. What is no total and sum of squares of any numbers gives some number within
 * the bounds.
 * Section 5 of docs/arithmetic.md. Here count 1 ... 2^31 - 1, total -70368744144896 ... 70368744144896,
 * squares 0 ... 2305843008139952128. |within| <= count * 2^15; r, rest and low are remainders of divisions by count, and top is at
 * most count * 2^30. */
static inline int64_t qrnn_mean_square(int32_t count, int64_t total, int64_t squares)
{
    const int64_t within = qrnn_saturate64(total, -((int64_t)count * INT64_C(32768)), (int64_t)count * INT64_C(32768));
    const int32_t q = ((int32_t)((within + ((int64_t)count * INT64_C(32768))) / (int64_t)count)) - 32768;
    const int64_t r = within - ((int64_t)q * count);
    const int64_t less = (r * r) / (int64_t)count;
    const int64_t rest = (r * r) - (less * count);
    const int32_t part = (rest > INT64_C(0)) ? (count - (int32_t)rest) : 0;
    const int64_t spread = ((qrnn_at_most64(squares, (int64_t)count * INT64_C(1073741824)) - (q * (within + r))) - less)
        - ((rest > INT64_C(0)) ? 1 : 0);
    const int64_t top = qrnn_saturate64(spread, INT64_C(0), (int64_t)count * INT64_C(1073741824));
    const int64_t high = top / (int64_t)count;
    const int64_t low = top - (high * count);
    return qrnn_at_most64((high << 28U) + (((low << 28U) + (((int64_t)part << 28U) / (int64_t)count)) / (int64_t)count),
        INT64_C(288230376151711744));
}

/* Return square + floor(square / (count - 1)), at most 2^59: a mean_square as the estimate by a sample; itself for one number.
 * square 0 ... 2^58, count 1 ... 2^31 - 1.
 * Section 5 of docs/arithmetic.md. Here square 0 ... 2^58, count 1 ... 2^31 - 1. */
static inline int64_t qrnn_sample_square(int64_t square, int32_t count)
{
    const int64_t more = (count > 1) ? (square / ((int64_t)(count - 1))) : INT64_C(0);
    return square + more;
}

/* Return (floor(sqrt(square)) + outside)^2, below 2^62: the square of a root to which a number in the root's unit is added.
 * square 0 ... 2^62 - 1; outside 0 ... 2^31 - 1. A root of more than 2^31 - 1 counts as that.
 * Section 5 of docs/arithmetic.md. Here square 0 ... 2^62 - 1, outside 0 ... 2^31 - 1. */
static inline int64_t qrnn_added_root(int64_t square, int32_t outside)
{
    const int64_t root = qrnn_saturate64(qrnn_integer_root(square) + outside, INT64_C(0), INT64_C(2147483647));
    return root * root;
}

/* Return gain * distance * scale / 2^(exponent + gain_shift + 8) + bias / 2^8, rounded once, half up, and saturated to int16.
 * |distance| <= 2^30; scale 2^15 ... 2^16 and exponent 0 ... 30, norm_scale and norm_exponent of a square; gain int16; exponent +
 * gain_shift >= 0; bias int32. The product is at most 2^61. See qrnn.arithmetic.norms.normalize, which is the same for a row of few
 * features.
 * Section 5 of docs/arithmetic.md. Here distance -2^30 ... 2^30, scale 2^15 ... 2^16, exponent 0 ... 30, gain -2^15 ... 2^15 - 1,
 * gain_shift -128 ... 127, bias -2^31 ... 2^31 - 1. */
static inline int32_t qrnn_normalize_distance(int32_t distance, int32_t scale, int32_t exponent, int32_t gain, int32_t gain_shift,
                                              int32_t bias)
{
    const int32_t by = qrnn_saturate(exponent + gain_shift, 0, 62);
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64(((((int64_t)distance * scale) * gain) >> (uint32_t)by) + bias, 8U),
        INT64_C(-32768), INT64_C(32767));
}

/* Return sat16(round(floor(value / 2^before) * multiplier / 2^shift)), halves up: a square, or its root, in the output's format.
 * value 0 ... 2^62 - 1, before 0 ... 62, multiplier 2^30 ... 2^31 - 1, shift 16 ... 62. What is cut off before is at most 2^-14 of
 * a unit of the output, or nothing, as before is chosen; what is 2^31 or more then is far beyond int16.
 * Section 5 of docs/arithmetic.md. Here value 0 ... 2^62 - 1, before 0 ... 62, multiplier 2^30 ... 2^31 - 1, shift 16 ... 62. */
static inline int32_t qrnn_moment16(int64_t value, uint32_t before, int32_t multiplier, uint32_t shift)
{
    const int64_t kept = qrnn_at_most64(value >> before, INT64_C(2147483647));
    return (int32_t)qrnn_at_most64(qrnn_shift_right_round64(kept * multiplier, shift), INT64_C(32767));
}

/* Return an initial state that is computed: x in the state's format, rounded half up or shifted left, within low ... high.
 * x int32; one of the shifts is 0, the other 0 ... 30: left_shift goes to more fraction bits, right_shift to fewer.
 * Section 4 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, left_shift 0 ... 30, right_shift 0 ... 30, low -2^31 ... 2^31 - 1,
 * high -2^31 ... 2^31 - 1. */
static inline int32_t qrnn_begin_state(int64_t x, uint32_t left_shift, uint32_t right_shift, int64_t low, int64_t high)
{
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64(x * (INT32_C(1) << left_shift), right_shift), low, high);
}

/* Return a^2 * 2^a_shift + b^2 * 2^b_shift + epsilon, exact, in 0 ... 2^62 - 1.
 * a, b int16; the shifts 0 ... 30 and their powers' sum such that the squares are at most 2^61; epsilon 0 ... 2^61 - 1.
 * Section 5 of docs/arithmetic.md. Here a -2^15 ... 2^15 - 1, b -2^15 ... 2^15 - 1, a_shift 0 ... 30, b_shift 0 ... 30,
 * epsilon 0 ... 2^61 - 1. The squares are at most 2^61, which is checked for every layer. */
static inline int64_t qrnn_sum_of_squares(int32_t a, int32_t b, uint32_t a_shift, uint32_t b_shift, int64_t epsilon)
{
    return ((((int64_t)(a * a)) << a_shift) + (((int64_t)(b * b)) << b_shift)) + epsilon;
}

/* Return sat16(round(sqrt(a^2 * 2^a_shift + b^2 * 2^b_shift + epsilon) / 2^shift)), halves up; shift 1 ... 30.
 * It is rounded once: as 2^(shift-1) is whole, floor(sqrt(v) / 2^shift + 1/2) is the same for sqrt(v) and for its floor.
 * Section 5 of docs/arithmetic.md. Here a -2^15 ... 2^15 - 1, b -2^15 ... 2^15 - 1, a_shift 0 ... 30, b_shift 0 ... 30,
 * epsilon 0 ... 2^61 - 1, shift 1 ... 30. */
static inline int32_t qrnn_magnitude16(int32_t a, int32_t b, uint32_t a_shift, uint32_t b_shift, int64_t epsilon, uint32_t shift)
{
    const int64_t root = qrnn_integer_root(qrnn_sum_of_squares(a, b, a_shift, b_shift, epsilon));
    return qrnn_at_most((int32_t)qrnn_shift_right_round64(root, shift), 32767);
}

/* Return sat16(round((a^2 * 2^a_shift + b^2 * 2^b_shift + epsilon) / 2^shift)), halves up; shift 0 ... 46.
 * Section 5 of docs/arithmetic.md. Here a -2^15 ... 2^15 - 1, b -2^15 ... 2^15 - 1, a_shift 0 ... 30, b_shift 0 ... 30,
 * epsilon 0 ... 2^61 - 1, shift 0 ... 46. */
static inline int32_t qrnn_power16(int32_t a, int32_t b, uint32_t a_shift, uint32_t b_shift, int64_t epsilon, uint32_t shift)
{
    return (int32_t)qrnn_at_most64(qrnn_shift_right_round64(qrnn_sum_of_squares(a, b, a_shift, b_shift, epsilon), shift),
        INT64_C(32767));
}

/* Return sat16(round(a * 2^a_shift / (b * 2^b_shift))), halves up; a, b int16, the shifts 0 ... 31.
 * Only positive numbers are divided. A divisor of 0 gives the end of int16 on a's side, and 0 / 0 gives 0.
 * Section 5 of docs/arithmetic.md. Here a -2^15 ... 2^15 - 1, b -2^15 ... 2^15 - 1, a_shift 0 ... 31, b_shift 0 ... 31. */
static inline int32_t qrnn_divide16(int32_t a, int32_t b, uint32_t a_shift, uint32_t b_shift)
{
    const int64_t top = (int64_t)qrnn_magnitude(a) << a_shift;
    const int64_t bottom = ((int64_t)((qrnn_magnitude(b) < 1) ? 1 : qrnn_magnitude(b))) << b_shift;
    const int64_t up = ((INT64_C(2) * top) + bottom) / (INT64_C(2) * bottom);
    const int64_t down = (((INT64_C(2) * top) + bottom) - ((top < INT64_C(1)) ? 0 : 1)) / (INT64_C(2) * bottom);
    const int64_t quotient = ((((a < 0) ? (-1) : 1) * ((b < 0) ? (-1) : 1)) < 0) ? (-down) : up;
    const int32_t without = (a < 0) ? (-32768) : ((a > 0) ? 32767 : 0);
    return (qrnn_magnitude(b) < 1) ? without : (int32_t)qrnn_saturate64(quotient, INT64_C(-32768), INT64_C(32767));
}

/* Return the place of the leading bit of v, floor(log2(v)), and 0 for v = 0; v 0 ... 65535.
 * Section 5 of docs/arithmetic.md. Here v 0 ... 2^16 - 1. */
static inline int32_t qrnn_leading_bit(int32_t v)
{
    const int32_t by8 = (v < 256) ? 0 : 8;
    const int32_t w = v >> (uint32_t)by8;
    const int32_t by4 = (w < 16) ? 0 : 4;
    const int32_t w_ = w >> (uint32_t)by4;
    const int32_t by2 = (w_ < 4) ? 0 : 2;
    const int32_t w__ = w_ >> (uint32_t)by2;
    return ((by8 + by4) + by2) + ((w__ < 2) ? 0 : 1);
}

/* Return the value of a function at x, an int16; -32768 counts as -32767. bits 0 ... 14.
 * table has (16 - bits) * 2^bits + 1 entries for x >= 0 and as many for x < 0, each within +-2^26 and with 8 more fraction bits
 * than the output. Between the knots the value is linear. It is rounded once, half up, and saturated to int16.
 * Section 5 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, bits 0 ... 14, entries of table -2^26 ... 2^26. */
static inline int32_t qrnn_octave_value(int32_t x, uint32_t bits, const QRNN_FLASH int32_t *table)
{
    const int32_t m = qrnn_at_most(qrnn_magnitude(x), 32767);
    const int32_t shift = qrnn_saturate(qrnn_leading_bit(m) - (int32_t)bits, 0, 14);
    const int32_t k = ((m >> (uint32_t)shift) + qrnn_shift_left(shift, bits)) + ((int32_t)((x < 0) ? (((16U - bits) << bits) + 1U)
        : 0U));
    const int32_t from = table[k];
    const int32_t to = table[k + 1];
    const int32_t part = m - qrnn_shift_left(m >> (uint32_t)shift, (uint32_t)shift);
    const int64_t value = ((int64_t)from * (INT32_C(1) << (uint32_t)shift)) + (((int64_t)(to - from)) * part);
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64(value, (uint32_t)(shift + 8)), INT64_C(-32768), INT64_C(32767));
}

/* Return p(x) for x >= 0: table[k] + round((table[k+1] - table[k]) * fraction), k = x >> segment_bits.
 * segment_bits 0 ... 15; table reaches to entry k + 1: 2^(15 - segment_bits) + 1 entries for x <= 32767, 2^(16 - segment_bits) + 1
 * for x <= 65535. The fraction is taken to Q0.15, so one rounding, half up. Neighbours differ by at most 65534: the product is an
 * int32.
 * Section 3 of docs/arithmetic.md. Here x 0 ... 2^15 - 1, entries of table 0 ... 11629080, segment_bits 0 ... 15. */
static inline int32_t qrnn_piecewise_linear_log(int32_t x, const QRNN_FLASH int32_t *table, uint32_t segment_bits)
{
    const int32_t k = x >> segment_bits;
    const int32_t from = table[k];
    const int32_t to = table[k + 1];
    const int32_t fraction = qrnn_shift_left(x, 15U - segment_bits) & 32767;
    return from + (int32_t)qrnn_shift_right_round64(((int64_t)(to - from)) * fraction, 15U);
}

/* Return ln(v) with 24 fraction bits, 0 ... 43 * 2^24, for v in 1 ... 2^62 - 1.
 * v is 2^e * (1 + m); m is cut off after 15 bits. table [129] holds ln(1 + k / 128) with 24 fraction bits.
 * Section 5 of docs/arithmetic.md. Here v 1 ... 2^62 - 1, entries of table 0 ... 11629080. e is the place of the leading bit of v. */
static inline int32_t qrnn_natural_log(int64_t v, const QRNN_FLASH int32_t *table)
{
    const int32_t by32 = (v < INT64_C(4294967296)) ? 0 : 32;
    const int64_t w = v >> (uint32_t)by32;
    const int32_t by16 = (w < INT64_C(65536)) ? 0 : 16;
    const int32_t e = (by32 + by16) + qrnn_leading_bit((int32_t)(w >> (uint32_t)by16));
    const int32_t m = ((int32_t)((v << ((uint32_t)(61 - e))) >> 46U)) & 32767;
    return (e * INT32_C(11629080)) + qrnn_piecewise_linear_log(m, table, 8U);
}

/* Return sat16(round((multiplier * ln(v) + bias) / 2^shift)), halves up, with v = sum_of_squares, and no less than least.
 * least is 1 ... 2^61 - 1; |multiplier| at most 2^24, |bias| below 2^61, shift 0 ... 46.
 * Section 5 of docs/arithmetic.md. Here a -2^15 ... 2^15 - 1, b -2^15 ... 2^15 - 1, a_shift 0 ... 30, b_shift 0 ... 30,
 * epsilon 0 ... 2^61 - 1, least 1 ... 2^61 - 1, multiplier -2^24 ... 2^24, bias -(2^61 - 1) ... 2^61 - 1, shift 0 ... 46,
 * entries of table 0 ... 11629080. */
static inline int32_t qrnn_log_power16(int32_t a, int32_t b, uint32_t a_shift, uint32_t b_shift, int64_t epsilon, int64_t least,
                                       int32_t multiplier, int64_t bias, uint32_t shift, const QRNN_FLASH int32_t *table)
{
    const int64_t v = qrnn_sum_of_squares(a, b, a_shift, b_shift, epsilon);
    const int64_t value = ((int64_t)qrnn_natural_log((v < least) ? least : v, table) * multiplier) + bias;
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64(value, shift), INT64_C(-32768), INT64_C(32767));
}

/* Return sat16(round((-d * 2^-in_frac - ln(total / 2^15)) * 2^out_frac)), halves up: the logarithm of a softmax.
 * d is the distance of an element from the row's largest, 0 ... 65535 with in_frac fraction bits, 0 ... 15; total the sum of the
 * exp_weight of all, 2^15 ... 2^31 - 1; out_frac -16 ... 15.
 * Section 5 of docs/arithmetic.md. Here d 0 ... 2^16 - 1, total 2^15 ... 2^31 - 1, in_frac 0 ... 15, out_frac -16 ... 15,
 * entries of table 0 ... 11629080. */
static inline int32_t qrnn_log_softmax16(int32_t d, int64_t total, uint32_t in_frac, int32_t out_frac,
                                         const QRNN_FLASH int32_t *table)
{
    const int64_t value = (((int64_t)d << (24U - in_frac)) + qrnn_natural_log(total, table)) - INT64_C(174436200);
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64(-value, (uint32_t)(24 - out_frac)), INT64_C(-32768), INT64_C(32767));
}

/* Return score * log2(e) with 20 fraction bits, rounded half up, for an int16 with in_frac fraction bits, 0 ... 15.
 * Section 5 of docs/arithmetic.md. Here score -2^15 ... 2^15 - 1, in_frac 0 ... 15. */
static inline int64_t qrnn_power_place(int32_t score, uint32_t in_frac)
{
    return qrnn_shift_right_round64((int64_t)score * INT64_C(96817625), in_frac + 6U);
}

/* Return product * multiplier / 2^shift, rounded half up, within +-(2^36 - 1): the place of a score that is a sum of products.
 * The multiplier holds the score's scale, log2(e) and 2^20; product * multiplier is within +-2^62, and shift 0 ... 62.
 * Section 5 of docs/arithmetic.md. Here product -2^61 ... 2^61, multiplier -(2^31 - 1) ... 2^31 - 1, shift 0 ... 62. A layer's
 * multiplier is small enough for its products. */
static inline int64_t qrnn_score_place(int64_t product, int32_t multiplier, uint32_t shift)
{
    return qrnn_saturate64(qrnn_shift_right_round64(product * multiplier, shift), INT64_C(-68719476735), INT64_C(68719476735));
}

/* Return the e of a power m * 2^(e - 23), the floor of a place: it lies within +-2^16, and within +-47274 of an int16's
 * power_place.
 * Section 5 of docs/arithmetic.md. Here place -(2^36 - 1) ... 2^36 - 1. */
static inline int32_t qrnn_power_exponent(int64_t place)
{
    return (int32_t)(place >> 20U);
}

/* Return the m of a power, 2^23 * 2^f with f the fraction of a power_place: in [2^23, 2^24].
 * table has 129 entries, 2^23 * 2^(k / 128), between which the value is linear; it is rounded once.
 * Section 5 of docs/arithmetic.md. Here place -(2^36 - 1) ... 2^36 - 1, entries of table 2^23 ... 2^24. */
static inline int32_t qrnn_power_mantissa(int64_t place, const QRNN_FLASH int32_t *table)
{
    const int64_t part = place & INT64_C(8191);
    const int32_t k = ((int32_t)(place >> 13U)) & 127;
    const int32_t from = table[k];
    const int32_t to = table[k + 1];
    return from + (int32_t)qrnn_shift_right_round64((to - from) * part, 13U);
}

/* Return high * 2^31 + low, the sum whose parts are high within +-2^30 and low 0 ... 2^31 - 1.
 * Section 5 of docs/arithmetic.md. Here high -2^30 ... 2^30, low 0 ... 2^31 - 1. */
static inline int64_t qrnn_joined_sum(int32_t high, int32_t low)
{
    return ((int64_t)high * INT64_C(2147483648)) + low;
}

/* Return round(total / 2^rise) + round(term / 2^below), halves up: a joined_sum in new units, and one term more, within +-2^39.
 * rise and below are at least 0, and more than 62 counts as 62. The result is saturated to +-2^61, which no sum of MOST_WEIGHTED
 * terms passes.
 * Section 5 of docs/arithmetic.md. Here total -2^61 ... 2305843011361177599, rise 0 ... 2^17, term -2^39 ... 2^39,
 * below 0 ... 2^17. */
static inline int64_t qrnn_weighted_sum(int64_t total, int32_t rise, int64_t term, int32_t below)
{
    const int64_t kept = qrnn_shift_right_round64(total, (uint32_t)qrnn_at_most(rise, 62));
    return qrnn_saturate64(kept + qrnn_shift_right_round64(term, (uint32_t)qrnn_at_most(below, 62)), INT64_C(-2305843009213693952),
        INT64_C(2305843009213693952));
}

/* Return total * 2^15 / weight * 2^(up - down) for a numerator and a denominator, two weighted sums, rounded to int16: a step's
 * mean.
 * The weight is at least 2^38, as the step with the largest exponent makes it; less counts as 2^38. Both lose the bits by which it
 * has more than 31, and the quotient is rounded once, half up, and saturated. up and down 0 ... 15, one of them 0.
 * Section 5 of docs/arithmetic.md. Here total -2^61 ... 2305843011361177599, weight 0 ... 2305843011361177599, up 0 ... 15,
 * down 0 ... 15. shift + 30 is the place of the leading bit of weight. */
static inline int32_t qrnn_weighted_mean(int64_t total, int64_t weight, uint32_t up, uint32_t down)
{
    const int64_t weight_ = (weight < INT64_C(274877906944)) ? INT64_C(274877906944) : weight;
    const int64_t upper = weight_ >> 31U;
    const int32_t by16 = (upper < INT64_C(65536)) ? 0 : 16;
    const int32_t shift = (by16 + qrnn_leading_bit((int32_t)(upper >> (uint32_t)by16))) + 1;
    const int64_t numerator = qrnn_saturate64(total >> (uint32_t)shift, INT64_C(-2147483647), INT64_C(2147483647));
    return (int32_t)qrnn_divide_sum(numerator * INT64_C(32768), (weight_ >> (uint32_t)shift) << down, up);
}

/* Return how far a score is below the largest one, top, 0 ... 2^31 - 1; -1 for a probability of 0, which is never chosen.
 * With probabilities 1 both are probabilities of any one unit, at most 32767, and the distance is ln(top) - ln(score) with 24
 * fraction bits, from the table of natural_log. With 0 it is top - score, at most 2^31 - 1.
 * Section 12 of docs/arithmetic.md. Here top -2^32 ... 2^32, score -2^32 ... 2^32, probabilities 0 ... 1,
 * entries of logs 0 ... 11629080. */
static inline int32_t qrnn_choice_distance(int64_t top, int64_t score, uint32_t probabilities, const QRNN_FLASH int32_t *logs)
{
    return (probabilities < 1U) ? (int32_t)qrnn_saturate64(top - score, INT64_C(0), INT64_C(2147483647)) : ((score < INT64_C(1))
        ? (-1) : (qrnn_natural_log((top < INT64_C(1)) ? INT64_C(1) : top, logs) - qrnn_natural_log(score, logs)));
}

/* Return the weight of a token, 2^23 * e^(-distance / temperature) rounded, 0 ... 2^23; 0 for a distance below 0.
 * 2^-distance' with distance' = distance * multiplier / 2^(20 + shift): the multiplier, 1 ... 2^31 - 1, and shift, 0 ... 62, hold
 * the unit of the distance, log2(e) and the temperature. powers is the table of power_mantissa.
 * Section 12 of docs/arithmetic.md. Here distance -1 ... 2^31 - 1, multiplier 1 ... 2^31 - 1, shift 0 ... 62,
 * entries of powers 2^23 ... 2^24. */
static inline int32_t qrnn_choice_weight(int32_t distance, int32_t multiplier, uint32_t shift, const QRNN_FLASH int32_t *powers)
{
    const int64_t place = qrnn_at_least64(qrnn_shift_right_round64(((int64_t)(-distance)) * multiplier, shift),
        INT64_C(-68719476735));
    const int32_t fall = qrnn_saturate((int32_t)(-(place >> 20U)), 0, 30);
    return (distance < 0) ? 0 : qrnn_shift_right_round(qrnn_power_mantissa(place, powers), (uint32_t)fall);
}

/* Return floor(a * b / 2^32) for a and b in 0 ... 2^32 - 1, within 49 bits on the way.
 * Section 12 of docs/arithmetic.md. Here a 0 ... 2^32 - 1, b 0 ... 2^32 - 1. */
static inline int64_t qrnn_product_high(int64_t a, int64_t b)
{
    return (((a * (b & INT64_C(65535))) >> 16U) + (a * (b >> 16U))) >> 16U;
}

/* Return a * b modulo 2^32 for a and b in 0 ... 2^32 - 1, within 49 bits on the way.
 * Section 12 of docs/arithmetic.md. Here a 0 ... 2^32 - 1, b 0 ... 2^32 - 1. */
static inline int64_t qrnn_product_low(int64_t a, int64_t b)
{
    const int64_t low = a * (b & INT64_C(65535));
    return ((((low >> 16U) + (a * (b >> 16U))) & INT64_C(65535)) << 16U) + (low & INT64_C(65535));
}

/* Return floor(total * word / 2^32) for total in 0 ... 2^40 - 1 and word in 0 ... 2^32 - 1: 0 ... total - 1, or 0 for total 0.
 * Section 12 of docs/arithmetic.md. Here total 0 ... 2^40 - 1, word 0 ... 2^32 - 1. */
static inline int64_t qrnn_weight_share(int64_t total, int64_t word)
{
    return (((total >> 16U) * word) + (((total & INT64_C(65535)) * word) >> 16U)) >> 16U;
}

/* Return clamp(floor((q * multiplier + bias) / 2^shift), +-limit): the integer of an input that is given a value of an output.
 * q int16, multiplier 0 ... 2^46 - 1, |bias| < 2^61, shift 0 ... 62, limit 1 ... 32767. Whoever makes the numbers proves for every
 * q that this is what the boundary (docs/arithmetic.md, section 7) makes of the output's real value.
 * Section 12 of docs/arithmetic.md. Here q -2^15 ... 2^15 - 1, multiplier 0 ... 2^46 - 1, bias -(2^61 - 1) ... 2^61 - 1,
 * shift 0 ... 62, limit 1 ... 2^15 - 1. */
static inline int32_t qrnn_fed_value(int32_t q, int64_t multiplier, int64_t bias, uint32_t shift, int32_t limit)
{
    return (int32_t)qrnn_saturate64(((q * multiplier) + bias) >> shift, (int64_t)(-limit), (int64_t)limit);
}

#endif
