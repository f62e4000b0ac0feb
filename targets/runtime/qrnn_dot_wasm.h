/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of WebAssembly (simd128): four int32 lanes, which are the rows of a block of weights or the units of a cell. No instruction of the
 * relaxed set is used, since engines may give them other bits.
 *
 * Operands, of 8 and of 16 bits: int16. Weights: two columns by two columns, row by row two bytes, which become int16.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <wasm_simd128.h>
#include "qrnn_contract.h"

#define QRNN_COLUMNS 4U
#define QRNN_WIDE_GROUP 2U /* columns of one call of qrnn_vector_products_wide */
#define QRNN_WIDE_ALONE    /* operands of 8 bits are int16, too */

typedef v128_t qrnn_vector;

static inline qrnn_vector qrnn_vector_all(int32_t x)
{
    return wasm_i32x4_splat(x);
}

static inline qrnn_vector qrnn_vector_add(qrnn_vector a, qrnn_vector b)
{
    return wasm_i32x4_add(a, b);
}

static inline qrnn_vector qrnn_vector_subtract(qrnn_vector a, qrnn_vector b)
{
    return wasm_i32x4_sub(a, b);
}

static inline qrnn_vector qrnn_vector_multiply(qrnn_vector a, qrnn_vector b)
{
    return wasm_i32x4_mul(a, b);
}

static inline qrnn_vector qrnn_vector_and(qrnn_vector a, qrnn_vector b)
{
    return wasm_v128_and(a, b);
}

static inline qrnn_vector qrnn_vector_xor(qrnn_vector a, qrnn_vector b)
{
    return wasm_v128_xor(a, b);
}

static inline qrnn_vector qrnn_vector_min(qrnn_vector a, qrnn_vector b)
{
    return wasm_i32x4_min(a, b);
}

static inline qrnn_vector qrnn_vector_max(qrnn_vector a, qrnn_vector b)
{
    return wasm_i32x4_max(a, b);
}

static inline qrnn_vector qrnn_vector_size(qrnn_vector x)
{
    return wasm_i32x4_abs(x);
}

/* below where x <= threshold, else above */
static inline qrnn_vector qrnn_vector_choose(qrnn_vector x, qrnn_vector threshold, qrnn_vector below, qrnn_vector above)
{
    return wasm_v128_bitselect(below, above, wasm_i32x4_le(x, threshold));
}

static inline qrnn_vector qrnn_vector_shift_left(qrnn_vector x, uint32_t shift)
{
    return wasm_i32x4_shl(x, shift);
}

static inline qrnn_vector qrnn_vector_shift_right(qrnn_vector x, uint32_t shift)
{
    return wasm_i32x4_shr(x, shift);
}

/* x * 2^shift; no instruction shifts each lane by its own number */
static inline qrnn_vector qrnn_vector_shift_left_each(qrnn_vector x, qrnn_vector shift)
{
    const v128_t power = wasm_i32x4_make(
        (int32_t)(UINT32_C(1) << wasm_i32x4_extract_lane(shift, 0)), (int32_t)(UINT32_C(1) << wasm_i32x4_extract_lane(shift, 1)),
        (int32_t)(UINT32_C(1) << wasm_i32x4_extract_lane(shift, 2)), (int32_t)(UINT32_C(1) << wasm_i32x4_extract_lane(shift, 3)));
    return wasm_i32x4_mul(x, power);
}

static inline qrnn_vector qrnn_vector_shift_right_each(qrnn_vector x, qrnn_vector shift)
{
    return wasm_i32x4_make(wasm_i32x4_extract_lane(x, 0) >> wasm_i32x4_extract_lane(shift, 0),
                           wasm_i32x4_extract_lane(x, 1) >> wasm_i32x4_extract_lane(shift, 1),
                           wasm_i32x4_extract_lane(x, 2) >> wasm_i32x4_extract_lane(shift, 2),
                           wasm_i32x4_extract_lane(x, 3) >> wasm_i32x4_extract_lane(shift, 3));
}

static inline qrnn_vector qrnn_vector_read32(const int32_t *from)
{
    return wasm_v128_load(from);
}

static inline qrnn_vector qrnn_vector_read16(const int16_t *from)
{
    return wasm_i32x4_load16x4(from);
}

static inline qrnn_vector qrnn_vector_read8(const uint8_t *from)
{
    return wasm_u32x4_extend_low_u16x8(wasm_u16x8_extend_low_u8x16(wasm_v128_load32_zero(from)));
}

static inline void qrnn_vector_write32(int32_t *to, qrnn_vector x)
{
    wasm_v128_store(to, x);
}

/* lanes within int16 */
static inline void qrnn_vector_write16(int16_t *to, qrnn_vector x)
{
    wasm_v128_store64_lane(to, wasm_i16x8_narrow_i32x4(x, x), 0);
}

static inline qrnn_vector qrnn_vector_entry32(const int32_t *table, qrnn_vector index)
{
    v128_t entries = wasm_v128_load32_zero(&table[wasm_i32x4_extract_lane(index, 0)]);
    entries = wasm_v128_load32_lane(&table[wasm_i32x4_extract_lane(index, 1)], entries, 1);
    entries = wasm_v128_load32_lane(&table[wasm_i32x4_extract_lane(index, 2)], entries, 2);
    return wasm_v128_load32_lane(&table[wasm_i32x4_extract_lane(index, 3)], entries, 3);
}

/* table[index] in the lower half of each lane, table[index + 1] in the upper half */
static inline qrnn_vector qrnn_vector_pairs(const int16_t *table, qrnn_vector index)
{
    v128_t pairs = wasm_v128_load32_zero(&table[wasm_i32x4_extract_lane(index, 0)]);
    pairs = wasm_v128_load32_lane(&table[wasm_i32x4_extract_lane(index, 1)], pairs, 1);
    pairs = wasm_v128_load32_lane(&table[wasm_i32x4_extract_lane(index, 2)], pairs, 2);
    return wasm_v128_load32_lane(&table[wasm_i32x4_extract_lane(index, 3)], pairs, 3);
}

/* (upper half - lower half) * fraction, 0 <= fraction < 2^15 */
static inline qrnn_vector qrnn_vector_rise(qrnn_vector pairs, qrnn_vector fraction)
{
    const v128_t negative = wasm_v128_and(wasm_i32x4_neg(fraction), wasm_i32x4_splat(0xFFFF));
    return wasm_i32x4_dot_i16x8(pairs, wasm_v128_or(wasm_i32x4_shl(fraction, 16), negative));
}

/* qrnn_requantize without its left shift: the upper words of x * multiplier + 2^31 */
static inline qrnn_vector qrnn_vector_requantize(qrnn_vector x, qrnn_vector multiplier)
{
    const v128_t half = wasm_i64x2_splat(INT64_C(1) << 31);
    const v128_t low = wasm_i64x2_add(wasm_i64x2_extmul_low_i32x4(x, multiplier), half);
    const v128_t high = wasm_i64x2_add(wasm_i64x2_extmul_high_i32x4(x, multiplier), half);
    return wasm_i32x4_shuffle(low, high, 1, 3, 5, 7);
}

/* sum + the products of a group of columns */
static inline qrnn_vector qrnn_vector_products_wide(qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
    return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(weight), wasm_v128_load32_splat(operand)));
}

#include "qrnn_dot_lanes.h"

#endif
