/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of lists of tiles (qrnn_lists.h) with a vector of operands, in C99 for any processor.
 *
 * A tile of four rows has a word for each column, as in qrnn_dot_plain.h. What its bytes u = w + 128 add too much is 128 times the sum of
 * the operands of the listed columns. A tile of one row has its four weights in the order of the columns.
 */
#ifndef QRNN_LISTS_PLAIN_H
#define QRNN_LISTS_PLAIN_H

#include "qrnn_dot_plain.h"
#include "qrnn_lists.h"

#if defined(QRNN_USE_LISTS_OF_TILES)
#define QRNN_LIST_COLUMN(operand_of, k)                    \
    {                                                      \
        const uint32_t x = operand_of(column, k);          \
        const int32_t word = (int32_t)words[k];            \
        sum += x;                                          \
        p0 += (uint32_t)word * x;                          \
        p1 += (uint32_t)(word >> 8) * x;                   \
        p2 += (uint32_t)(word >> 16) * x;                  \
        p3 += (uint32_t)(word >> 24) * x;                  \
    }

/* See QRNN_DOT_OF of qrnn_dot_plain.h: modulo 2^32, R2 = p2 - 2^8 p3, R1 = p1 - 2^8 p2, R0 = p0 - 2^8 p1. */
#define QRNN_TILES_OF(name, width, operand_of)                                                                       \
    static void name(const QRNN_FLASH int8_t *list, const uint32_t *operand, const QRNN_FLASH int32_t bias[4], int32_t sums[4]) \
    {                                                                                                                \
        const uint8_t *const byte = operand_of##s(operand);                                                          \
        const uint32_t count = qrnn_list_count(list, 0U);                                                            \
        const QRNN_FLASH uint8_t *number = (const QRNN_FLASH uint8_t *)&list[2];                                     \
        const QRNN_FLASH uint8_t *const end = &number[count];                                                        \
        /* as which they are stored */                                                                               \
        const QRNN_FLASH uint32_t *words = (const QRNN_FLASH uint32_t *)(const QRNN_FLASH void *)&list[qrnn_list_head(1U, count)]; \
        uint32_t sum = 0;                                                                                            \
        uint32_t p0 = 0;                                                                                             \
        uint32_t p1 = 0;                                                                                             \
        uint32_t p2 = 0;                                                                                             \
        uint32_t p3 = 0;                                                                                             \
                                                                                                                     \
        for (; number != end; number++) {                                                                            \
            const uint8_t *const column = &byte[4U * (width) * (uint32_t)*number];                                   \
                                                                                                                     \
            QRNN_LIST_COLUMN(operand_of, 0)                                                                          \
            QRNN_LIST_COLUMN(operand_of, 1)                                                                          \
            QRNN_LIST_COLUMN(operand_of, 2)                                                                          \
            QRNN_LIST_COLUMN(operand_of, 3)                                                                          \
            words += 4;                                                                                              \
        }                                                                                                            \
        sum *= 128U;                                                                                                 \
        sums[0] = (int32_t)((uint32_t)bias[0] + p0 - (p1 << 8) - sum);                                               \
        sums[1] = (int32_t)((uint32_t)bias[1] + p1 - (p2 << 8) - sum);                                               \
        sums[2] = (int32_t)((uint32_t)bias[2] + p2 - (p3 << 8) - sum);                                               \
        sums[3] = (int32_t)((uint32_t)bias[3] + p3);                                                                 \
    }
#if defined(QRNN_USE_NARROW)
QRNN_TILES_OF(qrnn_dot4_tiles, QRNN_NARROW_WIDTH, qrnn_narrow_operand)
#endif
#if defined(QRNN_USE_WIDE)
QRNN_TILES_OF(qrnn_dot4_tiles_of_16, 2U, qrnn_wide_operand)
#endif
#define qrnn_dot4_tiles_wide(list, operand, columns, bias, sums) qrnn_dot4_tiles_of_16((list), (operand), (bias), (sums))
#endif

#if defined(QRNN_USE_LISTS_OF_ROWS)
#define QRNN_ROWS_OF(name, width, operand_of)                                                                        \
    static void name(const QRNN_FLASH int8_t *list, const uint32_t *operand, const QRNN_FLASH int32_t bias[4], int32_t sums[4]) \
    {                                                                                                                \
        const uint8_t *const byte = operand_of##s(operand);                                                          \
        const QRNN_FLASH uint8_t *number = (const QRNN_FLASH uint8_t *)&list[2U * QRNN_BLOCK_ROWS];                  \
        const QRNN_FLASH int8_t *weight = &list[qrnn_row_lists_head(list)];                                          \
                                                                                                                     \
        for (uint32_t row = 0U; row < QRNN_BLOCK_ROWS; row++) {                                                      \
            const QRNN_FLASH uint8_t *const end = &number[qrnn_list_count(list, row)];                               \
            uint32_t sum = (uint32_t)bias[row];                                                                      \
                                                                                                                     \
            for (; number != end; number++) {                                                                        \
                const uint8_t *const x = &byte[4U * (width) * (uint32_t)*number];                                    \
                                                                                                                     \
                sum += ((uint32_t)(int32_t)weight[0] * operand_of(x, 0U)) + ((uint32_t)(int32_t)weight[1] * operand_of(x, 1U)) + \
                       ((uint32_t)(int32_t)weight[2] * operand_of(x, 2U)) + ((uint32_t)(int32_t)weight[3] * operand_of(x, 3U)); \
                weight += 4;                                                                                         \
            }                                                                                                        \
            sums[row] = (int32_t)sum;                                                                                \
        }                                                                                                            \
    }
#if defined(QRNN_USE_NARROW)
QRNN_ROWS_OF(qrnn_dot4_rows, QRNN_NARROW_WIDTH, qrnn_narrow_operand)
#endif
#if defined(QRNN_USE_WIDE)
QRNN_ROWS_OF(qrnn_dot4_rows_of_16, 2U, qrnn_wide_operand)
#endif
#define qrnn_dot4_rows_wide(list, operand, columns, bias, sums) qrnn_dot4_rows_of_16((list), (operand), (bias), (sums))
#endif

#endif
