/*
 * Dot products of four rows with a vector of operands, for the Arm DSP extension (Cortex-M4, M7, M33).
 *
 * Weights: two columns by two columns, for rows 0 and 1, then for rows 2 and 3, a word a0 b0 a1 b1, with a_k = w[r][k] and
 * b_k = w[r + 1][k], less 1 where a_k < 0. So its signed halfwords are h_k = 256 w[r + 1][k] + w[r][k]: two rows in one number.
 *
 * Operands: two columns to a word, as signed halfwords, for 8 and for 16 bits.
 *
 * Two rows and two columns are three instructions, beside the load:
 *     both += h_0 x_0 + h_1 x_1        SMLAD, SMLALD       both = 256 S[r + 1] + S[r]
 *     low  += a_0 x_0 + a_1 x_1        SXTB16, SMLAD       low = S[r], so that S[r + 1] = (both - low) / 256 exactly
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <arm_acle.h>
#include <stdint.h>
#include "qrnn_types.h"

#define QRNN_COLUMNS 8u
#define QRNN_OPERAND_WORDS(columns) ((columns) / 2u)
#define QRNN_WIDE_OPERAND_WORDS(columns) ((columns) / 2u)

/* Two of clamp((v + 2^(shift - 1)) >> shift, -limit, limit). What is clamped fits 16 bits: for shift 0 it is v, else at most 2^14.
 * min(v, limit) is (v + up) - up where the sum saturates at 32767 = limit + up, and max(v, -limit) likewise. */
static inline uint32_t qrnn_operands(int32_t low, int32_t high, uint32_t shift, int32_t limit)
{
    const int32_t rounding = (1 << shift) >> 1;
    const int32_t up = (32767 - limit) * 0x10001;
    const int32_t down = (32768 - limit) * 0x10001;
    uint32_t pair = (uint32_t)((low + rounding) >> shift) & 0xFFFFu;
    pair |= (uint32_t)((high + rounding) >> shift) << 16;
    return (uint32_t)__qadd16(__qsub16(__qsub16(__qadd16((int32_t)pair, up), up), down), down);
}

static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    const int16_t *const end = values + count / 2u * 2u;
    uint32_t padding = QRNN_OPERAND_WORDS((0u - count) % QRNN_COLUMNS);
    while (values != end) {
        *operand++ = qrnn_operands(values[0], values[1], shift, limit);
        values += 2;
    }
    if ((count & 1u) != 0u) {
        *operand++ = qrnn_operands(values[0], 0, shift, limit);
    }
    for (; padding != 0u; padding--) {
        *operand++ = 0;
    }
}

#ifdef QRNN_USE_WIDE
#define qrnn_encode_wide qrnn_encode
#endif

/* The loops are assembly where the compiler takes GNU C's: from the C beside them it makes 70 % more instructions, since it does
 * not load four words by one instruction. QRNN_NO_ASSEMBLY leaves it to the compiler. */
#if defined(__GNUC__) && defined(__arm__) && !defined(QRNN_NO_ASSEMBLY)
#define QRNN_ASSEMBLY
#define QRNN_SMLAD(both, word, x) "smlad %[" both "], " word ", %[" x "], %[" both "]\n\t"
#define QRNN_SMLALD(both, word, x) "smlald %Q[" both "], %R[" both "], " word ", %[" x "]\n\t"
#define QRNN_ROWS(mac, both, low, word, x) mac(both, word, x) "sxtb16 " word ", " word "\n\t" QRNN_SMLAD(low, word, x)
#endif

#ifdef QRNN_USE_NARROW
/* |S| <= 512 * 127 * 127 < 2^23 in a chunk of columns: 256 S[r + 1] + S[r] is computed modulo 2^32, its first term is an int32. */
#ifdef QRNN_SHORT_ROWS /* no row of the model has more than 256 columns */
#define QRNN_CHUNK 0xFFFFFFFFu
#else
#define QRNN_CHUNK 512u
#endif

#ifdef QRNN_ASSEMBLY
#define QRNN_FOUR_COLUMNS                                                                                            \
    "ldmia %[weight]!, {r4, r5, r6, r8}\n\t"                                                                         \
    "ldrd %[x0], %[x1], [%[operand]], #8\n\t"                                                                        \
    QRNN_ROWS(QRNN_SMLAD, "both0", "low0", "r4", "x0") QRNN_ROWS(QRNN_SMLAD, "both2", "low2", "r5", "x0")            \
    QRNN_ROWS(QRNN_SMLAD, "both0", "low0", "r6", "x1") QRNN_ROWS(QRNN_SMLAD, "both2", "low2", "r8", "x1")
#endif

static void qrnn_dot4(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                      int32_t sums[4])
{
    do {
        uint32_t chunk = columns < QRNN_CHUNK ? columns : QRNN_CHUNK;
        int32_t low0 = bias[0];
        int32_t low2 = bias[2];
        int32_t both0 = low0;
        int32_t both2 = low2;
        columns -= chunk;
#ifdef QRNN_ASSEMBLY
        uint32_t x0;
        uint32_t x1;
        __asm__("1:\n\t" QRNN_FOUR_COLUMNS QRNN_FOUR_COLUMNS "subs %[chunk], %[chunk], #8\n\tbne 1b"
                : [weight] "+r"(weight), [operand] "+r"(operand), [chunk] "+r"(chunk), [both0] "+r"(both0),
                  [both2] "+r"(both2), [low0] "+r"(low0), [low2] "+r"(low2), [x0] "=&r"(x0), [x1] "=&r"(x1)
                :
                : "r4", "r5", "r6", "r8", "cc", "memory");
#else
        for (; chunk != 0u; chunk -= 2u) {
            const int32_t x = (int32_t)*operand++;
            int32_t word[2];
            QRNN_COPY(word, weight, sizeof word);
            weight += sizeof word;
            both0 = __smlad(word[0], x, both0);
            low0 = __smlad(__sxtb16(word[0]), x, low0);
            both2 = __smlad(word[1], x, both2);
            low2 = __smlad(__sxtb16(word[1]), x, low2);
        }
#endif
        sums[0] = low0;
        sums[1] = bias[1] + ((int32_t)((uint32_t)both0 - (uint32_t)low0) >> 8);
        sums[2] = low2;
        sums[3] = bias[3] + ((int32_t)((uint32_t)both2 - (uint32_t)low2) >> 8);
        bias = sums;
    } while (columns != 0u);
}
#endif

#ifdef QRNN_USE_WIDE
/* Here both takes 64 bits: |both| <= 257 * 2^31. */
#ifdef QRNN_ASSEMBLY
#define QRNN_FOUR_COLUMNS_WIDE                                                                                       \
    "ldrd %[x0], %[x1], [%[operand]], #8\n\t"                                                                        \
    "ldmia %[weight]!, {r4, r5}\n\t"                                                                                 \
    QRNN_ROWS(QRNN_SMLALD, "both0", "low0", "r4", "x0") QRNN_ROWS(QRNN_SMLALD, "both2", "low2", "r5", "x0")          \
    "ldmia %[weight]!, {r4, r5}\n\t"                                                                                 \
    QRNN_ROWS(QRNN_SMLALD, "both0", "low0", "r4", "x1") QRNN_ROWS(QRNN_SMLALD, "both2", "low2", "r5", "x1")
#endif

static void qrnn_dot4_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                           int32_t sums[4])
{
    int32_t low0 = bias[0];
    int32_t low2 = bias[2];
    int64_t both0 = low0;
    int64_t both2 = low2;
#ifdef QRNN_ASSEMBLY
    uint32_t x0;
    uint32_t x1;
    __asm__("1:\n\t" QRNN_FOUR_COLUMNS_WIDE QRNN_FOUR_COLUMNS_WIDE "subs %[columns], %[columns], #8\n\tbne 1b"
            : [weight] "+r"(weight), [operand] "+r"(operand), [columns] "+r"(columns), [both0] "+r"(both0),
              [both2] "+r"(both2), [low0] "+r"(low0), [low2] "+r"(low2), [x0] "=&r"(x0), [x1] "=&r"(x1)
            :
            : "r4", "r5", "cc", "memory");
#else
    for (; columns != 0u; columns -= 2u) {
        const int32_t x = (int32_t)*operand++;
        int32_t word[2];
        QRNN_COPY(word, weight, sizeof word);
        weight += sizeof word;
        both0 = __smlald(word[0], x, both0);
        low0 = __smlad(__sxtb16(word[0]), x, low0);
        both2 = __smlald(word[1], x, both2);
        low2 = __smlad(__sxtb16(word[1]), x, low2);
    }
#endif
    sums[0] = low0;
    sums[1] = bias[1] + (int32_t)((both0 - low0) >> 8);
    sums[2] = low2;
    sums[3] = bias[3] + (int32_t)((both2 - low2) >> 8);
}
#endif

#endif
