/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes of qrnn_lanes.h as a vector of an instruction set, over the functions qrnn_vector_... of its header. */
#ifndef QRNN_LANES_VECTOR_H
#define QRNN_LANES_VECTOR_H

#include "qrnn_contract.h"

#define QRNN_LANES QRNN_BLOCK_ROWS

typedef qrnn_vector qrnn_lanes;

#define qrnn_lanes_all qrnn_vector_all
#define qrnn_lanes_add qrnn_vector_add
#define qrnn_lanes_subtract qrnn_vector_subtract
#define qrnn_lanes_multiply qrnn_vector_multiply
#define qrnn_lanes_and qrnn_vector_and
#define qrnn_lanes_xor qrnn_vector_xor
#define qrnn_lanes_size qrnn_vector_size
#define qrnn_lanes_of qrnn_vector_read32
#define qrnn_lanes_read16 qrnn_vector_read16_some
#define qrnn_lanes_read32 qrnn_vector_read32_some
#define qrnn_lanes_write16 qrnn_vector_write16_some
#define qrnn_lanes_write32 qrnn_vector_write32_some
#define qrnn_lanes_entry32 qrnn_vector_entry32
#define qrnn_lanes_shift_left qrnn_vector_shift_left
#define qrnn_lanes_shift_right qrnn_vector_shift_right
#define qrnn_lanes_shift_right_round qrnn_vector_shift_right_round
#define qrnn_lanes_saturate16_shifted qrnn_vector_saturate16_shifted

static inline qrnn_lanes qrnn_lanes_min(qrnn_lanes x, int32_t high)
{
    return qrnn_vector_min(x, qrnn_vector_all(high));
}

static inline qrnn_lanes qrnn_lanes_max(qrnn_lanes x, int32_t low)
{
    return qrnn_vector_max(x, qrnn_vector_all(low));
}

/* below where x <= threshold, else above */
static inline qrnn_lanes qrnn_lanes_choose(qrnn_lanes x, int32_t threshold, int32_t below, qrnn_lanes above)
{
    return qrnn_vector_choose(x, qrnn_vector_all(threshold), qrnn_vector_all(below), above);
}

/* qrnn_shift_right_round_full */
static inline qrnn_lanes qrnn_lanes_shift_right_round_full(qrnn_lanes x, uint32_t shift)
{
    const qrnn_lanes doubled = qrnn_vector_shift_right(x, (shift == 0U) ? 0U : (shift - 1U));
    const qrnn_lanes rounded = qrnn_vector_add(qrnn_vector_shift_right(doubled, 1U), qrnn_vector_and(doubled, qrnn_vector_all(1)));
    return (shift == 0U) ? qrnn_lanes_max(x, -INT32_MAX) : rounded;
}

/* qrnn_saturate32(a + b): where both have one sign and the sum another, the limit of that sign */
static inline qrnn_lanes qrnn_lanes_add_saturate32(qrnn_lanes a, qrnn_lanes b)
{
    const qrnn_lanes sum = qrnn_vector_add(a, b);
    const qrnn_lanes limit = qrnn_vector_xor(qrnn_vector_shift_right(a, 31U), qrnn_vector_all(INT32_MAX));
    const qrnn_lanes over = qrnn_vector_shift_right(qrnn_vector_and(qrnn_vector_xor(a, sum), qrnn_vector_xor(b, sum)), 31U);
    return qrnn_vector_xor(sum, qrnn_vector_and(qrnn_vector_xor(sum, limit), over));
}

#if defined(QRNN_HAS_VECTOR_ENTRY16)
#define qrnn_lanes_entry16 qrnn_vector_entry16
#else
#define QRNN_HAS_PIECEWISE_LINEAR16
/* qrnn_piecewise_linear16 of qrnn_contract_lanes.h, both entries from one load */
static inline qrnn_lanes qrnn_piecewise_linear16(qrnn_lanes x, const int16_t *table, uint32_t segment_bits)
{
    const qrnn_lanes fraction = qrnn_vector_and(qrnn_vector_shift_left(x, 15U - segment_bits), qrnn_vector_all(32767));
    const qrnn_lanes pairs = qrnn_vector_pairs(table, qrnn_vector_shift_right(x, segment_bits));
    const qrnn_lanes from = qrnn_vector_shift_right(qrnn_vector_shift_left(pairs, 16U), 16U);
    return qrnn_vector_add(from, qrnn_vector_shift_right_round(qrnn_vector_rise(pairs, fraction), 15U));
}
#endif

#endif
