/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products of lists of tiles (qrnn_lists.h) with a vector of operands, for the Arm DSP extension (Cortex-M4, M7, M33).
 *
 * A tile of four rows has the words of qrnn_dot_dsp.h: two columns by two columns, rows 0 and 1, then rows 2 and 3. A tile of one row has
 * its weights in the order w0, w2, w1, w3, so that SXTB16 gives two columns as halfwords, and eight bits further on the other two.
 */
#ifndef QRNN_LISTS_DSP_H
#define QRNN_LISTS_DSP_H

#include "qrnn_dot_dsp.h"
#include "qrnn_lists.h"

#if defined(QRNN_USE_LISTS_OF_TILES)
#if defined(QRNN_USE_NARROW)
#ifdef QRNN_SHORT_ROWS /* no row of the model has more than 256 columns */
#define QRNN_LIST_CHUNK 0xFFFFFFFFU
#else
#define QRNN_LIST_CHUNK 128U /* tiles: in 512 columns |S| < 2^23, see qrnn_dot4 */
#endif
#ifdef QRNN_DSP_ASSEMBLY
#ifdef __clang__ /* It keeps more registers for itself: a word of weights at a time. */
#define QRNN_LIST_CLOBBERS "r4", "r8", "r10"
#define QRNN_LIST_WORD(both, low, x)                                                                                 \
    "ldr r8, [%[weight]], #4\n\t" QRNN_SMLAD(both, "r8", x) "sxtb16 r8, r8\n\t" QRNN_SMLAD(low, "r8", x)
#define QRNN_LIST_TILE                                                                                               \
    "ldrb r4, [%[number]], #1\n\tadd r4, %[operand], r4, lsl #3\n\tldrd r4, r10, [r4]\n\t"                          \
    QRNN_LIST_WORD("both0", "low0", "r4") QRNN_LIST_WORD("both2", "low2", "r4")                                      \
    QRNN_LIST_WORD("both0", "low0", "r10") QRNN_LIST_WORD("both2", "low2", "r10")
#else /* A number, the operands of its columns, and two words of weights twice */
#define QRNN_LIST_CLOBBERS "r4", "r8", "r10", "r12"
#define QRNN_LIST_TILE                                                                                               \
    "ldrb r4, [%[number]], #1\n\tldrd r8, r12, [%[weight]], #8\n\tadd r4, %[operand], r4, lsl #3\n\t"                 \
    "ldrd r4, r10, [r4]\n\t" QRNN_TWO_COLUMNS(QRNN_SMLAD, "r8", "r12", "r4")                                         \
    "ldrd r8, r12, [%[weight]], #8\n\t" QRNN_TWO_COLUMNS(QRNN_SMLAD, "r8", "r12", "r10")
#endif
#ifdef __OPTIMIZE_SIZE__
#define QRNN_LIST_LOOP "1:\n\t" QRNN_LIST_TILE "subs %[chunk], %[chunk], #1\n\tbgt 1b"
#else /* two tiles at a time, of which the first pass does one where their number is odd */
#define QRNN_LIST_LOOP                                                                                               \
    "tst %[chunk], #1\n\tbne 2f\n1:\n\t" QRNN_LIST_TILE "2:\n\t" QRNN_LIST_TILE "subs %[chunk], %[chunk], #2\n\tbgt 1b"
#endif
#endif

QRNN_DOT void qrnn_dot4_tiles(const int8_t *list, const uint32_t *operand, const int32_t bias[4], int32_t sums[4])
{
    uint32_t count = qrnn_list_count(list, 0U);
    const uint8_t *number = (const uint8_t *)&list[2];
    const int8_t *weight = &list[qrnn_list_head(1U, count)];

    do {
        uint32_t chunk = (count < QRNN_LIST_CHUNK) ? count : QRNN_LIST_CHUNK;
        int32_t low0 = bias[0];
        int32_t low2 = bias[2];
        int32_t both0 = low0;
        int32_t both2 = low2;

        count -= chunk;
#ifdef QRNN_DSP_ASSEMBLY
        __asm__(QRNN_LIST_LOOP
                : [weight] "+r"(weight), [number] "+r"(number), [chunk] "+r"(chunk), [both0] "+r"(both0), [both2] "+r"(both2),
                  [low0] "+r"(low0), [low2] "+r"(low2)
                : [operand] "r"(operand)
                : QRNN_LIST_CLOBBERS, "cc", "memory");
#else
        for (; chunk != 0U; chunk--) {
            const uint32_t *const x = &operand[2U * (uint32_t)*number];

            for (uint32_t k = 0U; k < 2U; k++) {
                int32_t word[2];

                QRNN_COPY(word, weight, sizeof word);
                weight += sizeof word;
                both0 = __smlad(word[0], (int32_t)x[k], both0);
                low0 = __smlad(__sxtb16(word[0]), (int32_t)x[k], low0);
                both2 = __smlad(word[1], (int32_t)x[k], both2);
                low2 = __smlad(__sxtb16(word[1]), (int32_t)x[k], low2);
            }
            number++;
        }
#endif
        sums[0] = low0;
        sums[1] = bias[1] + ((int32_t)((uint32_t)both0 - (uint32_t)low0) >> 8);
        sums[2] = low2;
        sums[3] = bias[3] + ((int32_t)((uint32_t)both2 - (uint32_t)low2) >> 8);
        bias = sums;
    } while (count != 0U);
}
#endif

#if defined(QRNN_USE_WIDE)
/* Here both takes 64 bits, as in qrnn_dot4_wide. */
QRNN_DOT void qrnn_dot4_tiles_wide(const int8_t *list, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                                   int32_t sums[4])
{
    const uint32_t count = qrnn_list_count(list, 0U);
    const uint8_t *number = (const uint8_t *)&list[2];
    const uint8_t *const end = &number[count];
    const int8_t *weight = &list[qrnn_list_head(1U, count)];
    int32_t low0 = bias[0];
    int32_t low2 = bias[2];
    int64_t both0 = low0;
    int64_t both2 = low2;

    (void)columns;
    for (; number != end; number++) {
        const uint32_t *const x = &operand[2U * (uint32_t)*number];

        for (uint32_t k = 0U; k < 2U; k++) {
            int32_t word[2];

            QRNN_COPY(word, weight, sizeof word);
            weight += sizeof word;
            both0 = __smlald(word[0], (int32_t)x[k], both0);
            low0 = __smlad(__sxtb16(word[0]), (int32_t)x[k], low0);
            both2 = __smlald(word[1], (int32_t)x[k], both2);
            low2 = __smlad(__sxtb16(word[1]), (int32_t)x[k], low2);
        }
    }
    sums[0] = low0;
    sums[1] = bias[1] + (int32_t)((both0 - low0) >> 8);
    sums[2] = low2;
    sums[3] = bias[3] + (int32_t)((both2 - low2) >> 8);
}
#endif
#endif

#if defined(QRNN_USE_LISTS_OF_ROWS)
static inline int32_t qrnn_row_tile(int32_t word, const uint32_t *x, int32_t sum)
{
    const int32_t turned = (int32_t)(((uint32_t)word >> 8) | ((uint32_t)word << 24));

    return __smlad(__sxtb16(turned), (int32_t)x[1], __smlad(__sxtb16(word), (int32_t)x[0], sum));
}

QRNN_DOT void qrnn_dot4_rows(const int8_t *list, const uint32_t *operand, const int32_t bias[4], int32_t sums[4])
{
    const uint8_t *number = (const uint8_t *)&list[2U * QRNN_BLOCK_ROWS];
    const int8_t *weight = &list[qrnn_row_lists_head(list)];

    for (uint32_t row = 0U; row < QRNN_BLOCK_ROWS; row++) {
        const uint8_t *const end = &number[qrnn_list_count(list, row)];
        int32_t sum = bias[row];

        for (; number != end; number++) {
            int32_t word;

            QRNN_COPY(&word, weight, sizeof word);
            weight += sizeof word;
            sum = qrnn_row_tile(word, &operand[2U * (uint32_t)*number], sum);
        }
        sums[row] = sum;
    }
}
#define qrnn_dot4_rows_wide(list, operand, columns, bias, sums) qrnn_dot4_rows((list), (operand), (bias), (sums))
#endif

#endif
