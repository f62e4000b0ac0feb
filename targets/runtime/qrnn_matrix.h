/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix times vector, requantized: a block of rows at a time through the dot product of the target. */
#ifndef QRNN_MATRIX_H
#define QRNN_MATRIX_H

#include "qrnn_lanes.h"

#if defined(QRNN_USE_NARROW) || defined(QRNN_USE_HALVES) || (defined(QRNN_USE_FOUR_NARROW) && !defined(QRNN_FOUR_IN_WORDS))
#define QRNN_NARROW_OPERANDS
#endif
#if defined(QRNN_USE_WIDE) || (defined(QRNN_USE_FOUR_WIDE) && !defined(QRNN_FOUR_IN_WORDS))
#define QRNN_WIDE_OPERANDS
#endif

/* The operands of a vector, as the dot product reads them. */
static inline void qrnn_to_operands(const int16_t *values, uint32_t count, qrnn_operand_format format, uint32_t *operand)
{
#if defined(QRNN_FOUR_IN_WORDS) && defined(QRNN_USE_FOUR)
    if (format.four != 0U) {
        qrnn_encode_four(values, count, format.shift, format.limit, operand);
        return;
    }
#endif
#if defined(QRNN_WIDE_OPERANDS) && defined(QRNN_NARROW_OPERANDS)
    if (format.wide != 0U) {
        qrnn_encode_wide(values, count, format.shift, format.limit, operand);
    } else {
        qrnn_encode(values, count, format.shift, format.limit, operand);
    }
#elif defined(QRNN_WIDE_OPERANDS)
    qrnn_encode_wide(values, count, format.shift, format.limit, operand);
#elif defined(QRNN_NARROW_OPERANDS)
    qrnn_encode(values, count, format.shift, format.limit, operand);
#endif
}

/* The biases and the multipliers of the block whose numbers are at `row` */
#if defined(QRNN_USE_NO_BIASES)
static const QRNN_FLASH int32_t qrnn_no_biases[QRNN_BLOCK_ROWS] = {0};
#if defined(QRNN_USE_BIASES)
#define QRNN_BIASES(matrix, row) (((matrix)->biases == (uint8_t)QRNN_LONG_BIASES) ? (row) : qrnn_no_biases)
#else
#define QRNN_BIASES(matrix, row) qrnn_no_biases
#endif
#else
#define QRNN_BIASES(matrix, row) (row)
#endif
#if defined(QRNN_USE_SHORT_BIASES)
/* Adds those biases that a matrix has in 16 bits. */
static inline void qrnn_add_short_biases(const QRNN_FLASH qrnn_matrix *matrix, uint32_t block, int32_t sums[QRNN_BLOCK_ROWS])
{
    if (matrix->biases == (uint8_t)QRNN_SHORT_BIASES) {
        const QRNN_FLASH uint32_t *const bias = &matrix->short_bias[QRNN_BLOCK_ROWS / 2U * block];

        for (uint32_t k = 0U; k < (QRNN_BLOCK_ROWS / 2U); k++) {
            const uint32_t lower = (uint32_t)((int32_t)(bias[k] << 16) >> (16U - matrix->bias_shift));
            const uint32_t upper = (uint32_t)((int32_t)bias[k] >> 16) << matrix->bias_shift;

            sums[2U * k] = (int32_t)((uint32_t)sums[2U * k] + lower);
            sums[(2U * k) + 1U] = (int32_t)((uint32_t)sums[(2U * k) + 1U] + upper);
        }
    }
}
#endif
#if defined(QRNN_USE_SHORT_MULTIPLIERS)
/* qrnn_requantize_four of a block of a matrix with multipliers of 16 bits */
static inline void qrnn_requantize_short_four(const QRNN_FLASH qrnn_matrix *matrix, uint32_t block, const int32_t sums[QRNN_BLOCK_ROWS],
                                              int32_t y[QRNN_BLOCK_ROWS])
{
    const QRNN_FLASH uint32_t *const multiplier = &matrix->short_multiplier[QRNN_BLOCK_ROWS / 2U * block];

    for (uint32_t k = 0U; k < (QRNN_BLOCK_ROWS / 2U); k++) {
        int32_t first = sums[2U * k];
        int32_t second = sums[(2U * k) + 1U];
#if defined(QRNN_USE_LEFT_SHIFT)
        if (matrix->left_shift != NULL) {
            const QRNN_FLASH uint8_t *const left = &matrix->left_shift[QRNN_BLOCK_ROWS * block];

            first = qrnn_shift_left(first, left[2U * k]);
            second = qrnn_shift_left(second, left[(2U * k) + 1U]);
        }
#endif
        y[2U * k] = qrnn_requantize_short(first, multiplier[k] & 0xFFFFU, matrix->multiplier_shift);
        y[(2U * k) + 1U] = qrnn_requantize_short(second, multiplier[k] >> 16, matrix->multiplier_shift);
    }
}
#endif

/* The numbers of blocks `count` further on. A matrix has none where all of them are stored in 16 bits. */
#if defined(QRNN_USE_SHORT_MULTIPLIERS)
#define QRNN_NEXT_NUMBERS(row, count) (((row) == NULL) ? NULL : &(row)[count])
#else
#define QRNN_NEXT_NUMBERS(row, count) (&(row)[count])
#endif
#define QRNN_MULTIPLIERS(matrix, row) QRNN_NEXT_NUMBERS(row, QRNN_ROW_NUMBERS(matrix) - QRNN_BLOCK_ROWS)

#if defined(QRNN_USE_WIDE) || defined(QRNN_USE_NARROW)
/* sum over k of weight[r, k] * operand[k] + bias[r] of the rows of a block, with weights of eight bits */
static inline void qrnn_dot_bytes(const QRNN_FLASH qrnn_matrix *matrix, const QRNN_FLASH int8_t *weight, const uint32_t *operand,
                                  const QRNN_FLASH int32_t *bias, int32_t sums[QRNN_BLOCK_ROWS])
{
#if defined(QRNN_USE_RAW)
    if (matrix->raw != 0U) {
        qrnn_dot4_raw(weight, operand, matrix->columns, bias, sums);
        return;
    }
#endif
#if defined(QRNN_USE_WIDE) && defined(QRNN_USE_NARROW)
    if (matrix->wide != 0U) {
        qrnn_dot4_wide(weight, operand, matrix->columns, bias, sums);
    } else {
        qrnn_dot4(weight, operand, matrix->columns, bias, sums);
    }
#elif defined(QRNN_USE_WIDE)
    qrnn_dot4_wide(weight, operand, matrix->columns, bias, sums);
#else
    qrnn_dot4(weight, operand, matrix->columns, bias, sums);
#endif
}
#endif

#if defined(QRNN_USE_FOUR_WIDE) || defined(QRNN_USE_FOUR_NARROW)
/* the same with weights of four bits */
static inline void qrnn_dot_four(const QRNN_FLASH qrnn_matrix *matrix, const QRNN_FLASH int8_t *weight, const uint32_t *operand,
                                 const QRNN_FLASH int32_t *bias, int32_t sums[QRNN_BLOCK_ROWS])
{
#if defined(QRNN_USE_FOUR_WIDE) && defined(QRNN_USE_FOUR_NARROW)
    if (matrix->wide != 0U) {
        qrnn_dot4_four_wide(weight, operand, matrix->columns, bias, sums);
    } else {
        qrnn_dot4_four(weight, operand, matrix->columns, bias, sums);
    }
#elif defined(QRNN_USE_FOUR_WIDE)
    qrnn_dot4_four_wide(weight, operand, matrix->columns, bias, sums);
#else
    qrnn_dot4_four(weight, operand, matrix->columns, bias, sums);
#endif
}
#endif

#if defined(QRNN_USE_LISTS)
/* A block of weights: of a matrix with lists, where its list begins. */
static inline const QRNN_FLASH int8_t *qrnn_block(const QRNN_FLASH qrnn_matrix *matrix, uint32_t block)
{
    const QRNN_FLASH uint32_t *const words = matrix->weight;

    if (matrix->lists != (uint8_t)QRNN_NO_LISTS) {
        return (const QRNN_FLASH int8_t *)&words[words[block]];
    }
    return (const QRNN_FLASH int8_t *)words + ((size_t)block * matrix->block_bytes);
}

#endif

#if defined(QRNN_USE_LISTS_OF_TILES)
/* the same of a block with a list of tiles of four rows */
static inline void qrnn_dot_tiles(const QRNN_FLASH qrnn_matrix *matrix, const QRNN_FLASH int8_t *list, const uint32_t *operand,
                                  const QRNN_FLASH int32_t bias[4], int32_t sums[4])
{
    (void)matrix;
#if defined(QRNN_USE_WIDE) && defined(QRNN_USE_NARROW)
    if (matrix->wide != 0U) {
        qrnn_dot4_tiles_wide(list, operand, matrix->columns, bias, sums);
    } else {
        qrnn_dot4_tiles(list, operand, bias, sums);
    }
#elif defined(QRNN_USE_WIDE)
    qrnn_dot4_tiles_wide(list, operand, matrix->columns, bias, sums);
#else
    qrnn_dot4_tiles(list, operand, bias, sums);
#endif
}
#endif

#if defined(QRNN_USE_LISTS_OF_ROWS)
/* the same of a block whose rows have lists of their own */
static inline void qrnn_dot_rows(const QRNN_FLASH qrnn_matrix *matrix, const QRNN_FLASH int8_t *list, const uint32_t *operand,
                                 const QRNN_FLASH int32_t bias[4], int32_t sums[4])
{
    (void)matrix;
#if defined(QRNN_USE_WIDE) && defined(QRNN_USE_NARROW)
    if (matrix->wide != 0U) {
        qrnn_dot4_rows_wide(list, operand, matrix->columns, bias, sums);
    } else {
        qrnn_dot4_rows(list, operand, bias, sums);
    }
#elif defined(QRNN_USE_WIDE)
    qrnn_dot4_rows_wide(list, operand, matrix->columns, bias, sums);
#else
    qrnn_dot4_rows(list, operand, bias, sums);
#endif
}
#endif

/* the same, however the weights are stored but in lists */
static inline void qrnn_dot(const QRNN_FLASH qrnn_matrix *matrix, const QRNN_FLASH int8_t *weight, const uint32_t *operand,
                            const QRNN_FLASH int32_t *bias, int32_t sums[QRNN_BLOCK_ROWS])
{
#if defined(QRNN_USE_HALVES) && (defined(QRNN_USE_FOUR) || defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE))
    if (matrix->halves != 0U) {
        qrnn_dot4_halves(weight, operand, matrix->columns, bias, sums);
        return;
    }
#endif
#if defined(QRNN_USE_FOUR) && (defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE))
    if (matrix->four != 0U) {
        qrnn_dot_four(matrix, weight, operand, bias, sums);
    } else {
        qrnn_dot_bytes(matrix, weight, operand, bias, sums);
    }
#elif defined(QRNN_USE_FOUR)
    qrnn_dot_four(matrix, weight, operand, bias, sums);
#elif defined(QRNN_USE_HALVES) && !(defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE))
    qrnn_dot4_halves(weight, operand, matrix->columns, bias, sums);
#else
    qrnn_dot_bytes(matrix, weight, operand, bias, sums);
#endif
}

#if defined(QRNN_USE_LISTS)
/* the same of any block */
static inline void qrnn_dot_block(const QRNN_FLASH qrnn_matrix *matrix, const QRNN_FLASH int8_t *weight, const uint32_t *operand,
                                  const QRNN_FLASH int32_t bias[4], int32_t sums[4])
{
#if defined(QRNN_USE_LISTS_OF_TILES)
    if (matrix->lists == (uint8_t)QRNN_LISTS_OF_TILES) {
        qrnn_dot_tiles(matrix, weight, operand, bias, sums);
        return;
    }
#endif
#if defined(QRNN_USE_LISTS_OF_ROWS)
    if (matrix->lists == (uint8_t)QRNN_LISTS_OF_ROWS) {
        qrnn_dot_rows(matrix, weight, operand, bias, sums);
        return;
    }
#endif
    qrnn_dot(matrix, weight, operand, bias, sums);
}
#endif

#if defined(QRNN_USE_ROWS) && !defined(QRNN_HAS_ROWS)
/* requantize(sum over k of weight[r, k] * operand[k] + bias[r], multiplier[r], left_shift[r]) of the rows of `blocks` blocks */
QRNN_FOR_EACH_LAYER void qrnn_rows(const QRNN_FLASH qrnn_matrix *matrix, uint32_t first_block, uint32_t blocks, const uint32_t *operand,
                      int32_t sums[][QRNN_BLOCK_ROWS])
{
#if !defined(QRNN_USE_LISTS)
    const QRNN_FLASH int8_t *weight = (const QRNN_FLASH int8_t *)matrix->weight + ((size_t)first_block * matrix->block_bytes);
#endif
    const QRNN_FLASH int32_t *const row = QRNN_NEXT_NUMBERS(matrix->row, QRNN_ROW_STRIDE(matrix) * first_block);
#if defined(QRNN_USE_LEFT_SHIFT)
    const QRNN_FLASH uint8_t *left_shift = (matrix->left_shift == NULL) ? NULL : &matrix->left_shift[QRNN_BLOCK_ROWS * first_block];
#endif

#if defined(QRNN_HAS_HALF_BLOCKS)
    if (qrnn_takes_halves(matrix) != 0) {
#if defined(QRNN_USE_LISTS)
        qrnn_half_sums(matrix, qrnn_block(matrix, first_block), operand, row, blocks, sums[0]);
#else
        qrnn_half_sums(matrix, weight, operand, row, blocks, sums[0]);
#endif
        return;
    }
#endif
#if defined(QRNN_HAS_BLOCKS) && defined(QRNN_USE_LISTS)
    if ((matrix->lists == (uint8_t)QRNN_NO_LISTS) && (qrnn_takes_blocks(matrix) != 0)) {
        qrnn_block_sums(matrix, qrnn_block(matrix, first_block), operand, row, blocks, sums[0]);
        return;
    }
#elif defined(QRNN_HAS_BLOCKS)
    if (qrnn_takes_blocks(matrix) != 0) {
        qrnn_block_sums(matrix, weight, operand, row, blocks, sums[0]);
        return;
    }
#endif
    /* A matrix has biases in all of its blocks or in none. */
    const uint32_t stride = QRNN_ROW_STRIDE(matrix);
    const QRNN_FLASH int32_t *bias = QRNN_BIASES(matrix, row);
    const uint32_t bias_stride = (bias == row) ? stride : 0U;
    const QRNN_FLASH int32_t *multiplier = QRNN_MULTIPLIERS(matrix, row);

    for (uint32_t block = 0U; block < blocks; block++) {
        int32_t sum[QRNN_BLOCK_ROWS];

#if defined(QRNN_USE_LISTS)
        qrnn_dot_block(matrix, qrnn_block(matrix, first_block + block), operand, bias, sum);
#else
        qrnn_dot(matrix, weight, operand, bias, sum);
#endif
#if defined(QRNN_USE_SHORT_BIASES)
        qrnn_add_short_biases(matrix, first_block + block, sum);
#endif
#if defined(QRNN_USE_SHORT_MULTIPLIERS)
        if (matrix->multiplier_shift != 0U) {
            qrnn_requantize_short_four(matrix, first_block + block, sum, sums[block]);
        } else
#endif
#if defined(QRNN_USE_LEFT_SHIFT)
        qrnn_requantize_four(sum, multiplier, (left_shift == NULL) ? NULL : &left_shift[QRNN_BLOCK_ROWS * block],
                             sums[block]);
#else
        qrnn_requantize_four(sum, multiplier, NULL, sums[block]);
#endif
#if !defined(QRNN_USE_LISTS)
        weight = &weight[matrix->block_bytes];
#endif
        bias = &bias[bias_stride];
        multiplier = QRNN_NEXT_NUMBERS(multiplier, stride);
    }
}
#endif

/* The number of units of a block whose first unit is `first`; a constant where vectors are full, since a predicate costs instructions */
static inline uint32_t qrnn_units_of_block(const QRNN_FLASH qrnn_cell *cell, uint32_t first)
{
    const uint32_t rest = cell->units - first;

#if QRNN_LANES > 1U
    if ((cell->units % QRNN_BLOCK_ROWS) == 0U) {
        return QRNN_BLOCK_ROWS;
    }
#endif
    return (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;
}

/* What a gate function takes for saturate16_shifted(sum, pre_shift of the row); of the rows from `row` on, one for each lane. Where
 * nothing is shifted it is the sum itself, since gate functions saturate. */
static inline qrnn_lanes qrnn_to_argument(const QRNN_FLASH qrnn_matrix *matrix, uint32_t row, qrnn_lanes sum)
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
