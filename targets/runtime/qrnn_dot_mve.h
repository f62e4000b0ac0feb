/*
 * Dot products of four rows with a vector of operands, for Arm Helium (Cortex-M55, M85).
 *
 * Operands: bytes, or signed halfwords for 16 bits. Weights: 16 columns by 16 columns, for each of the four rows 16 bytes; for
 * operands of 16 bits 8 columns by 8 columns, which the load widens. One VMLADAVA adds a vector's products to a row's sum.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <arm_mve.h>
#include <stdint.h>

#define QRNN_COLUMNS 16u
#define QRNN_OPERAND_WORDS(columns) ((columns) / 4u)
#define QRNN_WIDE_OPERAND_WORDS(columns) ((columns) / 2u)

/* clamp((v_k + 2^(shift - 1)) >> shift, -limit, limit) for eight k; VRSHL rounds that way. Zeros follow the last value. */
static inline int16x8_t qrnn_operands(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit)
{
    const int16x8_t rounded = vrshlq_n_s16(vldrhq_z_s16(values, vctp16q(count)), -(int32_t)shift);
    return vmaxq_s16(vminq_s16(rounded, vdupq_n_s16((int16_t)limit)), vdupq_n_s16((int16_t)-limit));
}

/* The loops are assembly where the compiler takes GNU C's: GCC does not increment the addresses by the loads, which is half as many
 * instructions again. QRNN_NO_ASSEMBLY leaves it to the compiler. */
#if defined(__GNUC__) && defined(__arm__) && !defined(QRNN_NO_ASSEMBLY)
#define QRNN_ASSEMBLY
#define QRNN_ROW(load, multiply, sum) load multiply " %[" sum "], q1, q0\n\t"
#define QRNN_LOOP(load_operands, load, multiply, times)                                                              \
    __asm__("dls lr, %[n]\n1:\n\t" load_operands QRNN_ROW(load, multiply, "s0") QRNN_ROW(load, multiply, "s1")       \
                QRNN_ROW(load, multiply, "s2") QRNN_ROW(load, multiply, "s3") "le lr, 1b"                            \
            : [weight] "+l"(weight), [operand] "+r"(operand), [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2),        \
              [s3] "+Te"(s3)                                                                                         \
            : [n] "r"(times)                                                                                         \
            : "q0", "q1", "lr", "cc", "memory")
#endif

#ifdef QRNN_USE_NARROW
static void qrnn_encode(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    int8_t *x = (int8_t *)operand;
    const int8_t *const end = x + (count + QRNN_COLUMNS - 1u) / QRNN_COLUMNS * QRNN_COLUMNS;
    while (x != end) {
        vstrbq_s16(x, qrnn_operands(values, count, shift, limit));
        values += 8;
        x += 8;
        count -= count < 8u ? count : 8u;
    }
}

static void qrnn_dot4(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                      int32_t sums[4])
{
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
#ifdef QRNN_ASSEMBLY
    QRNN_LOOP("vldrb.8 q0, [%[operand]], #16\n\t", "vldrb.8 q1, [%[weight]], #16\n\t", "vmladava.s8", columns / 16u);
#else
    for (; columns != 0u; columns -= 16u) {
        const int8x16_t x = vldrbq_s8((const int8_t *)operand);
        s0 = vmladavaq_s8(s0, vldrbq_s8(weight), x);
        s1 = vmladavaq_s8(s1, vldrbq_s8(weight + 16), x);
        s2 = vmladavaq_s8(s2, vldrbq_s8(weight + 32), x);
        s3 = vmladavaq_s8(s3, vldrbq_s8(weight + 48), x);
        operand += 4;
        weight += 64;
    }
#endif
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#ifdef QRNN_USE_WIDE
static void qrnn_encode_wide(const int16_t *values, uint32_t count, uint32_t shift, int32_t limit, uint32_t *operand)
{
    int16_t *x = (int16_t *)operand;
    const int16_t *const end = x + (count + QRNN_COLUMNS - 1u) / QRNN_COLUMNS * QRNN_COLUMNS;
    while (x != end) {
        vstrhq_s16(x, qrnn_operands(values, count, shift, limit));
        values += 8;
        x += 8;
        count -= count < 8u ? count : 8u;
    }
}

static void qrnn_dot4_wide(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t bias[4],
                           int32_t sums[4])
{
    int32_t s0 = bias[0];
    int32_t s1 = bias[1];
    int32_t s2 = bias[2];
    int32_t s3 = bias[3];
#ifdef QRNN_ASSEMBLY
    QRNN_LOOP("vldrh.16 q0, [%[operand]], #16\n\t", "vldrb.s16 q1, [%[weight]], #8\n\t", "vmladava.s16", columns / 8u);
#else
    for (; columns != 0u; columns -= 8u) {
        const int16x8_t x = vldrhq_s16((const int16_t *)operand);
        s0 = vmladavaq_s16(s0, vldrbq_s16(weight), x);
        s1 = vmladavaq_s16(s1, vldrbq_s16(weight + 8), x);
        s2 = vmladavaq_s16(s2, vldrbq_s16(weight + 16), x);
        s3 = vmladavaq_s16(s3, vldrbq_s16(weight + 24), x);
        operand += 4;
        weight += 32;
    }
#endif
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}
#endif

#endif
