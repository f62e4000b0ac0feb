/* SPDX-License-Identifier: Apache-2.0 */
/* Special forms of the contract's functions, by single instructions or without a sum that is wider than its terms. What each computes is
 * the function of qrnn_contract.h that its comment names, and tests compare the two. */
#ifndef QRNN_ARITHMETIC_H
#define QRNN_ARITHMETIC_H

#include "qrnn_types.h"

#if defined(QRNN_ARM_THUMB_1) || (defined(__XTENSA__) && defined(__XTENSA_CALL0_ABI__))
#define QRNN_HALFWORD_PRODUCTS /* a multiplication has 32 bits of result */
#endif

/* Compilers do not find these instructions of Arm by themselves. They are assembly, or, without GNU C's, functions of the Arm C Language
 * Extensions (ACLE), whose macros __ARM_FEATURE_... are; there is none for SMMULR, and GCC has the others since version 11. */
#if defined(QRNN_ARM_THUMB_2) || defined(QRNN_ARM_ARM)
#if defined(QRNN_GNU_ASSEMBLY)
#define QRNN_HAS_INSTRUCTIONS
#elif defined(__ARM_FEATURE_SAT) && (!defined(__GNUC__) || defined(__clang__) || (__GNUC__ >= 11))
#include <arm_acle.h>
#define QRNN_HAS_INSTRUCTIONS
#define QRNN_ACLE
#if defined(__GNUC__) && !defined(__clang__) /* whose header converts signs implicitly */
#define QRNN_SSAT(x, bits) ((int32_t)__builtin_arm_ssat((x), (bits)))
#define QRNN_USAT(x, bits) ((int32_t)__builtin_arm_usat((x), (bits)))
#else
#define QRNN_SSAT(x, bits) ((int32_t)__ssat((x), (bits)))
#define QRNN_USAT(x, bits) ((int32_t)__usat((x), (bits)))
#endif
#endif
#endif
#if defined(QRNN_HAS_INSTRUCTIONS)
#if defined(__ARM_FEATURE_SAT)
#define QRNN_HAS_SSAT
#endif
#if defined(__ARM_FEATURE_DSP)
#define QRNN_HAS_QADD
#if (__ARM_ARCH >= 6) && !defined(QRNN_ACLE)
#define QRNN_HAS_SMMULR
#endif
#endif
#endif

/* An AVR with a multiplier of 8 by 8 bits. */
#if defined(QRNN_GNU_ASSEMBLY) && defined(__AVR_HAVE_MUL__) && defined(__AVR_HAVE_LPMX__)
#define QRNN_AVR_ASSEMBLY
#endif

/* Forms that take fewer instructions where registers have 32 bits: of qrnn_requantize here, of qrnn_exp_weight in qrnn_softmax.h. */
#if SIZE_MAX <= 0xFFFFFFFFU
#define QRNN_HAS_NARROW_REGISTERS
#endif
#if defined(QRNN_HAS_NARROW_REGISTERS)
#define QRNN_HAS_EXP_WEIGHT
#endif

/* x * 2^shift for x of either sign; the product fits an int32. C does not define << of a negative number. */
static inline int32_t qrnn_shift_left(int32_t x, uint32_t shift)
{
    return (int32_t)((uint32_t)x << shift);
}

#if defined(QRNN_HAS_SSAT)
/* qrnn_saturate16 */
static inline int32_t qrnn_saturate16(int32_t x)
{
#if defined(QRNN_ACLE)
    return QRNN_SSAT(x, 16);
#else
    int32_t limited;
    __asm("ssat %0, #16, %1" : "=r"(limited) : "r"(x));
    return limited;
#endif
}
#endif

/* qrnn_saturate32(a + b), whose argument takes 33 bits */
static inline int32_t qrnn_add_saturate32(int32_t a, int32_t b)
{
#if defined(QRNN_HAS_QADD) && defined(QRNN_ACLE)
    return __qadd(a, b);
#elif defined(QRNN_HAS_QADD)
    int32_t sum;
    __asm("qadd %0, %1, %2" : "=r"(sum) : "r"(a), "r"(b));
    return sum;
#else
    const uint32_t sum = (uint32_t)a + (uint32_t)b;
    const int32_t limit = (a < 0) ? INT32_MIN : INT32_MAX;
    const uint32_t overflow = ((uint32_t)a ^ sum) & ((uint32_t)b ^ sum); /* its sign: a and b have one sign, the sum the other */
    return (overflow > UINT32_C(0x7FFFFFFF)) ? limit : (int32_t)sum;
#endif
}

/* qrnn_shift_right_round64 of any int32 x: floor(x / 2^shift), and 1 more where the highest bit below is 1. -2^31 is taken for -2^31 + 1
 * where shift is 0, so that the result has a size. */
static inline int32_t qrnn_shift_right_round_full(int32_t x, uint32_t shift)
{
    const int32_t doubled = x >> ((shift == 0U) ? 0U : (shift - 1U));
    const int32_t whole = (x < -INT32_MAX) ? -INT32_MAX : x;
    return (shift == 0U) ? whole : ((doubled >> 1) + (doubled & 1));
}

/* Clamp to +-(2^31 - 1): for sums that are saturated to 16 bits next. */
static inline int32_t qrnn_within_int32(int64_t x)
{
    return (int32_t)((x < -INT32_MAX) ? -INT32_MAX : ((x > INT32_MAX) ? INT32_MAX : x));
}

#if defined(QRNN_AVR_ASSEMBLY)
/* floor(a m / 2^32 + 1 / 2), 0 <= m < 2^31. Row by row of the product of positive numbers: of the four products of a byte of a, the first and the
 * third do not overlap, nor do the second and the fourth. A negative a is 2^32 less than the number that its bytes are. */
#define QRNN_TWO_PRODUCTS(byte, first, second)                                                                       \
    "mul %" byte "[a], %" first "[m]\n\tmovw %A[t], r0\n\tmul %" byte "[a], %" second "[m]\n\tmovw %C[t], r0\n\t"
#define QRNN_ADD_FOUR(p0, p1, p2, p3) "add %" p0 ", %A[t]\n\tadc %" p1 ", %B[t]\n\tadc %" p2 ", %C[t]\n\tadc %" p3 ", %D[t]\n\t"
#define QRNN_CARRY(p) "adc %" p ", %[zero]\n\t"
QRNN_APART int32_t qrnn_multiply_high_round(int32_t a, int32_t m)
{
    uint32_t low = 0;
    uint32_t high = 0;
    uint32_t t;
    __asm__(QRNN_TWO_PRODUCTS("A", "A", "C") QRNN_ADD_FOUR("A[low]", "B[low]", "C[low]", "D[low]")
            QRNN_TWO_PRODUCTS("A", "B", "D") QRNN_ADD_FOUR("B[low]", "C[low]", "D[low]", "A[high]")
            QRNN_TWO_PRODUCTS("B", "A", "C") QRNN_ADD_FOUR("B[low]", "C[low]", "D[low]", "A[high]") QRNN_CARRY("B[high]")
            QRNN_TWO_PRODUCTS("B", "B", "D") QRNN_ADD_FOUR("C[low]", "D[low]", "A[high]", "B[high]")
            QRNN_TWO_PRODUCTS("C", "A", "C") QRNN_ADD_FOUR("C[low]", "D[low]", "A[high]", "B[high]") QRNN_CARRY("C[high]")
            QRNN_TWO_PRODUCTS("C", "B", "D") QRNN_ADD_FOUR("D[low]", "A[high]", "B[high]", "C[high]")
            QRNN_TWO_PRODUCTS("D", "A", "C") QRNN_ADD_FOUR("D[low]", "A[high]", "B[high]", "C[high]") QRNN_CARRY("D[high]")
            QRNN_TWO_PRODUCTS("D", "B", "D") QRNN_ADD_FOUR("A[high]", "B[high]", "C[high]", "D[high]")
            "clr r1\n\tsbrs %D[a], 7\n\trjmp 1f\n\tsub %A[high], %A[m]\n\tsbc %B[high], %B[m]\n\t"
            "sbc %C[high], %C[m]\n\tsbc %D[high], %D[m]\n1:\tlsl %D[low]\n\t" QRNN_CARRY("A[high]") QRNN_CARRY("B[high]")
            QRNN_CARRY("C[high]") QRNN_CARRY("D[high]")
            : [low] "+r"(low), [high] "+r"(high), [t] "=&r"(t)
            : [a] "r"(a), [m] "r"(m), [zero] "r"((uint8_t)0)
            : "r0");
    return (int32_t)high;
}
#endif

/* qrnn_requantize, without a carry from the low word to the high one */
#if defined(QRNN_HAS_SMMULR) || defined(QRNN_HALFWORD_PRODUCTS) || defined(QRNN_HAS_NARROW_REGISTERS)
#define QRNN_HAS_REQUANTIZE
static inline int32_t qrnn_requantize(int32_t acc, int32_t multiplier, uint32_t left_shift)
{
    const int32_t shifted = qrnn_shift_left(acc, left_shift);
#if defined(QRNN_HAS_SMMULR)
    int32_t high;
    __asm("smmulr %0, %1, %2" : "=r"(high) : "r"(shifted), "r"(multiplier));
    return high;
#elif defined(QRNN_AVR_ASSEMBLY)
    return qrnn_multiply_high_round(shifted, multiplier);
#elif defined(QRNN_HALFWORD_PRODUCTS)
    /* shifted = 2^16 ah + al, multiplier = 2^16 mh + ml, with signed ah and 0 <= al, ml < 2^16, 0 <= mh < 2^15. The product is
     * 2^32 ah mh + 2^16 (ah ml + al mh) + al ml; of its lower words `middle` and `low` hold what the next sum up needs. */
#if defined(QRNN_GNU_ASSEMBLY) && defined(QRNN_ARM_THUMB_1) && (__ARM_ARCH >= 6)
    int32_t high = shifted; /* ah, the result */
    uint32_t m = (uint32_t)multiplier; /* mh */
    uint32_t al;
    uint32_t ml; /* and middle */
    uint32_t t;
    __asm__(".syntax unified\n\tuxth %[al], %[high]\n\tasrs %[high], %[high], #16\n\tuxth %[ml], %[m]\n\tasrs %[m], %[m], #16\n\t"
            "movs %[t], %[al]\n\tmuls %[t], %[ml]\n\tlsrs %[t], %[t], #16\n\tmuls %[ml], %[high]\n\tadds %[ml], %[ml], %[t]\n\t"
            "muls %[al], %[m]\n\tuxth %[t], %[ml]\n\tadds %[al], %[al], %[t]\n\tmuls %[high], %[m]\n\tasrs %[ml], %[ml], #16\n\t"
            "adds %[high], %[high], %[ml]\n\tlsrs %[al], %[al], #16\n\tadcs %[high], %[al]" /* the carry is the bit that rounds */
            : [high] "+l"(high), [m] "+l"(m), [al] "=&l"(al), [ml] "=&l"(ml), [t] "=&l"(t)
            :
            : "cc");
    return high;
#else
    const int32_t ah = shifted >> 16;
    const uint32_t al = (uint32_t)shifted & 0xFFFFU;
    const int32_t mh = multiplier >> 16;
    const uint32_t ml = (uint32_t)multiplier & 0xFFFFU;
    const int32_t middle = (ah * (int32_t)ml) + (int32_t)((al * ml) >> 16);
    const uint32_t low = (al * (uint32_t)mh) + ((uint32_t)middle & 0xFFFFU) + 0x8000U;
    return (ah * mh) + (middle >> 16) + (int32_t)(low >> 16);
#endif
#else
    const int64_t product = (int64_t)shifted * multiplier; /* rounding carries into the high word where bit 31 is 1 */
    return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
#endif
}
#endif

/* qrnn_requantize with the multiplier m 2^shift, 0 <= m < 2^16, shift 1 ... 15, and no left_shift: floor((acc m + 2^(31 - shift)) / 2^(32 - shift)),
 * |acc| < 2^31. With acc = 2^16 ah + al it is floor((ah m + floor(al m / 2^16) + 2^(15 - shift)) / 2^(16 - shift)), whose sums fit 32 bits. */
static inline int32_t qrnn_requantize_short(int32_t acc, uint32_t m, uint32_t shift)
{
    const int32_t high = ((acc >> 16) * (int32_t)m) + (int32_t)((((uint32_t)acc & 0xFFFFU) * m) >> 16);
    return (high + (INT32_C(1) << (15U - shift))) >> (16U - shift);
}

#endif
