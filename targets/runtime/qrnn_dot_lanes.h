/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of matrices with a vector of operands, each lane of a vector a row: the same loops for every instruction set, over the functions
 * qrnn_vector_... of the header that includes this one. A block has as many rows as a vector has lanes; its weights stand group of columns by
 * group of columns, so that a load of weights goes with one group of operands, which every lane gets.
 */
#ifndef QRNN_DOT_LANES_H
#define QRNN_DOT_LANES_H

#include "qrnn_contract.h"

#define QRNN_HAS_VECTORS
#define QRNN_PADDED QRNN_COLUMNS /* operands are padded with zeros to a multiple of this */
#define QRNN_PLANE(columns) (((columns) + QRNN_PADDED - 1U) / QRNN_PADDED * QRNN_PADDED)
#define QRNN_WIDE_OPERAND_WORDS(columns) (QRNN_PLANE(columns) / 2U)
#if defined(QRNN_WIDE_ALONE)
#define QRNN_OPERAND_WORDS(columns) QRNN_WIDE_OPERAND_WORDS(columns)
#else
#define QRNN_OPERAND_WORDS(columns) (QRNN_PLANE(columns) / 4U)
#endif
#if !defined(QRNN_BYTE_FLIP)
#define QRNN_BYTE_FLIP 0x00
#endif

/* The first lanes from memory, as many as there are; the others are 0. */
static inline qrnn_vector qrnn_vector_read16_some(const int16_t *from, uint32_t count)
{
    int16_t all[QRNN_BLOCK_ROWS];
    if (count >= QRNN_BLOCK_ROWS) {
        return qrnn_vector_read16(from);
    }
    for (uint32_t k = 0U; k < QRNN_BLOCK_ROWS; k++) {
        all[k] = (k < count) ? from[k] : (int16_t)0;
    }
    return qrnn_vector_read16(all);
}

static inline qrnn_vector qrnn_vector_read32_some(const int32_t *from, uint32_t count)
{
    int32_t all[QRNN_BLOCK_ROWS];
    if (count >= QRNN_BLOCK_ROWS) {
        return qrnn_vector_read32(from);
    }
    for (uint32_t k = 0U; k < QRNN_BLOCK_ROWS; k++) {
        all[k] = (k < count) ? from[k] : (int32_t)0;
    }
    return qrnn_vector_read32(all);
}

/* The first lanes to memory, as many as there are. */
static inline void qrnn_vector_write16_some(int16_t *to, qrnn_vector x, uint32_t count)
{
    if (count >= QRNN_BLOCK_ROWS) {
        qrnn_vector_write16(to, x);
    } else {
        int16_t all[QRNN_BLOCK_ROWS];
        qrnn_vector_write16(all, x);
        for (uint32_t k = 0U; k < QRNN_BLOCK_ROWS; k++) {
            if (k < count) {
                to[k] = all[k];
            }
        }
    }
}

static inline void qrnn_vector_write32_some(int32_t *to, qrnn_vector x, uint32_t count)
{
    if (count >= QRNN_BLOCK_ROWS) {
        qrnn_vector_write32(to, x);
    } else {
        int32_t all[QRNN_BLOCK_ROWS];
        qrnn_vector_write32(all, x);
        for (uint32_t k = 0U; k < QRNN_BLOCK_ROWS; k++) {
            if (k < count) {
                to[k] = all[k];
            }
        }
    }
}

/* qrnn_shift_right_round, with room for half a unit */
static inline qrnn_vector qrnn_vector_shift_right_round(qrnn_vector x, uint32_t shift)
{
    return qrnn_vector_shift_right(qrnn_vector_add(x, qrnn_vector_all((int32_t)((UINT32_C(1) << shift) >> 1))), shift);
}

/* clamp to 16 bits */
static inline qrnn_vector qrnn_vector_saturate16(qrnn_vector x)
{
    return qrnn_vector_max(qrnn_vector_min(x, qrnn_vector_all(32767)), qrnn_vector_all(-32768));
}

/* x, each lane saturated to 16 - shift bits and shifted left by its own shift */
static inline qrnn_vector qrnn_vector_saturate16_shifted(qrnn_vector x, const uint8_t *shift)
{
    const qrnn_vector left = qrnn_vector_read8(shift);
    const qrnn_vector high = qrnn_vector_shift_right_each(qrnn_vector_all(32767), left);
    const qrnn_vector low = qrnn_vector_shift_right_each(qrnn_vector_all(-32768), left);
    return qrnn_vector_shift_left_each(qrnn_vector_max(qrnn_vector_min(x, high), low), left);
}

/* Up to a block of operands, to_operand(v_k, shift, limit), and zeros behind them */
static inline qrnn_vector qrnn_vector_operands(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit)
{
    const qrnn_vector x = qrnn_vector_shift_right_round(qrnn_vector_read16_some(values, count), shift);
    return qrnn_vector_max(qrnn_vector_min(x, qrnn_vector_all(limit)), qrnn_vector_all(-limit));
}

#if !defined(QRNN_WIDE_ALONE)
/* operands from `column` on, of 8 bits; whole vectors are written */
static inline void qrnn_vector_put(uint8_t *operand, uint32_t column, qrnn_vector x)
{
    qrnn_vector_write8(&operand[column], qrnn_vector_xor(x, qrnn_vector_all(QRNN_BYTE_FLIP)));
}
#endif

/* the same of 16 bits; `plane` is the number of columns with their padding */
static inline void qrnn_vector_put_wide(uint8_t *operand, uint32_t plane, uint32_t column, qrnn_vector x)
{
#if defined(QRNN_PLANES)
    qrnn_vector_write8(&operand[column], qrnn_vector_xor(qrnn_vector_shift_right(x, 8U), qrnn_vector_all(QRNN_BYTE_FLIP)));
    qrnn_vector_write8(&operand[plane + column], qrnn_vector_xor(x, qrnn_vector_all(QRNN_LOW_FLIP)));
#else
    (void)plane;
    qrnn_vector_write16(&((int16_t *)(void *)operand)[column], x); /* as which they are stored */
#endif
}

static inline void qrnn_encode_wide(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    const uint32_t plane = QRNN_PLANE(count);
    for (uint32_t k = 0U; k < plane; k += QRNN_BLOCK_ROWS) {
        const uint32_t left = (k < count) ? (count - k) : 0U;
        qrnn_vector_put_wide((uint8_t *)operand, plane, k, qrnn_vector_operands(&values[(left == 0U) ? 0U : k], left, shift, limit));
    }
}

#if defined(QRNN_WIDE_ALONE)
#define qrnn_encode qrnn_encode_wide
#else
static inline void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    const uint32_t plane = QRNN_PLANE(count);
    for (uint32_t k = 0U; k < plane; k += QRNN_BLOCK_ROWS) {
        const uint32_t left = (k < count) ? (count - k) : 0U;
        qrnn_vector_put((uint8_t *)operand, k, qrnn_vector_operands(&values[(left == 0U) ? 0U : k], left, shift, limit));
    }
}
#endif

/* How the loop below goes over a row: two sums for each block are independent, so that an instruction need not wait for the one before it.
 * They are of two groups of columns, or, where operands are two planes of bytes, of the highs and of the lows of one group. */
typedef struct {
    uint32_t columns; /* of a pass */
    uint32_t weights; /* bytes from the weights of the first sum to those of the second */
    uint32_t operand; /* bytes of a group of operands */
    uint32_t second;  /* bytes from the operands of the first sum to those of the second */
    uint32_t shift;   /* of the second sum */
} qrnn_passes;

QRNN_ALWAYS_INLINE qrnn_passes qrnn_passes_of(uint32_t wide, uint32_t columns)
{
    qrnn_passes found = {0U, 0U, 0U, 0U, 0U};
#if defined(QRNN_PLANES)
    found.operand = QRNN_GROUP;
    found.columns = (wide != 0U) ? QRNN_GROUP : (2U * QRNN_GROUP);
    found.weights = (wide != 0U) ? 0U : (QRNN_GROUP * QRNN_BLOCK_ROWS);
    found.second = (wide != 0U) ? columns : QRNN_GROUP;
    found.shift = (wide != 0U) ? 8U : 0U;
#elif defined(QRNN_WIDE_ALONE)
    found.operand = 2U * QRNN_WIDE_GROUP;
    found.columns = 2U * QRNN_WIDE_GROUP;
    found.weights = QRNN_WIDE_GROUP * QRNN_BLOCK_ROWS;
    found.second = 2U * QRNN_WIDE_GROUP;
#else
    const uint32_t group = (wide != 0U) ? QRNN_WIDE_GROUP : QRNN_GROUP;
    found.operand = (wide != 0U) ? (2U * group) : group;
    found.columns = 2U * group;
    found.weights = group * QRNN_BLOCK_ROWS;
    found.second = found.operand;
#endif
    (void)wide;
    (void)columns;
    return found;
}

QRNN_ALWAYS_INLINE qrnn_vector qrnn_group_products(uint32_t wide, qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
#if defined(QRNN_PLANES)
    (void)wide;
    return qrnn_vector_products(sum, weight, operand);
#elif defined(QRNN_WIDE_ALONE)
    (void)wide;
    return qrnn_vector_products_wide(sum, weight, operand);
#else
    return (wide != 0U) ? qrnn_vector_products_wide(sum, weight, operand) : qrnn_vector_products(sum, weight, operand);
#endif
}

/* bias + both sums of a block */
QRNN_ALWAYS_INLINE qrnn_vector qrnn_whole_sum(const qrnn_passes *pass, const int32_t *bias, qrnn_vector sum, qrnn_vector second)
{
    const qrnn_vector added = (pass->shift == 0U) ? qrnn_vector_add(sum, second)
                                                  : qrnn_vector_add(qrnn_vector_shift_left(sum, pass->shift), second);
    return qrnn_vector_add(qrnn_vector_read32(bias), added);
}

/* requantize of the sums of a block; left_shift may be NULL */
static inline void qrnn_requantize_block(qrnn_vector sum, const int32_t *multiplier, const uint8_t *left_shift, int32_t *y)
{
    const qrnn_vector shifted = (left_shift == NULL) ? sum : qrnn_vector_shift_left_each(sum, qrnn_vector_read8(left_shift));
    qrnn_vector_write32(y, qrnn_vector_requantize(shifted, qrnn_vector_read32(multiplier)));
}

/* The rows of 1 to 4 blocks; `blocks` and `wide` are constants where this is called. Each group of operands is read once for all of them.
 * `left_shift` may be NULL, and `requantized` is 0 for the sums themselves. */
QRNN_ALWAYS_INLINE void qrnn_some_blocks(uint32_t wide, uint32_t blocks, uint32_t requantized, const int8_t *weight, uint32_t block_bytes,
                                         uint32_t columns, const uint32_t *operands, const int32_t *row, const uint8_t *left_shift,
                                         int32_t *y)
{
    const qrnn_passes pass = qrnn_passes_of(wide, columns);
    const uint8_t *operand = (const uint8_t *)operands;
    const uint8_t *const end = &operand[(columns / pass.columns) * ((pass.second == pass.operand) ? (2U * pass.operand) : pass.operand)];
    const int8_t *w0 = weight;
    const int8_t *w1 = (blocks > 1U) ? &w0[block_bytes] : w0;
    const int8_t *w2 = (blocks > 2U) ? &w1[block_bytes] : w0;
    const int8_t *w3 = (blocks > 3U) ? &w2[block_bytes] : w0;
    const uint32_t step = (pass.weights == 0U) ? (pass.columns * QRNN_BLOCK_ROWS) : (2U * pass.weights);
    qrnn_vector a0 = qrnn_vector_all(0);
    qrnn_vector a1 = a0;
    qrnn_vector a2 = a0;
    qrnn_vector a3 = a0;
    qrnn_vector b0 = a0;
    qrnn_vector b1 = a0;
    qrnn_vector b2 = a0;
    qrnn_vector b3 = a0;

    while (operand != end) {
        const uint8_t *const second = &operand[pass.second];
        a0 = qrnn_group_products(wide, a0, w0, operand);
        b0 = qrnn_group_products(wide, b0, &w0[pass.weights], second);
        w0 = &w0[step];
        if (blocks > 1U) {
            a1 = qrnn_group_products(wide, a1, w1, operand);
            b1 = qrnn_group_products(wide, b1, &w1[pass.weights], second);
            w1 = &w1[step];
        }
        if (blocks > 2U) {
            a2 = qrnn_group_products(wide, a2, w2, operand);
            b2 = qrnn_group_products(wide, b2, &w2[pass.weights], second);
            w2 = &w2[step];
        }
        if (blocks > 3U) {
            a3 = qrnn_group_products(wide, a3, w3, operand);
            b3 = qrnn_group_products(wide, b3, &w3[pass.weights], second);
            w3 = &w3[step];
        }
        operand = &operand[(pass.second == pass.operand) ? (2U * pass.operand) : pass.operand];
    }
    a0 = qrnn_whole_sum(&pass, row, a0, b0);
    if (requantized == 0U) {
        qrnn_vector_write32(y, a0);
        return;
    }
    qrnn_requantize_block(a0, &row[QRNN_BLOCK_ROWS], left_shift, y);
    if (blocks > 1U) {
        row = &row[2U * QRNN_BLOCK_ROWS];
        left_shift = (left_shift == NULL) ? NULL : &left_shift[QRNN_BLOCK_ROWS];
        qrnn_requantize_block(qrnn_whole_sum(&pass, row, a1, b1), &row[QRNN_BLOCK_ROWS], left_shift, &y[QRNN_BLOCK_ROWS]);
    }
    if (blocks > 2U) {
        row = &row[2U * QRNN_BLOCK_ROWS];
        left_shift = (left_shift == NULL) ? NULL : &left_shift[QRNN_BLOCK_ROWS];
        qrnn_requantize_block(qrnn_whole_sum(&pass, row, a2, b2), &row[QRNN_BLOCK_ROWS], left_shift, &y[2U * QRNN_BLOCK_ROWS]);
    }
    if (blocks > 3U) {
        row = &row[2U * QRNN_BLOCK_ROWS];
        left_shift = (left_shift == NULL) ? NULL : &left_shift[QRNN_BLOCK_ROWS];
        qrnn_requantize_block(qrnn_whole_sum(&pass, row, a3, b3), &row[QRNN_BLOCK_ROWS], left_shift, &y[3U * QRNN_BLOCK_ROWS]);
    }
}

/* The sums of the rows of one block, of QRNN_BLOCK_ROWS lanes; other headers of products have these functions for four rows. */
#if defined(QRNN_USE_NARROW)
static inline void qrnn_dot4(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t *bias, int32_t *sums)
{
    qrnn_some_blocks(0U, 1U, 0U, weight, 0U, columns, operand, bias, NULL, sums);
}
#endif

#if defined(QRNN_USE_WIDE)
static inline void qrnn_dot4_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t *bias, int32_t *sums)
{
    qrnn_some_blocks(1U, 1U, 0U, weight, 0U, columns, operand, bias, NULL, sums);
}
#endif

#if defined(QRNN_USE_ROWS)
#define QRNN_HAS_ROWS

QRNN_ALWAYS_INLINE void qrnn_rows_of(uint32_t wide, const int8_t *weight, uint32_t block_bytes, uint32_t columns, const uint32_t *operand,
                                     const int32_t *row, const uint8_t *left_shift, uint32_t blocks, int32_t *sums)
{
    switch (blocks) {
    case 1U:
        qrnn_some_blocks(wide, 1U, 1U, weight, block_bytes, columns, operand, row, left_shift, sums);
        break;
    case 2U:
        qrnn_some_blocks(wide, 2U, 1U, weight, block_bytes, columns, operand, row, left_shift, sums);
        break;
    case 3U:
        qrnn_some_blocks(wide, 3U, 1U, weight, block_bytes, columns, operand, row, left_shift, sums);
        break;
    default:
        qrnn_some_blocks(wide, 4U, 1U, weight, block_bytes, columns, operand, row, left_shift, sums);
        break;
    }
}

/* As qrnn_rows of qrnn_matrix.h, of at most four blocks */
QRNN_FOR_EACH_LAYER void qrnn_rows(const qrnn_matrix *matrix, uint32_t first_block, uint32_t blocks, const uint32_t *operand,
                                   int32_t sums[][QRNN_BLOCK_ROWS])
{
    const int8_t *weight = (const int8_t *)matrix->weight + ((size_t)first_block * matrix->block_bytes);
    const int32_t *row = &matrix->row[2U * QRNN_BLOCK_ROWS * first_block];
    const uint8_t *left_shift = NULL;

#if defined(QRNN_USE_LEFT_SHIFT)
    left_shift = (matrix->left_shift == NULL) ? NULL : &matrix->left_shift[QRNN_BLOCK_ROWS * first_block];
#endif
#if defined(QRNN_USE_WIDE) && defined(QRNN_USE_NARROW)
    if (matrix->wide != 0U) {
        qrnn_rows_of(1U, weight, matrix->block_bytes, matrix->columns, operand, row, left_shift, blocks, sums[0]);
    } else {
        qrnn_rows_of(0U, weight, matrix->block_bytes, matrix->columns, operand, row, left_shift, blocks, sums[0]);
    }
#elif defined(QRNN_USE_WIDE)
    qrnn_rows_of(1U, weight, matrix->block_bytes, matrix->columns, operand, row, left_shift, blocks, sums[0]);
#else
    qrnn_rows_of(0U, weight, matrix->block_bytes, matrix->columns, operand, row, left_shift, blocks, sums[0]);
#endif
}
#endif

#endif
