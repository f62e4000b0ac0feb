/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of RISC-V (V 1.0, registers of 128 bits or more): eight int32 lanes in two registers or less, which are the rows of a block of
 * weights or the units of a cell. A processor with longer registers gives the same bits.
 *
 * Operands of 8 bits: bytes; of 16 bits: int16. Weights, for both: column by column the bytes of the eight rows. Two products of bytes are at
 * most 2 * 127 * 127 < 2^15, so that they are added in 16 bits.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <riscv_vector.h>
#include "qrnn_contract.h"

#define QRNN_COLUMNS 8U
#define QRNN_GROUP 2U      /* columns of one call of qrnn_vector_products */
#define QRNN_WIDE_GROUP 2U /* of qrnn_vector_products_wide */
#define QRNN_VL 8U         /* lanes */

typedef vint32m2_t qrnn_vector;

static inline qrnn_vector qrnn_vector_all(int32_t x)
{
    return __riscv_vmv_v_x_i32m2(x, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_add(qrnn_vector a, qrnn_vector b)
{
    return __riscv_vadd_vv_i32m2(a, b, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_subtract(qrnn_vector a, qrnn_vector b)
{
    return __riscv_vsub_vv_i32m2(a, b, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_multiply(qrnn_vector a, qrnn_vector b)
{
    return __riscv_vmul_vv_i32m2(a, b, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_and(qrnn_vector a, qrnn_vector b)
{
    return __riscv_vand_vv_i32m2(a, b, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_xor(qrnn_vector a, qrnn_vector b)
{
    return __riscv_vxor_vv_i32m2(a, b, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_min(qrnn_vector a, qrnn_vector b)
{
    return __riscv_vmin_vv_i32m2(a, b, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_max(qrnn_vector a, qrnn_vector b)
{
    return __riscv_vmax_vv_i32m2(a, b, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_size(qrnn_vector x)
{
    return __riscv_vmax_vv_i32m2(x, __riscv_vneg_v_i32m2(x, QRNN_VL), QRNN_VL);
}

/* below where x <= threshold, else above */
static inline qrnn_vector qrnn_vector_choose(qrnn_vector x, qrnn_vector threshold, qrnn_vector below, qrnn_vector above)
{
    return __riscv_vmerge_vvm_i32m2(above, below, __riscv_vmsle_vv_i32m2_b16(x, threshold, QRNN_VL), QRNN_VL);
}

static inline qrnn_vector qrnn_vector_shift_left(qrnn_vector x, uint32_t shift)
{
    return __riscv_vsll_vx_i32m2(x, shift, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_shift_right(qrnn_vector x, uint32_t shift)
{
    return __riscv_vsra_vx_i32m2(x, shift, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_shift_left_each(qrnn_vector x, qrnn_vector shift)
{
    return __riscv_vsll_vv_i32m2(x, __riscv_vreinterpret_v_i32m2_u32m2(shift), QRNN_VL);
}

static inline qrnn_vector qrnn_vector_shift_right_each(qrnn_vector x, qrnn_vector shift)
{
    return __riscv_vsra_vv_i32m2(x, __riscv_vreinterpret_v_i32m2_u32m2(shift), QRNN_VL);
}

static inline qrnn_vector qrnn_vector_read32(const int32_t *from)
{
    return __riscv_vle32_v_i32m2(from, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_read16(const int16_t *from)
{
    return __riscv_vsext_vf2_i32m2(__riscv_vle16_v_i16m1(from, QRNN_VL), QRNN_VL);
}

static inline qrnn_vector qrnn_vector_read8(const uint8_t *from)
{
    return __riscv_vreinterpret_v_u32m2_i32m2(__riscv_vzext_vf4_u32m2(__riscv_vle8_v_u8mf2(from, QRNN_VL), QRNN_VL));
}

static inline void qrnn_vector_write32(int32_t *to, qrnn_vector x)
{
    __riscv_vse32_v_i32m2(to, x, QRNN_VL);
}

/* lanes within int16 */
static inline void qrnn_vector_write16(int16_t *to, qrnn_vector x)
{
    __riscv_vse16_v_i16m1(to, __riscv_vncvt_x_x_w_i16m1(x, QRNN_VL), QRNN_VL);
}

/* the lowest byte of each lane */
static inline void qrnn_vector_write8(uint8_t *to, qrnn_vector x)
{
    const vint8mf2_t bytes = __riscv_vncvt_x_x_w_i8mf2(__riscv_vncvt_x_x_w_i16m1(x, QRNN_VL), QRNN_VL);
    __riscv_vse8_v_u8mf2(to, __riscv_vreinterpret_v_i8mf2_u8mf2(bytes), QRNN_VL);
}

/* the number of bytes before an entry of `size` = 2^shift bytes */
static inline vuint32m2_t qrnn_vector_offset(qrnn_vector index, uint32_t shift)
{
    return __riscv_vsll_vx_u32m2(__riscv_vreinterpret_v_i32m2_u32m2(index), shift, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_entry32(const int32_t *table, qrnn_vector index)
{
    return __riscv_vluxei32_v_i32m2(table, qrnn_vector_offset(index, 2U), QRNN_VL);
}

static inline qrnn_vector qrnn_vector_entry16(const int16_t *table, qrnn_vector index)
{
    return __riscv_vsext_vf2_i32m2(__riscv_vluxei32_v_i16m1(table, qrnn_vector_offset(index, 1U), QRNN_VL), QRNN_VL);
}
#define QRNN_HAS_VECTOR_ENTRY16 /* a load of two entries might not be aligned */

/* qrnn_requantize without its left shift: (x * multiplier + 2^31) >> 32 */
static inline qrnn_vector qrnn_vector_requantize(qrnn_vector x, qrnn_vector multiplier)
{
    const vint64m4_t product = __riscv_vwmul_vv_i64m4(x, multiplier, QRNN_VL);
    return __riscv_vnsra_wx_i32m2(__riscv_vadd_vx_i64m4(product, INT64_C(1) << 31, QRNN_VL), 32, QRNN_VL);
}

/* sum + the products of a group of columns */
static inline qrnn_vector qrnn_vector_products(qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
    const int8_t *x = (const int8_t *)operand;
    vint16m1_t both = __riscv_vwmul_vx_i16m1(__riscv_vle8_v_i8mf2(weight, QRNN_VL), x[0], QRNN_VL);
    both = __riscv_vwmacc_vx_i16m1(both, x[1], __riscv_vle8_v_i8mf2(&weight[QRNN_VL], QRNN_VL), QRNN_VL);
    return __riscv_vwadd_wv_i32m2(sum, both, QRNN_VL);
}

static inline qrnn_vector qrnn_vector_products_wide(qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
    const int16_t *x = (const int16_t *)(const void *)operand; /* as which they are stored */
    const vint16m1_t first = __riscv_vsext_vf2_i16m1(__riscv_vle8_v_i8mf2(weight, QRNN_VL), QRNN_VL);
    const vint16m1_t second = __riscv_vsext_vf2_i16m1(__riscv_vle8_v_i8mf2(&weight[QRNN_VL], QRNN_VL), QRNN_VL);
    return __riscv_vwmacc_vx_i32m2(__riscv_vwmacc_vx_i32m2(sum, x[0], first, QRNN_VL), x[1], second, QRNN_VL);
}

#include "qrnn_dot_lanes.h"

#endif
