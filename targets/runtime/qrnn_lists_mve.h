/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of lists of tiles (qrnn_lists.h) with a vector of operands, for Arm Helium (Cortex-M55, M85).
 *
 * The number of tiles is a multiple of four: tiles of zeros fill a list up. Four tiles are one vector of 16 columns, whose operands a
 * load gathers by the tiles' numbers. The weights of four tiles are 16 bytes for each row.
 */
#ifndef QRNN_LISTS_MVE_H
#define QRNN_LISTS_MVE_H

#include "qrnn_dot_mve.h"
#include "qrnn_lists.h"

/* The operands of four tiles, as bytes */
static inline int8x16_t qrnn_gather(const int8_t *operand, const uint8_t *number)
{
    const int32_t *const words = (const int32_t *)(const void *)operand;

    return vreinterpretq_s8_s32(vldrwq_gather_shifted_offset_s32(words, vldrbq_u32(number)));
}

#if defined(QRNN_USE_LISTS_OF_TILES)
#if defined(QRNN_USE_NARROW)
static void qrnn_dot4_tiles(const int8_t *list, const uint32_t *operand, const int32_t bias[4], int32_t sums[4])
{
    const uint32_t count = qrnn_list_count(list, 0U);
    const uint8_t *number = (const uint8_t *)&list[2];
    const int8_t *weight = &list[qrnn_list_head(1U, count)];
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];

    for (uint32_t groups = count / 4U; groups != 0U; groups--) {
        const int8x16_t x = qrnn_gather((const int8_t *)operand, number);

        s0 = vmladavaq_s8(s0, vldrbq_s8(weight), x);
        s1 = vmladavaq_s8(s1, vldrbq_s8(&weight[16]), x);
        s2 = vmladavaq_s8(s2, vldrbq_s8(&weight[32]), x);
        s3 = vmladavaq_s8(s3, vldrbq_s8(&weight[48]), x);
        number += 4;
        weight += 64;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#if defined(QRNN_USE_WIDE)
static void qrnn_dot4_tiles_wide(const int8_t *list, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                                 int32_t sums[4])
{
    const int8_t *const high = (const int8_t *)operand;
    const int8_t *const low = &high[QRNN_PLANE(columns)];
    const uint32_t count = qrnn_list_count(list, 0U);
    const uint8_t *number = (const uint8_t *)&list[2];
    const int8_t *weight = &list[qrnn_list_head(1U, count)];
    int32_t of_high[4] = {0, 0, 0, 0};
    int32_t of_low[4] = {0, 0, 0, 0};

    for (uint32_t groups = count / 4U; groups != 0U; groups--) {
        const int8x16_t x = qrnn_gather(high, number);
        const int8x16_t y = qrnn_gather(low, number);

        for (uint32_t row = 0U; row < 4U; row++) {
            const int8x16_t w = vldrbq_s8(weight);

            of_high[row] = vmladavaq_s8(of_high[row], w, x);
            of_low[row] = vmladavaq_s8(of_low[row], w, y);
            weight += 16;
        }
        number += 4;
    }
    for (uint32_t row = 0U; row < 4U; row++) {
        sums[row] = (int32_t)((uint32_t)bias[row] + (uint32_t)of_low[row] + ((uint32_t)of_high[row] << 8));
    }
}
#endif
#endif

#if defined(QRNN_USE_LISTS_OF_ROWS)
/* Of one plane: the sums of the four rows are added to `sums`. */
static void qrnn_add_rows(const int8_t *list, const int8_t *operand, int32_t sums[4])
{
    const uint8_t *number = (const uint8_t *)&list[2U * QRNN_BLOCK_ROWS];
    const int8_t *weight = &list[qrnn_row_lists_head(list)];

    for (uint32_t row = 0U; row < QRNN_BLOCK_ROWS; row++) {
        int32_t sum = sums[row];

        for (uint32_t groups = qrnn_list_count(list, row) / 4U; groups != 0U; groups--) {
            sum = vmladavaq_s8(sum, vldrbq_s8(weight), qrnn_gather(operand, number));
            number += 4;
            weight += 16;
        }
        sums[row] = sum;
    }
}

#if defined(QRNN_USE_NARROW)
static void qrnn_dot4_rows(const int8_t *list, const uint32_t *operand, const int32_t bias[4], int32_t sums[4])
{
    for (uint32_t row = 0U; row < QRNN_BLOCK_ROWS; row++) {
        sums[row] = bias[row];
    }
    qrnn_add_rows(list, (const int8_t *)operand, sums);
}
#endif

#if defined(QRNN_USE_WIDE)
static void qrnn_dot4_rows_wide(const int8_t *list, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                                 int32_t sums[4])
{
    const int8_t *const high = (const int8_t *)operand;

    for (uint32_t row = 0U; row < QRNN_BLOCK_ROWS; row++) {
        sums[row] = 0;
    }
    qrnn_add_rows(list, high, sums);
    for (uint32_t row = 0U; row < QRNN_BLOCK_ROWS; row++) {
        sums[row] = (int32_t)((uint32_t)bias[row] + ((uint32_t)sums[row] << 8));
    }
    qrnn_add_rows(list, &high[QRNN_PLANE(columns)], sums);
}
#endif
#endif

#endif
