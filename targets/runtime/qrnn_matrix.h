/* Matrix times vector, requantized: four rows at a time through the dot product of the target. */
#ifndef QRNN_MATRIX_H
#define QRNN_MATRIX_H

#include "qrnn_lanes.h"

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
#if defined(QRNN_USE_LEFT_SHIFT)
    qrnn_requantize_four(sums, &row[QRNN_BLOCK_ROWS],
                         (matrix->left_shift == NULL) ? NULL : &matrix->left_shift[QRNN_BLOCK_ROWS * block]);
#else
    qrnn_requantize_four(sums, &row[QRNN_BLOCK_ROWS], NULL);
#endif
}

/* What a gate function takes for saturate16_shifted(sum, pre_shift of the row); of the rows from `row` on, one for each lane. Where
 * nothing is shifted it is the sum itself, since gate functions saturate. */
static inline qrnn_lanes qrnn_to_argument(const qrnn_matrix *matrix, uint32_t row, qrnn_lanes sum)
{
#if defined(QRNN_USE_PRE_SHIFT)
    return (matrix->pre_shift == NULL) ? sum : qrnn_lanes_saturate16_shifted(sum, &matrix->pre_shift[row]);
#else
    (void)matrix;
    (void)row;
    return sum;
#endif
}

#endif
