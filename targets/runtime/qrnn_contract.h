/* SPDX-License-Identifier: Apache-2.0 */
/* The contract's scalar functions: the one rounding, saturations, requantization and softmax.
 *
 * Made by tools/make_contract.py from the Python code of the contract (qrnn/arithmetic), not written by hand. Every value is
 * computed in 32 bits where the bounds of the arguments prove that it fits, and in 64 bits elsewhere. */
#ifndef QRNN_CONTRACT_H
#define QRNN_CONTRACT_H

#include "qrnn_arithmetic.h"

/* The kinds of gate functions, section 3 of docs/arithmetic.md. */
typedef enum { QRNN_ODD = 0, QRNN_RAMP = 1, QRNN_TABLE = 2, QRNN_THRESHOLD = 3 } qrnn_gate_kind;

/* |x|. Not by -x: a compiler may keep an int16 in 16 bits, where -32768 has no negative.
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

/* round(x / 2^shift), halves towards plus infinity: (x + 2^(shift-1)) >> shift; shift 0 ... 46; x itself for 0.
 * The only rounding of the contract. x int64 with |x| + 2^(shift-1) < 2^63.
 * Section 2 of docs/arithmetic.md. Here x -2^31 ... 2^31 - 1, shift 0 ... 30. x + 2^(shift - 1) fits 32 bits wherever this is
 * called. */
static inline int32_t qrnn_shift_right_round(int32_t x, uint32_t shift)
{
    return (x + ((INT32_C(1) << shift) >> 1U)) >> shift;
}

/* round(x / 2^shift), halves towards plus infinity: (x + 2^(shift-1)) >> shift; shift 0 ... 46; x itself for 0.
 * Section 2 of docs/arithmetic.md. Here x -2^62 ... 2^62 - 1, shift 0 ... 46. */
static inline int64_t qrnn_shift_right_round64(int64_t x, uint32_t shift)
{
    return (x + ((INT64_C(1) << shift) >> 1U)) >> shift;
}

#if !defined(QRNN_HAS_REQUANTIZE)
/* round(acc * 2^left_shift * multiplier / 2^32), halves up: the one requantization of the contract.
 * acc int32 with |acc| * 2^left_shift < 2^31 (proved at conversion); multiplier even, 0 <= multiplier < 2^31; result |r| < 2^30 +
 * 1. Equal to SMMULR, VRMULH, SQRDMULH(acc, multiplier/2), and to a 64-bit multiply-add with a shift.
 * Section 2 of docs/arithmetic.md. Here acc -(2^31 - 1) ... 2^31 - 1, multiplier 0 ... 2147483646, left_shift 0 ... 30. |acc| *
 * 2^left_shift < 2^31 is proved for every row when a model is made and when it is loaded. */
static inline int32_t qrnn_requantize(int32_t acc, int32_t multiplier, uint32_t left_shift)
{
    return (int32_t)((((int64_t)qrnn_shift_left(acc, left_shift) * multiplier) + INT64_C(2147483648)) >> 32U);
}
#endif

/* x, int16 with from_frac fraction bits, as int16 with to_frac: rounded half up, or shifted left and saturated.
 * Section 2 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, from_frac 0 ... 15, to_frac 0 ... 15. */
static inline int32_t qrnn_align16(int32_t x, uint32_t from_frac, uint32_t to_frac)
{
    return (to_frac >= from_frac) ? qrnn_saturate16(qrnn_shift_left(x, to_frac - from_frac)) : qrnn_shift_right_round(x, from_frac
        - to_frac);
}

/* sat16(round((a * 2^a_shift + b * 2^b_shift) / 2^out_shift)): two int16 brought to the finer format, added, rounded once.
 * One of a_shift, b_shift is 0, the other 0 ... 15; out_shift 0 ... 15: within 32 bits and a sign.
 * Section 2 of docs/arithmetic.md. Here a -2^15 ... 2^15 - 1, b -2^15 ... 2^15 - 1, a_shift 0 ... 15, b_shift 0 ... 15,
 * out_shift 0 ... 15. One of a_shift and b_shift is 0. */
static inline int32_t qrnn_add16(int32_t a, int32_t b, uint32_t a_shift, uint32_t b_shift, uint32_t out_shift)
{
    return qrnn_saturate16(qrnn_shift_right_round(qrnn_shift_left(a, a_shift) + qrnn_shift_left(b, b_shift), out_shift));
}

/* The matvec operand of an int16: clamp(round(x / 2^shift), +-limit); limit 127 for int8, at most 32767 for int16.
 * Section 2 of docs/arithmetic.md. Here x -2^15 ... 2^15 - 1, shift 0 ... 15, limit 1 ... 2^15 - 1. */
static inline int32_t qrnn_to_operand(int32_t x, uint32_t shift, int32_t limit)
{
    return qrnn_at_least(qrnn_at_most(qrnn_shift_right_round(x, shift), limit), -limit);
}

/* p(x) for x >= 0: table[k] + round((table[k+1] - table[k]) * fraction), k = x >> segment_bits.
 * segment_bits 0 ... 15; table reaches to entry k + 1: 2^(15 - segment_bits) + 1 entries for x <= 32767, 2^(16 - segment_bits) + 1
 * for x <= 65535. The fraction is taken to Q0.15, so one rounding, half up. Neighbours differ by at most 65534: the product is an
 * int32.
 * Section 3 of docs/arithmetic.md. Here x 0 ... 2^15 - 1, entries of table 0 ... 2^15, segment_bits 0 ... 15. */
static inline int32_t qrnn_piecewise_linear(int32_t x, const uint16_t *table, uint32_t segment_bits)
{
    const int32_t k = x >> segment_bits;
    const int32_t from = table[k];
    const int32_t to = table[k + 1];
    const int32_t fraction = qrnn_shift_left(x, 15U - segment_bits) & 32767;
    return from + qrnn_shift_right_round((to - from) * fraction, 15U);
}

#if !defined(QRNN_HAS_EXP_WEIGHT)
/* exp(-d) in Q0.15, for d >= 0 with frac fraction bits (0 ... 15), d int32; table over [0, 16), 128 segments.
 * Section 3 of docs/arithmetic.md. Here d 0 ... 2^16 - 1, frac 0 ... 15, entries of table 0 ... 2^15. */
static inline int32_t qrnn_exp_weight(int32_t d, uint32_t frac, const uint16_t *table)
{
    const int32_t d_ = (frac > 11U) ? qrnn_shift_right_round(d, frac - 11U) : qrnn_shift_left(d, 11U - frac);
    return qrnn_piecewise_linear(qrnn_at_most(d_, 32767), table, 8U);
}
#endif

/* round(2^14 * weight / total), halves up: one probability in Q1.14; weight <= 2^15, 0 < total < 2^31.
 * Section 3 of docs/arithmetic.md. Here weight 0 ... 2^15, total 1 ... 2^31 - 1. */
static inline uint32_t qrnn_softmax_divide(uint32_t weight, uint32_t total)
{
    return ((weight << 15U) + total) / (2U * total);
}

/* The cell's part of a pre-activation, weight * c, in the partial sums' format, within +-2^30; weight int16, shift 0 ... 46.
 * It is added to x_part, which then still fits an int32; the sum with h_part takes 33 bits.
 * Section 4 of docs/arithmetic.md. Here c -2^31 ... 2^31 - 1, weight -2^15 ... 2^15 - 1, shift 0 ... 46. */
static inline int32_t qrnn_peephole(int32_t c, int32_t weight, uint32_t shift)
{
    return (int32_t)qrnn_saturate64(qrnn_shift_right_round64((int64_t)c * weight, shift), INT64_C(-1073741824),
        INT64_C(1073741824));
}

#endif
