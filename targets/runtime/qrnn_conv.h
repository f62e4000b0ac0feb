/* SPDX-License-Identifier: Apache-2.0 */
/* A step of a convolution, section 5 of docs/arithmetic.md: each place is a product of a matrix and the operands that its window reads. */
#ifndef QRNN_CONV_H
#define QRNN_CONV_H

#include "qrnn_matrix.h"
#include "qrnn_window.h"

typedef struct {
    qrnn_window window;
    qrnn_matrix matrix; /* the rows of each group in blocks of their own */
    qrnn_operand_format format;
    uint32_t columns; /* of the matrix, without padding */
    uint32_t groups;
    uint32_t rows; /* of a group */
} qrnn_convolution;

/* y[r] = saturate16_shifted(requantize(sum over k of weight[r, k] * operand[k] + bias[r]), pre_shift[r]), of `rows` rows from a block on */
QRNN_WHOLE void qrnn_convolve(const QRNN_FLASH qrnn_matrix *matrix, uint32_t block, const uint32_t *operand, uint32_t rows, int16_t *y)
{
    const QRNN_FLASH int8_t *weight = (const QRNN_FLASH int8_t *)matrix->weight + ((size_t)block * matrix->block_bytes);
    const QRNN_FLASH int32_t *row = &matrix->row[QRNN_ROW_NUMBERS(matrix) * block];
    uint32_t shift = QRNN_BLOCK_ROWS * block;

#if defined(QRNN_WHOLE_BLOCKS)
    if (qrnn_takes_whole_blocks(matrix) && (rows >= QRNN_BLOCK_ROWS)) {
        const uint32_t blocks = rows / QRNN_BLOCK_ROWS;

        qrnn_whole_blocks(matrix, weight, operand, row, blocks, y);
        rows -= QRNN_BLOCK_ROWS * blocks;
        if (rows == 0U) {
            return;
        }
        weight = &weight[matrix->block_bytes * blocks];
        row = &row[QRNN_ROW_NUMBERS(matrix) * blocks];
        shift += QRNN_BLOCK_ROWS * blocks;
        y = &y[QRNN_BLOCK_ROWS * blocks];
    }
#endif
    for (uint32_t left = rows;; left -= QRNN_BLOCK_ROWS) {
        const QRNN_FLASH uint8_t *left_shift = NULL;
        const QRNN_FLASH uint8_t *pre_shift = NULL;
        int32_t sums[QRNN_BLOCK_ROWS];

#if defined(QRNN_USE_LEFT_SHIFT)
        left_shift = (matrix->left_shift == NULL) ? NULL : &matrix->left_shift[shift];
#endif
#if defined(QRNN_USE_PRE_SHIFT)
        pre_shift = (matrix->pre_shift == NULL) ? NULL : &matrix->pre_shift[shift];
#endif
        qrnn_dot(matrix, weight, operand, QRNN_BIASES(matrix, row), sums);
#if defined(QRNN_USE_SHORT_BIASES)
        qrnn_add_short_biases(matrix, shift / QRNN_BLOCK_ROWS, sums);
#endif
        if (left <= QRNN_BLOCK_ROWS) {
            qrnn_write_block(sums, QRNN_MULTIPLIERS(matrix, row), left_shift, pre_shift, left, y);
            break;
        }
        qrnn_write_block(sums, QRNN_MULTIPLIERS(matrix, row), left_shift, pre_shift, QRNN_BLOCK_ROWS, y);
        weight = &weight[matrix->block_bytes];
        row = &row[QRNN_ROW_NUMBERS(matrix)];
        shift += QRNN_BLOCK_ROWS;
        y = &y[QRNN_BLOCK_ROWS];
    }
    (void)shift;
}

/* The columns for which there is room among the operands */
#if defined(QRNN_FOUR_IN_WORDS)
#define QRNN_PADDED_COLUMNS(conv) ((uint32_t)(conv)->matrix.columns)
#define QRNN_IN_WORDS 0xFFFFFFFFU
#else
#define QRNN_PADDED_COLUMNS(conv) (((conv)->columns + QRNN_PADDED - 1U) / QRNN_PADDED * QRNN_PADDED)
#endif

/* The columns of operands of 16 bits, with their padding; 0 for those of 8 bits, QRNN_IN_WORDS for those of weights of four bits */
static inline uint32_t qrnn_wide_columns(const QRNN_FLASH qrnn_convolution *conv)
{
#if defined(QRNN_FOUR_IN_WORDS)
    if (conv->matrix.four != 0U) {
        return QRNN_IN_WORDS;
    }
#endif
    return (conv->format.wide == 0U) ? 0U : QRNN_PADDED_COLUMNS(conv);
}

/* Whether a place reads one band of one step, and all of its channels */
static inline uint32_t qrnn_reads_a_band(const QRNN_FLASH qrnn_convolution *conv)
{
    const QRNN_FLASH qrnn_window *window = &conv->window;

    return ((window->span == 1U) && (window->line_taps == 1U) && (window->band_taps == 1U) && (conv->groups == 1U)) ? 1U : 0U;
}

/* The operands of place p of line place q for a group of channels, from the oldest step's first line and band on; zeros stand for lines and
 * bands that there are not. */
QRNN_FOR_EACH_LAYER void qrnn_gather_place(const QRNN_FLASH qrnn_convolution *conv, const int16_t *past, uint32_t oldest, uint32_t q,
                                           uint32_t p, uint32_t group, uint32_t *operand)
{
    const QRNN_FLASH qrnn_window *window = &conv->window;
    const uint32_t features = qrnn_window_features(window);
    const uint32_t own = window->channels / conv->groups;
    const uint32_t wide = qrnn_wide_columns(conv);
    uint32_t column = 0U;
    uint32_t step = oldest;

    qrnn_begin_columns(operand);
    if (qrnn_reads_a_band(conv) != 0U) { /* numbers are constants */
        qrnn_put_columns(operand, wide, 0U, &past[qrnn_window_line(window, q, 0U) + qrnn_window_band(window, p, 0U)], conv->columns);
    } else if ((window->lines == 1U) && (window->line_taps == 1U) && (window->bands == 1U) && (window->band_taps == 1U) &&
               (window->dilation == 1U) && (conv->groups == 1U)) {
        column = (window->span - oldest) * features;
        qrnn_put_columns(operand, wide, 0U, &past[oldest * features], column);
        qrnn_put_columns(operand, wide, column, past, oldest * features);
    } else {
        const uint32_t taps = ((window->band_dilation == 1U) && (conv->groups == 1U)) ? window->band_taps : 1U; /* side by side */
        uint32_t low;
        uint32_t high;

        qrnn_window_taps(window, p, &low, &high);
        if ((taps > 1U) && ((high - low) == taps)) { /* most places; the numbers are constants */
            const int16_t *from = &past[qrnn_window_band(window, p, 0U)];

            for (; column < conv->columns; step = qrnn_window_next(window, step)) {
                for (uint32_t a = 0U; a < window->line_taps; a++) {
                    if (qrnn_window_has_line(window, q, a) != 0U) {
                        qrnn_put_columns(operand, wide, column, &from[(step * features) + qrnn_window_line(window, q, a)], taps * own);
                    } else {
                        qrnn_put_zeros(operand, wide, column, taps * own);
                    }
                    column += taps * own;
                }
            }
        } else if (taps > 1U) {
            const int16_t *from = &past[qrnn_window_band(window, p, low)];

            for (; column < conv->columns; step = qrnn_window_next(window, step)) {
                for (uint32_t a = 0U; a < window->line_taps; a++) {
                    const uint32_t end = (qrnn_window_has_line(window, q, a) != 0U) ? high : low;

                    qrnn_put_zeros(operand, wide, column, low * own);
                    if (low < end) {
                        qrnn_put_columns(operand, wide, column + (low * own), &from[(step * features) + qrnn_window_line(window, q, a)],
                                         (end - low) * own);
                    }
                    qrnn_put_zeros(operand, wide, column + (end * own), (taps - end) * own);
                    column += taps * own;
                }
            }
        } else {
            for (; column < conv->columns; step = qrnn_window_next(window, step)) {
                for (uint32_t a = 0U; a < window->line_taps; a++) {
                    const uint32_t end = (qrnn_window_has_line(window, q, a) != 0U) ? high : low;

                    for (uint32_t b = 0U; b < window->band_taps; b++) {
                        if ((b >= low) && (b < end)) {
                            const uint32_t at = qrnn_window_line(window, q, a) + qrnn_window_band(window, p, b) + (group * own);

                            qrnn_put_columns(operand, wide, column, &past[(step * features) + at], own);
                        } else {
                            qrnn_put_zeros(operand, wide, column, own);
                        }
                        column += own;
                    }
                }
            }
        }
    }
    qrnn_end_columns(operand, qrnn_wide_columns(conv), conv->matrix.columns, conv->matrix.four);
}

/* Puts the operands of x, zeros where it is NULL, into the ring `past`, and returns how many rows of y came out, 0 or 1. `operand` is room
 * for the operands of the matrix. */
QRNN_FOR_EACH_LAYER uint32_t qrnn_conv(const QRNN_FLASH qrnn_convolution *conv, const int16_t *x, int16_t *past, int32_t *place, int32_t *phase,
                                       uint32_t *operand, int16_t *y)
{
    const QRNN_FLASH qrnn_window *window = &conv->window;
    const uint32_t features = qrnn_window_features(window);
    const uint32_t blocks = (conv->rows + QRNN_BLOCK_ROWS - 1U) / QRNN_BLOCK_ROWS;
    const uint32_t padded = QRNN_PADDED_COLUMNS(conv);
    const uint32_t one_step = qrnn_reads_a_band(conv);
    const uint32_t one_band = ((window->lines == 1U) && (window->bands == 1U)) ? one_step : 0U;
    uint32_t ended;

    QRNN_PHASE(QRNN_PHASE_WINDOWS);
    (void)one_step;
    (void)one_band;
#if defined(QRNN_KEEPS_COLUMNS)
    if (one_band != 0U) {
        qrnn_keep_columns(x, features, conv->format, past, operand, qrnn_wide_columns(conv));
    } else
#endif
    {
        qrnn_keep_operands(x, features, conv->format, &past[(uint32_t)*place * features]);
    }
    ended = qrnn_window_ends(window, place, phase);
    if (ended != 0U) {
        qrnn_put_zeros(operand, qrnn_wide_columns(conv), conv->columns, padded - conv->columns);
        for (uint32_t k = 0U; k < (window->line_places * window->places); k++) {
            const uint32_t q = (window->line_places == 1U) ? 0U : (k / window->places);
            const uint32_t p = k - (q * window->places);

            for (uint32_t group = 0U; group < conv->groups; group++) {
                const uint32_t *read = operand;

#if defined(QRNN_READS_STEPS)
                const int16_t *const from = &past[qrnn_window_line(window, q, 0U) + qrnn_window_band(window, p, 0U)];

                if ((one_step != 0U) && (padded == conv->columns) && ((conv->rows % QRNN_BLOCK_ROWS) == 0U) &&
                    qrnn_takes_whole_blocks(&conv->matrix) && (((uintptr_t)from % sizeof(uint32_t)) == 0U)) {
                    read = (const uint32_t *)(const void *)from;
                } else
#elif defined(QRNN_KEEPS_COLUMNS)
                if (one_band == 0U)
#endif
                {
                    qrnn_gather_place(conv, past, (uint32_t)*place, q, p, group, operand);
                }
                qrnn_convolve(&conv->matrix, group * blocks, read, conv->rows, y);
                y = &y[conv->rows];
            }
        }
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
    return ended;
}

#endif
