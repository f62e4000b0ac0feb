/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of four rows that have lists of their tiles of four columns whose weights are not all zero. A tile that is left out adds zero.
 *
 * The array of weights begins with a word for each block, the place of its first word in the array. From there on stand
 *     QRNN_LISTS_OF_TILES   how many tiles the block has, as a halfword; the number of each, its column / 4, as a byte; its weights,
 *                           four rows of four columns
 *     QRNN_LISTS_OF_ROWS    how many tiles each of the four rows has, as halfwords; the numbers of each row's, as bytes; their weights, four
 *                           columns of one row
 * A list of tiles has at least one. The weights follow from the next word on, laid out as qrnn_lists_….h of the target reads them.
 */
#ifndef QRNN_LISTS_H
#define QRNN_LISTS_H

#include "qrnn_types.h"

/* The bytes before the weights of a block: `counts` halfwords and `tiles` bytes, filled up to words. */
static inline uint32_t qrnn_list_head(uint32_t counts, uint32_t tiles)
{
    return ((2U * counts) + tiles + 3U) & ~UINT32_C(3);
}

static inline uint32_t qrnn_list_count(const QRNN_FLASH int8_t *list, uint32_t k)
{
    uint16_t count;

    QRNN_COPY_CONSTANT(&count, &list[2U * k], sizeof count);
    return count;
}

#if defined(QRNN_USE_LISTS_OF_ROWS)
/* The bytes before the weights of a block whose rows have lists of their own */
static inline uint32_t qrnn_row_lists_head(const QRNN_FLASH int8_t *list)
{
    uint32_t tiles = 0U;

    for (uint32_t row = 0U; row < QRNN_BLOCK_ROWS; row++) {
        tiles += qrnn_list_count(list, row);
    }
    return qrnn_list_head(QRNN_BLOCK_ROWS, tiles);
}
#endif

#endif
