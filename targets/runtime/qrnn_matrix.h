/* Matrix times vector, requantized: four rows at a time through the dot product of the target. */
#ifndef QRNN_MATRIX_H
#define QRNN_MATRIX_H

#include "qrnn_arithmetic.h"

/* The operands of a vector, as the dot product reads them. */
static inline void qrnn_to_operands(const int16_t *values, uint32_t count, qrnn_operand_format format, uint32_t *operand)
{
#if defined(QRNN_USE_WIDE) && defined(QRNN_USE_NARROW)
    if (format.wide != 0U) {
        qrnn_encode_wide(values, count, format.shift, format.limit, operand);
    } else {
        qrnn_encode(values, count, format.shift, format.limit, operand);
    }
#elif defined(QRNN_USE_WIDE)
    qrnn_encode_wide(values, count, format.shift, format.limit, operand);
#else
    qrnn_encode(values, count, format.shift, format.limit, operand);
#endif
}

/* requantize(sum over k of weight[r, k] * operand[k] + bias[r], multiplier[r], left_shift[r]) of the four rows of a block */
static void qrnn_rows(const qrnn_matrix *matrix, uint32_t block, const uint32_t *operand, int32_t sums[QRNN_BLOCK_ROWS])
{
    const int8_t *weight = (const int8_t *)matrix->weight + ((size_t)block * matrix->block_bytes);
    const int32_t *row = &matrix->row[8U * block];

#if defined(QRNN_USE_WIDE) && defined(QRNN_USE_NARROW)
    if (matrix->wide != 0U) {
        qrnn_dot4_wide(weight, operand, matrix->columns, row, sums);
    } else {
        qrnn_dot4(weight, operand, matrix->columns, row, sums);
    }
#elif defined(QRNN_USE_WIDE)
    qrnn_dot4_wide(weight, operand, matrix->columns, row, sums);
#else
    qrnn_dot4(weight, operand, matrix->columns, row, sums);
#endif
    for (uint32_t r = 0U; r < QRNN_BLOCK_ROWS; r++) {
#if defined(QRNN_USE_LEFT_SHIFT)
        const uint32_t left_shift = (matrix->left_shift == NULL) ? 0U : matrix->left_shift[(QRNN_BLOCK_ROWS * block) + r];
        sums[r] = qrnn_requantize(qrnn_shift_left(sums[r], left_shift), row[QRNN_BLOCK_ROWS + r]);
#else
        sums[r] = qrnn_requantize(sums[r], row[QRNN_BLOCK_ROWS + r]);
#endif
    }
}

/* saturate16_shifted(sum, pre_shift of the row) */
static inline int32_t qrnn_to_argument(const qrnn_matrix *matrix, uint32_t row, int32_t sum)
{
#if defined(QRNN_USE_PRE_SHIFT)
    return qrnn_saturate16_shifted(sum, (matrix->pre_shift == NULL) ? 0U : matrix->pre_shift[row]);
#else
    (void)matrix;
    (void)row;
    return qrnn_saturate16(sum);
#endif
}

#endif
