/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dot products of four rows with a vector of operands, for AVR cores with a multiplier, which has 8 by 8 bits.
 *
 * Both factors are made positive, so that a product needs no sign: for x' = x + a, a = 128 or, of 16 bits, 32768,
 *     sum of w x = sum of (w + 128) x' - 128 (sum of x) - a (sum of w) - 128 a (number of columns)
 * where the last two are in the biases. Weights: column by column, four bytes w + 128. Operands: a word with 128 times the sum of x, modulo
 * 2^32; then a byte x + 128 or a halfword x + 32768 for each. Weights of four bits: see qrnn_dot4_four.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <stdint.h>
#include "qrnn_contract.h"

#define QRNN_COLUMNS 4u
#ifdef QRNN_USE_FOUR
#define QRNN_PADDED 32u /* operands are padded with zeros to a multiple of this */
#else
#define QRNN_PADDED QRNN_COLUMNS
#endif
#define QRNN_OPERAND_WORDS(columns) (1u + ((columns) + QRNN_PADDED - 1u) / QRNN_PADDED * QRNN_PADDED / 4u)
#define QRNN_WIDE_OPERAND_WORDS(columns) (1u + ((columns) + QRNN_PADDED - 1u) / QRNN_PADDED * QRNN_PADDED / 2u)

#if defined(QRNN_USE_NARROW) || defined(QRNN_USE_FOUR_NARROW)
/* to_operand(v_k, shift, limit) of every k */
static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    uint8_t *to = (uint8_t *)&operand[1];
    uint16_t left = (uint16_t)count;
    int32_t sum = 0;
    for (; left != 0u; left--) {
        const int16_t x = (int16_t)qrnn_to_operand(*values++, shift, limit);
        *to++ = (uint8_t)(x + 128);
        sum += x;
    }
    for (left = (uint16_t)count; left % QRNN_PADDED != 0u; left++) {
        *to++ = 128u;
    }
    operand[0] = (uint32_t)sum * 128u;
}
#endif

#if defined(QRNN_USE_WIDE) || defined(QRNN_USE_FOUR_WIDE)
static void qrnn_encode_wide(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    uint16_t *to = (uint16_t *)&operand[1];
    uint16_t left = (uint16_t)count;
    int32_t sum = 0;
    for (; left != 0u; left--) {
        const int16_t x = (int16_t)qrnn_to_operand(*values++, shift, limit);
        *to++ = (uint16_t)((uint16_t)x ^ 0x8000u);
        sum += x;
    }
    for (left = (uint16_t)count; left % QRNN_PADDED != 0u; left++) {
        *to++ = 0x8000u;
    }
    operand[0] = (uint32_t)sum * 128u;
}
#endif

/* Constants are in flash with GNU's dialect of C, else in RAM. */
#ifdef __FLASH
#define QRNN_NEXT_WEIGHT "lpm %[w], Z+\n\t"
#else
#define QRNN_NEXT_WEIGHT "ld %[w], Z+\n\t"
#endif

#ifdef QRNN_USE_NARROW
/* A chunk of columns whose sums fit 24 bits: 256 * 255 * 255 < 2^24. */
#define QRNN_CHUNK 256u

QRNN_APART void qrnn_dot4(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns,
                          const QRNN_FLASH int32_t bias[4], int32_t sums[4])
{
    const uint8_t *x = (const uint8_t *)&operand[1];
    uint16_t left = (uint16_t)columns;
    sums[0] = (int32_t)((uint32_t)bias[0] - operand[0]);
    sums[1] = (int32_t)((uint32_t)bias[1] - operand[0]);
    sums[2] = (int32_t)((uint32_t)bias[2] - operand[0]);
    sums[3] = (int32_t)((uint32_t)bias[3] - operand[0]);
    do {
        const uint16_t chunk = (left < QRNN_CHUNK) ? left : QRNN_CHUNK;
        uint32_t p0 = 0;
        uint32_t p1 = 0;
        uint32_t p2 = 0;
        uint32_t p3 = 0;
        left -= chunk;
#ifdef QRNN_AVR_ASSEMBLY
        register const uint8_t *next __asm__("r26") = x; /* X, which a compiler that is short of registers may else give away */
        uint8_t fours = (uint8_t)(chunk / 4u);
        uint8_t w;
        uint8_t factor;
#define QRNN_PART(sum)                                                                                               \
    QRNN_NEXT_WEIGHT "mul %[w], %[x]\n\tadd %A[" sum "], r0\n\tadc %B[" sum "], r1\n\tadc %C[" sum "], %[zero]\n\t"
#define QRNN_COLUMN "ld %[x], X+\n\t" QRNN_PART("p0") QRNN_PART("p1") QRNN_PART("p2") QRNN_PART("p3")
        __asm__ volatile("1:\n\t" QRNN_COLUMN QRNN_COLUMN QRNN_COLUMN QRNN_COLUMN "dec %[n]\n\tbreq 2f\n\trjmp 1b\n2:\tclr r1"
                         : "+x"(next), [weight] "+z"(weight), [n] "+r"(fours), [p0] "+r"(p0), [p1] "+r"(p1), [p2] "+r"(p2),
                           [p3] "+r"(p3), [w] "=&r"(w), [x] "=&r"(factor)
                         : [zero] "r"((uint8_t)0)
                         : "r0", "memory");
        x = next;
#else
        for (uint16_t k = 0; k < chunk; k++) {
            const uint8_t factor = *x++;
            p0 += (uint16_t)((uint16_t)(uint8_t)weight[0] * factor);
            p1 += (uint16_t)((uint16_t)(uint8_t)weight[1] * factor);
            p2 += (uint16_t)((uint16_t)(uint8_t)weight[2] * factor);
            p3 += (uint16_t)((uint16_t)(uint8_t)weight[3] * factor);
            weight += 4;
        }
#endif
        sums[0] = (int32_t)((uint32_t)sums[0] + p0);
        sums[1] = (int32_t)((uint32_t)sums[1] + p1);
        sums[2] = (int32_t)((uint32_t)sums[2] + p2);
        sums[3] = (int32_t)((uint32_t)sums[3] + p3);
    } while (left != 0u);
}
#endif

#ifdef QRNN_USE_WIDE
/* Modulo 2^32, as all sums are. */
QRNN_APART void qrnn_dot4_wide(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns,
                               const QRNN_FLASH int32_t bias[4], int32_t sums[4])
{
    const uint16_t *x = (const uint16_t *)&operand[1];
    uint32_t p0 = (uint32_t)bias[0] - operand[0];
    uint32_t p1 = (uint32_t)bias[1] - operand[0];
    uint32_t p2 = (uint32_t)bias[2] - operand[0];
    uint32_t p3 = (uint32_t)bias[3] - operand[0];
#ifdef QRNN_AVR_ASSEMBLY
    register const uint16_t *next __asm__("r26") = x; /* X and r25:r24, as above */
    register uint16_t n __asm__("r24") = (uint16_t)columns;
    uint8_t w;
    uint8_t low;
    uint8_t high;
#define QRNN_WIDE_PART(sum)                                                                                          \
    QRNN_NEXT_WEIGHT "mul %[w], %[low]\n\tadd %A[" sum "], r0\n\tadc %B[" sum "], r1\n\tadc %C[" sum "], %[zero]\n\t"   \
                     "adc %D[" sum "], %[zero]\n\tmul %[w], %[high]\n\tadd %B[" sum "], r0\n\tadc %C[" sum             \
                     "], r1\n\tadc %D[" sum "], %[zero]\n\t"
    __asm__ volatile("1:\n\tld %[low], X+\n\tld %[high], X+\n\t" QRNN_WIDE_PART("p0") QRNN_WIDE_PART("p1") QRNN_WIDE_PART("p2")
                         QRNN_WIDE_PART("p3") "sbiw %[n], 1\n\tbreq 2f\n\trjmp 1b\n2:\tclr r1"
                     : "+x"(next), [weight] "+z"(weight), [n] "+w"(n), [p0] "+r"(p0), [p1] "+r"(p1), [p2] "+r"(p2), [p3] "+r"(p3),
                       [w] "=&r"(w), [low] "=&r"(low), [high] "=&r"(high)
                     : [zero] "r"((uint8_t)0)
                     : "r0", "memory");
#else
    for (uint16_t k = (uint16_t)columns; k != 0u; k--) {
        const uint32_t factor = *x++;
        p0 += (uint8_t)weight[0] * factor;
        p1 += (uint8_t)weight[1] * factor;
        p2 += (uint8_t)weight[2] * factor;
        p3 += (uint8_t)weight[3] * factor;
        weight += 4;
    }
#endif
    sums[0] = (int32_t)p0;
    sums[1] = (int32_t)p1;
    sums[2] = (int32_t)p2;
    sums[3] = (int32_t)p3;
}
#endif

/* Weights of four bits: of each 32 columns the scales of the four rows, a byte each; then two bytes for a column, u0, u1, u2 and u3 from the
 * lowest four bits on, u = q + 8. What that adds to the sums is 8 times the operands' sum. */
#ifdef QRNN_USE_FOUR_NARROW
/* Modulo 2^16: |S| <= 32 * 8 * 127 < 2^15 */
QRNN_APART void qrnn_dot4_four(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns,
                               const QRNN_FLASH int32_t bias[4], int32_t sums[4])
{
    const uint8_t *x = (const uint8_t *)&operand[1];
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    for (uint16_t left = (uint16_t)columns; left != 0u; left = (uint16_t)(left - 32u)) {
        const QRNN_FLASH int8_t *scale = weight;
        uint16_t p0 = 0;
        uint16_t p1 = 0;
        uint16_t p2 = 0;
        uint16_t p3 = 0;
        weight += 4;
        for (uint8_t k = 32; k != 0u; k--) {
            const int8_t factor = (int8_t)(*x++ ^ 0x80u);
            const uint8_t low = (uint8_t)weight[0];
            const uint8_t high = (uint8_t)weight[1];
            p0 = (uint16_t)(p0 + (uint16_t)((int16_t)((low & 15u) - 8) * factor));
            p1 = (uint16_t)(p1 + (uint16_t)((int16_t)((low >> 4) - 8) * factor));
            p2 = (uint16_t)(p2 + (uint16_t)((int16_t)((high & 15u) - 8) * factor));
            p3 = (uint16_t)(p3 + (uint16_t)((int16_t)((high >> 4) - 8) * factor));
            weight += 2;
        }
        s0 += (int32_t)scale[0] * (int16_t)p0;
        s1 += (int32_t)scale[1] * (int16_t)p1;
        s2 += (int32_t)scale[2] * (int16_t)p2;
        s3 += (int32_t)scale[3] * (int16_t)p3;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#ifdef QRNN_USE_FOUR_WIDE
/* |S| <= 32 * 8 * 32767 < 2^23 */
QRNN_APART void qrnn_dot4_four_wide(const QRNN_FLASH int8_t *weight, const uint32_t *operand, uint32_t columns,
                                    const QRNN_FLASH int32_t bias[4], int32_t sums[4])
{
    const uint16_t *x = (const uint16_t *)&operand[1];
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
    for (uint16_t left = (uint16_t)columns; left != 0u; left = (uint16_t)(left - 32u)) {
        const QRNN_FLASH int8_t *scale = weight;
        int32_t p0 = 0;
        int32_t p1 = 0;
        int32_t p2 = 0;
        int32_t p3 = 0;
        weight += 4;
        for (uint8_t k = 32; k != 0u; k--) {
            const int16_t factor = (int16_t)(*x++ ^ 0x8000u);
            const uint8_t low = (uint8_t)weight[0];
            const uint8_t high = (uint8_t)weight[1];
            p0 += (int32_t)(int16_t)((low & 15u) - 8) * factor;
            p1 += (int32_t)(int16_t)((low >> 4) - 8) * factor;
            p2 += (int32_t)(int16_t)((high & 15u) - 8) * factor;
            p3 += (int32_t)(int16_t)((high >> 4) - 8) * factor;
            weight += 2;
        }
        s0 += scale[0] * p0;
        s1 += scale[1] * p1;
        s2 += scale[2] * p2;
        s3 += scale[3] * p3;
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#endif
