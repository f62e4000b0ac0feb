/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: the int32 values that gate functions and cells compute at a time, one for each unit. They are four to a vector with Arm
 * Helium (Cortex-M55, M85), the lanes of the vectors that qrnn_dot_lanes.h has (AVX2, AVX-512, AArch64, WebAssembly, RISC-V), else one, an
 * int32_t. Not every compiler has C's operators for vectors; all operations are functions here.
 *
 * `count` is how many lanes of a vector exist in memory, from the first on; those beyond are read as 0 and not written.
 */
#ifndef QRNN_LANES_H
#define QRNN_LANES_H

#include "qrnn_contract.h"

/* What needs 64 bits is written for one lane only. */
#if defined(__ARM_FEATURE_MVE) && defined(QRNN_UNIT_GATES) && !defined(QRNN_USE_PEEPHOLE)
#define QRNN_LANES 4U
#include <arm_mve.h>

typedef int32x4_t qrnn_lanes;

static inline qrnn_lanes qrnn_lanes_all(int32_t x)
{
    return vdupq_n_s32(x);
}

/* GCC makes more of its own operators than of the intrinsics. */
#if defined(__GNUC__)
#define QRNN_LANES_OPERATION(a, sign, b, intrinsic) ((a)sign(b))
#else
#define QRNN_LANES_OPERATION(a, sign, b, intrinsic) intrinsic((a), (b))
#endif

static inline qrnn_lanes qrnn_lanes_add(qrnn_lanes a, qrnn_lanes b)
{
    return QRNN_LANES_OPERATION(a, +, b, vaddq_s32);
}

static inline qrnn_lanes qrnn_lanes_subtract(qrnn_lanes a, qrnn_lanes b)
{
    return QRNN_LANES_OPERATION(a, -, b, vsubq_s32);
}

static inline qrnn_lanes qrnn_lanes_multiply(qrnn_lanes a, qrnn_lanes b)
{
    return QRNN_LANES_OPERATION(a, *, b, vmulq_s32);
}

static inline qrnn_lanes qrnn_lanes_and(qrnn_lanes a, qrnn_lanes b)
{
    return QRNN_LANES_OPERATION(a, &, b, vandq_s32);
}

static inline qrnn_lanes qrnn_lanes_xor(qrnn_lanes a, qrnn_lanes b)
{
    return QRNN_LANES_OPERATION(a, ^, b, veorq_s32);
}

/* Whether a compiler sees that there are values for all lanes, so that no predicate is needed; <arm_mve.h> is for compilers of GNU C */
#define QRNN_ALL_LANES(count) (__builtin_constant_p(count) && ((count) == QRNN_LANES))

static inline qrnn_lanes qrnn_lanes_read32(const int32_t *from, uint32_t count)
{
    return QRNN_ALL_LANES(count) ? vldrwq_s32(from) : vldrwq_z_s32(from, vctp32q(count));
}

/* the same, where all lanes exist */
static inline qrnn_lanes qrnn_lanes_of(const int32_t *from)
{
    return vldrwq_s32(from);
}

static inline qrnn_lanes qrnn_lanes_read16(const int16_t *from, uint32_t count)
{
    return QRNN_ALL_LANES(count) ? vldrhq_s32(from) : vldrhq_z_s32(from, vctp32q(count));
}

static inline void qrnn_lanes_write32(int32_t *to, qrnn_lanes x, uint32_t count)
{
    if (QRNN_ALL_LANES(count)) {
        vstrwq_s32(to, x);
    } else {
        vstrwq_p_s32(to, x, vctp32q(count));
    }
}

static inline void qrnn_lanes_write16(int16_t *to, qrnn_lanes x, uint32_t count)
{
    if (QRNN_ALL_LANES(count)) {
        vstrhq_s32(to, x);
    } else {
        vstrhq_p_s32(to, x, vctp32q(count));
    }
}

/* table[index] */
static inline qrnn_lanes qrnn_lanes_entry16(const QRNN_FLASH int16_t *table, qrnn_lanes index)
{
    return vldrhq_gather_shifted_offset_s32(table, vreinterpretq_u32_s32(index));
}

static inline qrnn_lanes qrnn_lanes_entry32(const QRNN_FLASH int32_t *table, qrnn_lanes index)
{
    return vldrwq_gather_shifted_offset_s32(table, vreinterpretq_u32_s32(index));
}

static inline qrnn_lanes qrnn_lanes_min(qrnn_lanes x, int32_t high)
{
    return vminq_s32(x, vdupq_n_s32(high));
}

static inline qrnn_lanes qrnn_lanes_max(qrnn_lanes x, int32_t low)
{
    return vmaxq_s32(x, vdupq_n_s32(low));
}

/* |x|, |x| < 2^31 */
static inline qrnn_lanes qrnn_lanes_size(qrnn_lanes x)
{
    return vqabsq_s32(x);
}

/* below where x <= threshold, else above */
static inline qrnn_lanes qrnn_lanes_choose(qrnn_lanes x, int32_t threshold, int32_t below, qrnn_lanes above)
{
    return vpselq_s32(vdupq_n_s32(below), above, vcmpleq_n_s32(x, threshold));
}

static inline qrnn_lanes qrnn_lanes_shift_left(qrnn_lanes x, uint32_t shift)
{
    return vshlq_r_s32(x, (int32_t)shift);
}

static inline qrnn_lanes qrnn_lanes_shift_right(qrnn_lanes x, uint32_t shift)
{
    return vshlq_r_s32(x, -(int32_t)shift);
}

static inline qrnn_lanes qrnn_lanes_shift_right_round(qrnn_lanes x, uint32_t shift)
{
    return vrshlq_n_s32(x, -(int32_t)shift);
}

static inline qrnn_lanes qrnn_lanes_shift_right_round_full(qrnn_lanes x, uint32_t shift)
{
    return vrshlq_n_s32(x, -(int32_t)shift);
}

static inline qrnn_lanes qrnn_lanes_add_saturate32(qrnn_lanes a, qrnn_lanes b)
{
    return vqaddq_s32(a, b);
}

/* x, each lane saturated to 16 - shift bits and shifted left by its own shift */
static inline qrnn_lanes qrnn_lanes_saturate16_shifted(qrnn_lanes x, const QRNN_FLASH uint8_t *shift)
{
    const int32x4_t left = vreinterpretq_s32_u32(vldrbq_u32(shift));
    const int32x4_t right = vnegq_s32(left);
    const int32x4_t high = vshlq_s32(vdupq_n_s32(32767), right);
    const int32x4_t low = vshlq_s32(vdupq_n_s32(-32768), right);
    return vshlq_s32(vmaxq_s32(vminq_s32(x, high), low), left);
}

/* requantize of four sums; left_shift may be NULL */
static inline void qrnn_requantize_four(const int32_t sums[4], const QRNN_FLASH int32_t multiplier[4], const QRNN_FLASH uint8_t *left_shift, int32_t y[4])
{
    int32x4_t x = vldrwq_s32(sums);
    if (left_shift != NULL) {
        x = vshlq_s32(x, vreinterpretq_s32_u32(vldrbq_u32(left_shift)));
    }
    vstrwq_s32(y, vrmulhq_s32(x, vldrwq_s32(multiplier)));
}

#elif defined(QRNN_HAS_VECTORS) && defined(QRNN_UNIT_GATES) && !defined(QRNN_USE_PEEPHOLE)
#include "qrnn_lanes_vector.h"

#else
#define QRNN_LANES 1U

typedef int32_t qrnn_lanes;

#define qrnn_lanes_shift_left qrnn_shift_left
#define qrnn_lanes_shift_right_round qrnn_shift_right_round
#define qrnn_lanes_shift_right_round_full qrnn_shift_right_round_full
#define qrnn_lanes_add_saturate32 qrnn_add_saturate32
#define qrnn_lanes_min qrnn_at_most
#define qrnn_lanes_max qrnn_at_least
#define qrnn_lanes_size qrnn_magnitude /* |x| < 2^31 */

static inline qrnn_lanes qrnn_lanes_all(int32_t x)
{
    return x;
}


static inline qrnn_lanes qrnn_lanes_add(qrnn_lanes a, qrnn_lanes b)
{
    return a + b;
}

static inline qrnn_lanes qrnn_lanes_subtract(qrnn_lanes a, qrnn_lanes b)
{
    return a - b;
}

static inline qrnn_lanes qrnn_lanes_multiply(qrnn_lanes a, qrnn_lanes b)
{
    return a * b;
}

static inline qrnn_lanes qrnn_lanes_and(qrnn_lanes a, qrnn_lanes b)
{
    return a & b;
}

static inline qrnn_lanes qrnn_lanes_xor(qrnn_lanes a, qrnn_lanes b)
{
    return a ^ b;
}

static inline qrnn_lanes qrnn_lanes_read32(const int32_t *from, uint32_t count)
{
    (void)count;
    return *from;
}

static inline qrnn_lanes qrnn_lanes_of(const int32_t *from)
{
    return *from;
}

static inline qrnn_lanes qrnn_lanes_read16(const int16_t *from, uint32_t count)
{
    (void)count;
    return *from;
}

static inline void qrnn_lanes_write32(int32_t *to, qrnn_lanes x, uint32_t count)
{
    (void)count;
    *to = x;
}

static inline void qrnn_lanes_write16(int16_t *to, qrnn_lanes x, uint32_t count)
{
    (void)count;
    *to = (int16_t)x;
}

/* table[index] */
static inline qrnn_lanes qrnn_lanes_entry16(const QRNN_FLASH int16_t *table, qrnn_lanes index)
{
    return table[index];
}

static inline qrnn_lanes qrnn_lanes_entry32(const QRNN_FLASH int32_t *table, qrnn_lanes index)
{
    return table[index];
}

/* below where x <= threshold, else above */
static inline qrnn_lanes qrnn_lanes_choose(qrnn_lanes x, int32_t threshold, int32_t below, qrnn_lanes above)
{
    return (x <= threshold) ? below : above;
}

static inline qrnn_lanes qrnn_lanes_shift_right(qrnn_lanes x, uint32_t shift)
{
    return x >> shift;
}

/* x, saturated to 16 - shift bits and shifted left */
static inline qrnn_lanes qrnn_lanes_saturate16_shifted(qrnn_lanes x, const QRNN_FLASH uint8_t *shift)
{
    return qrnn_saturate16_shifted(x, *shift);
}

/* requantize of four sums; left_shift may be NULL */
static inline void qrnn_requantize_four(const int32_t sums[4], const QRNN_FLASH int32_t multiplier[4], const QRNN_FLASH uint8_t *left_shift, int32_t y[4])
{
    int32_t s0 = sums[0];
    int32_t s1 = sums[1];
    int32_t s2 = sums[2];
    int32_t s3 = sums[3];

    if (left_shift != NULL) {
        s0 = qrnn_shift_left(s0, left_shift[0]);
        s1 = qrnn_shift_left(s1, left_shift[1]);
        s2 = qrnn_shift_left(s2, left_shift[2]);
        s3 = qrnn_shift_left(s3, left_shift[3]);
    }
    y[0] = qrnn_requantize(s0, multiplier[0], 0U);
    y[1] = qrnn_requantize(s1, multiplier[1], 0U);
    y[2] = qrnn_requantize(s2, multiplier[2], 0U);
    y[3] = qrnn_requantize(s3, multiplier[3], 0U);
}
#endif

/* x where sign >= 0, else -x */
static inline qrnn_lanes qrnn_lanes_with_sign(qrnn_lanes x, qrnn_lanes sign)
{
#if QRNN_LANES == 1U
    const qrnn_lanes flip = -(int32_t)((uint32_t)sign >> 31); /* 0 or -1; ~x + 1 = -x */
#else
    const qrnn_lanes flip = qrnn_lanes_shift_right(sign, 31U);
#endif
    return qrnn_lanes_subtract(qrnn_lanes_xor(x, flip), flip);
}

/* clamp to 16 bits */
static inline qrnn_lanes qrnn_lanes_saturate16(qrnn_lanes x)
{
#if QRNN_LANES == 1U
    return qrnn_saturate16(x);
#else
    return qrnn_lanes_max(qrnn_lanes_min(x, 32767), -32768);
#endif
}

/* clamp to within +-32767 */
static inline qrnn_lanes qrnn_lanes_symmetric16(qrnn_lanes x)
{
    return qrnn_lanes_max(qrnn_lanes_min(x, 32767), -32767);
}

/* The state from what makes it, one that the model's gate functions cannot lead out of +-32767 under QRNN_BOUNDED_STATES. */
static inline qrnn_lanes qrnn_lanes_state(qrnn_lanes x)
{
#if defined(QRNN_BOUNDED_STATES)
    return x;
#else
    return qrnn_lanes_symmetric16(x);
#endif
}

/* min(x, 32767) for x >= 0 */
static inline qrnn_lanes qrnn_lanes_at_most_32767(qrnn_lanes x)
{
#if (QRNN_LANES == 1U) && defined(QRNN_HAS_SSAT) && defined(QRNN_ACLE)
    return QRNN_USAT(x, 15);
#elif (QRNN_LANES == 1U) && defined(QRNN_HAS_SSAT)
    int32_t limited;
    __asm("usat %0, #15, %1" : "=r"(limited) : "r"(x));
    return limited;
#else
    return qrnn_lanes_min(x, 32767);
#endif
}

/* qrnn_multiply_q15: round(x * q / 2^15), of any x and q in [0, 2^15], in 32 bits: with x = 2^15 high + low, 0 <= low < 2^15, it is
 * high * q + round(low * q / 2^15). Here -2^31 <= high * q <= 2^31 - 2^15, low * q + 2^14 < 2^31, and their sum lies between 0 and x. */
static inline qrnn_lanes qrnn_lanes_multiply_q15(qrnn_lanes x, qrnn_lanes q)
{
#if (QRNN_LANES == 1U) && defined(__ARM_FEATURE_DSP) /* whose products of 64 bits take one cycle */
    return (int32_t)((((int64_t)x * q) + 16384) >> 15);
#else
    const qrnn_lanes high = qrnn_lanes_shift_right(x, 15U);
    const qrnn_lanes low = qrnn_lanes_and(x, qrnn_lanes_all(32767));
    return qrnn_lanes_add(qrnn_lanes_multiply(high, q), qrnn_lanes_shift_right_round(qrnn_lanes_multiply(low, q), 15U));
#endif
}

#endif
