/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of AArch64 with dot products (Armv8.2-A and later): four int32 lanes, which are the rows of a block of weights or the units of a cell.
 *
 * SDOT multiplies four bytes by four and adds the products to an int32. Operands of 8 bits are bytes; those of 16 bits two planes of bytes,
 * x = 2^8 high + low + 128, so that a load of weights serves both. The biases of such rows have 128 times the sum of their weights more.
 * Weights: four columns by four columns, row by row four bytes.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <arm_neon.h>
#include "qrnn_contract.h"

#define QRNN_COLUMNS 8U
#define QRNN_GROUP 4U /* columns of one call of qrnn_vector_products */
#define QRNN_PLANES   /* operands of 16 bits are two planes of bytes */
#define QRNN_BYTE_FLIP 0x00
#define QRNN_LOW_FLIP 0x80 /* what the operands' bytes, and those of the lower plane, are combined with */

typedef int32x4_t qrnn_vector;

static inline qrnn_vector qrnn_vector_all(int32_t x)
{
    return vdupq_n_s32(x);
}

static inline qrnn_vector qrnn_vector_add(qrnn_vector a, qrnn_vector b)
{
    return vaddq_s32(a, b);
}

static inline qrnn_vector qrnn_vector_subtract(qrnn_vector a, qrnn_vector b)
{
    return vsubq_s32(a, b);
}

static inline qrnn_vector qrnn_vector_multiply(qrnn_vector a, qrnn_vector b)
{
    return vmulq_s32(a, b);
}

static inline qrnn_vector qrnn_vector_and(qrnn_vector a, qrnn_vector b)
{
    return vandq_s32(a, b);
}

static inline qrnn_vector qrnn_vector_xor(qrnn_vector a, qrnn_vector b)
{
    return veorq_s32(a, b);
}

static inline qrnn_vector qrnn_vector_min(qrnn_vector a, qrnn_vector b)
{
    return vminq_s32(a, b);
}

static inline qrnn_vector qrnn_vector_max(qrnn_vector a, qrnn_vector b)
{
    return vmaxq_s32(a, b);
}

static inline qrnn_vector qrnn_vector_size(qrnn_vector x)
{
    return vabsq_s32(x);
}

/* below where x <= threshold, else above */
static inline qrnn_vector qrnn_vector_choose(qrnn_vector x, qrnn_vector threshold, qrnn_vector below, qrnn_vector above)
{
    return vbslq_s32(vcleq_s32(x, threshold), below, above);
}

static inline qrnn_vector qrnn_vector_shift_left(qrnn_vector x, uint32_t shift)
{
    return vshlq_s32(x, vdupq_n_s32((int32_t)shift));
}

static inline qrnn_vector qrnn_vector_shift_right(qrnn_vector x, uint32_t shift)
{
    return vshlq_s32(x, vdupq_n_s32(-(int32_t)shift));
}

static inline qrnn_vector qrnn_vector_shift_left_each(qrnn_vector x, qrnn_vector shift)
{
    return vshlq_s32(x, shift);
}

static inline qrnn_vector qrnn_vector_shift_right_each(qrnn_vector x, qrnn_vector shift)
{
    return vshlq_s32(x, vnegq_s32(shift));
}

static inline qrnn_vector qrnn_vector_read32(const int32_t *from)
{
    return vld1q_s32(from);
}

static inline qrnn_vector qrnn_vector_read16(const int16_t *from)
{
    return vmovl_s16(vld1_s16(from));
}

static inline qrnn_vector qrnn_vector_read8(const uint8_t *from)
{
    uint32_t four;
    QRNN_COPY(&four, from, sizeof four);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}

static inline void qrnn_vector_write32(int32_t *to, qrnn_vector x)
{
    vst1q_s32(to, x);
}

/* lanes within int16 */
static inline void qrnn_vector_write16(int16_t *to, qrnn_vector x)
{
    vst1_s16(to, vmovn_s32(x));
}

/* the lowest byte of each lane */
static inline void qrnn_vector_write8(uint8_t *to, qrnn_vector x)
{
    const int16x4_t halves = vmovn_s32(x);
    const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(halves, halves))), 0);
    QRNN_COPY(to, &four, sizeof four);
}

static inline qrnn_vector qrnn_vector_entry32(const int32_t *table, qrnn_vector index)
{
    qrnn_vector entries = vld1q_dup_s32(&table[vgetq_lane_s32(index, 0)]);
    entries = vld1q_lane_s32(&table[vgetq_lane_s32(index, 1)], entries, 1);
    entries = vld1q_lane_s32(&table[vgetq_lane_s32(index, 2)], entries, 2);
    return vld1q_lane_s32(&table[vgetq_lane_s32(index, 3)], entries, 3);
}

static inline int32_t qrnn_vector_pair(const int16_t *entry)
{
    int32_t pair;
    QRNN_COPY(&pair, entry, sizeof pair);
    return pair;
}

/* table[index] in the lower half of each lane, table[index + 1] in the upper half */
static inline qrnn_vector qrnn_vector_pairs(const int16_t *table, qrnn_vector index)
{
    qrnn_vector pairs = vdupq_n_s32(qrnn_vector_pair(&table[vgetq_lane_s32(index, 0)]));
    pairs = vsetq_lane_s32(qrnn_vector_pair(&table[vgetq_lane_s32(index, 1)]), pairs, 1);
    pairs = vsetq_lane_s32(qrnn_vector_pair(&table[vgetq_lane_s32(index, 2)]), pairs, 2);
    return vsetq_lane_s32(qrnn_vector_pair(&table[vgetq_lane_s32(index, 3)]), pairs, 3);
}

/* (upper half - lower half) * fraction, 0 <= fraction < 2^15 */
static inline qrnn_vector qrnn_vector_rise(qrnn_vector pairs, qrnn_vector fraction)
{
    const int16x8_t halves = vreinterpretq_s16_s32(pairs);
    const int16x4_t low = vget_low_s16(vuzp1q_s16(halves, halves));
    const int16x4_t high = vget_low_s16(vuzp2q_s16(halves, halves));
    return vmulq_s32(vsubl_s16(high, low), fraction);
}

/* qrnn_requantize without its left shift: SQRDMULH is (2 x y + 2^31) >> 32, and multipliers are even */
static inline qrnn_vector qrnn_vector_requantize(qrnn_vector x, qrnn_vector multiplier)
{
    return vqrdmulhq_s32(x, vshrq_n_s32(multiplier, 1));
}

/* sum + the products of a group of columns */
static inline qrnn_vector qrnn_vector_products(qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
    int32_t group;
    QRNN_COPY(&group, operand, sizeof group);
    return vdotq_s32(sum, vld1q_s8(weight), vreinterpretq_s8_s32(vdupq_n_s32(group)));
}

#include "qrnn_dot_lanes.h"

#endif
