/* SPDX-License-Identifier: Apache-2.0 */
/* A dense layer, section 5 of docs/arithmetic.md; also the linear part of a projection. */
#ifndef QRNN_DENSE_H
#define QRNN_DENSE_H

#include "qrnn_matrix.h"

#if defined(QRNN_HAS_ROWS)
#define QRNN_DENSE_BLOCKS 4U /* which share their loads of operands */
#else
#define QRNN_DENSE_BLOCKS 1U
#endif

/* y[r] = saturate16_shifted(requantize(sum over k of weight[r, k] * x[k] + bias[r]), pre_shift[r]), of `rows` rows */
static void qrnn_dense(const QRNN_FLASH qrnn_matrix *matrix, const uint32_t *x, uint32_t rows, int16_t *y)
{
    int32_t sums[QRNN_DENSE_BLOCKS][QRNN_BLOCK_ROWS];

    for (uint32_t first = 0U; first < rows; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = rows - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;
#if QRNN_DENSE_BLOCKS == 1U
        const uint32_t block = 0U;

        qrnn_rows(matrix, first / QRNN_BLOCK_ROWS, 1U, x, sums);
#else
        const uint32_t block = (first / QRNN_BLOCK_ROWS) % QRNN_DENSE_BLOCKS;
        const uint32_t left = (rest + QRNN_BLOCK_ROWS - 1U) / QRNN_BLOCK_ROWS;

        if (block == 0U) {
            qrnn_rows(matrix, first / QRNN_BLOCK_ROWS, (left < QRNN_DENSE_BLOCKS) ? left : QRNN_DENSE_BLOCKS, x, sums);
        }
#endif
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const qrnn_lanes sum = qrnn_lanes_of(&sums[block][k]);
            qrnn_lanes_write16(&y[first + k], qrnn_lanes_saturate16(qrnn_to_argument(matrix, first + k, sum)), count);
        }
    }
}

#endif
