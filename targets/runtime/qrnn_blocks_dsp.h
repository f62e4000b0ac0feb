/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole blocks of four rows for the Arm DSP extension: products, biases and requantization in one loop over the blocks, for weights of eight
 * bits and rows without left_shift. A compiler takes twice the instructions for what stands between the products.
 */
#ifndef QRNN_BLOCKS_H
#define QRNN_BLOCKS_H

#include "qrnn_dot_dsp.h"

#if defined(QRNN_DSP_ASSEMBLY) && (defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE))
#define QRNN_HAS_BLOCKS

/* Whether the blocks of a matrix are such. With operands of eight bits 256 S[r + 1] + S[r] is an int32 for so many columns (qrnn_dot_dsp.h). */
static inline int qrnn_takes_blocks(const qrnn_matrix *matrix)
{
#if defined(QRNN_USE_FOUR) || defined(QRNN_USE_LEFT_SHIFT) || !defined(QRNN_SHORT_ROWS)
    return (matrix->four == 0U) && (matrix->left_shift == NULL) && ((matrix->wide != 0U) || (matrix->columns <= 512U));
#else
    (void)matrix;
    return 1;
#endif
}

/* f(weight, operand, columns, row, blocks, y) writes requantize(sum over k of weight[r, k] * operand[k] + bias[r]) of the rows of `blocks`
 * blocks, at least one, by `store`: from r4, r5, r8 and r12 to r6, where it leaves the next address. */
#define QRNN_BLOCKS_FUNCTION(function, type, body)                                                                   \
    QRNN_NAKED void                                                                                                  \
    function(const int8_t *weight __attribute__((unused)), const uint32_t *operand __attribute__((unused)),          \
             uint32_t columns __attribute__((unused)), const int32_t *row __attribute__((unused)),                   \
             uint32_t blocks __attribute__((unused)), type *y __attribute__((unused)))                               \
    {                                                                                                                \
        __asm__ __volatile__(body : : : "r0", "r1", "r2", "r3", "r12", "cc", "memory");                              \
    }

#ifdef QRNN_EVEN_ROWS
#define QRNN_BLOCK_ENTER(end) "b 2f\n"
#else /* eight columns after the first eight, or sixteen */
#define QRNN_BLOCK_ENTER(end) end "tst r4, #16\n\tbeq 3f\n\tb 2f\n"
#endif
#define QRNN_FOUR_WORDS "ldmia r0!, {r4, r5, r8, r12}\n\t"
/* All columns but the first two and the last two; `next` ends a pass of sixteen. */
#define QRNN_BLOCK_LOOP(even, odd, next)                                                                             \
    "1:\n\t" even(QRNN_FOUR_WORDS) odd "2:\n\t" even(QRNN_FOUR_WORDS) odd even(QRNN_FOUR_WORDS) odd                  \
    "3:\n\t" even(QRNN_FOUR_WORDS) odd next "bne 1b\n\t" even("ldrd r4, r5, [r0], #8\n\t")

/* The logarithm of a block's bytes of `row` */
#define QRNN_LOG_BIASED "5"
#define QRNN_LOG_BARE "4"

#ifdef QRNN_USE_NARROW
/* A pair of columns, in the order of QRNN_TWO_COLUMNS: words r8 and r12 with r4, or r4 and r5 with r10. */
#define QRNN_PAIR_ODD                                                                                                \
    "ldrd r4, r10, [r1], #8\n\tsmlad r6, r8, r4, r6\n\tsxtb16 r8, r8\n\tsmlad r7, r12, r4, r7\n\tsxtb16 r12, r12\n\t"       \
    "smlad r11, r8, r4, r11\n\tsmlad lr, r12, r4, lr\n\t"
#define QRNN_PAIR_EVEN(load)                                                                                         \
    load "smlad r6, r4, r10, r6\n\tsxtb16 r4, r4\n\tsmlad r7, r5, r10, r7\n\tsxtb16 r5, r5\n\t"                          \
         "smlad r11, r4, r10, r11\n\tsmlad lr, r5, r10, lr\n\t"

/* The sums of the four rows, r4, r5, r8 and r12 */
#define QRNN_NARROW_BIASED                                                                                           \
    "ldmia r3!, {r4, r5, r8, r12}\n\tsub r6, r6, r11\n\tsub r7, r7, lr\n\tadd r5, r5, r6, asr #8\n\t"                 \
    "add r12, r12, r7, asr #8\n\tadd r4, r4, r11\n\tadd r8, r8, lr\n\t"
#define QRNN_NARROW_BARE                                                                                             \
    "sub r6, r6, r11\n\tsub r7, r7, lr\n\tasr r5, r6, #8\n\tasr r12, r7, #8\n\tmov r4, r11\n\tmov r8, lr\n\t"

/* Registers: r0 weight, r1 operand, r2 its end, r3 row; r6, r7 the sums of two rows each and r11, lr those of the lower row (qrnn_dot_dsp.h);
 * the end of the rows and y are on the stack, where the caller put the number of blocks and y. */
#define QRNN_NARROW_BLOCKS(store, biases)                                                                            \
    "push {r1, r4-r8, r10, r11, lr}\n\t"                                                                             \
    "ldr r4, [sp, #36]\n\tadd r4, r3, r4, lsl #" QRNN_LOG_##biases "\n\tstr r4, [sp, #36]\n\tadd r2, r1, r2, lsl #1\n"   \
    "4:\n\tldr r1, [sp]\n\tldrd r8, r12, [r0], #8\n\tldrd r4, r10, [r1], #8\n\t"                                     \
    "smuad r6, r8, r4\n\tsxtb16 r8, r8\n\tsmuad r7, r12, r4\n\tsxtb16 r12, r12\n\tsmuad r11, r8, r4\n\tsmuad lr, r12, r4\n\t" \
    QRNN_BLOCK_ENTER("sub r4, r2, r1\n\t") QRNN_BLOCK_LOOP(QRNN_PAIR_EVEN, QRNN_PAIR_ODD, "cmp r1, r2\n\t")           \
    QRNN_NARROW_##biases "ldmia r3!, {r6, r7, r10, r11}\n\t"                                                         \
    "smmulr r4, r4, r6\n\tsmmulr r5, r5, r7\n\tsmmulr r8, r8, r10\n\tsmmulr r12, r12, r11\n\t"                      \
    "ldr r6, [sp, #40]\n\t" store "str r6, [sp, #40]\n\tldr r4, [sp, #36]\n\tcmp r3, r4\n\tbne 4b\n\t"               \
    "pop {r1, r4-r8, r10, r11, pc}"
#endif

#ifdef QRNN_USE_WIDE
/* The same with operands of 16 bits, of which the sums of two rows take 64 bits */
#define QRNN_WIDE_PAIR_ODD                                                                                           \
    "ldrd r4, r10, [r1], #8\n\tsmlald r2, r3, r8, r4\n\tsxtb16 r8, r8\n\tsmlald r6, r7, r12, r4\n\tsxtb16 r12, r12\n\t"    \
    "smlad r11, r8, r4, r11\n\tsmlad lr, r12, r4, lr\n\t"
#define QRNN_WIDE_PAIR_EVEN(load)                                                                                    \
    load "smlald r2, r3, r4, r10\n\tsxtb16 r4, r4\n\tsmlald r6, r7, r5, r10\n\tsxtb16 r5, r5\n\t"                       \
         "smlad r11, r4, r10, r11\n\tsmlad lr, r5, r10, lr\n\t"

/* Registers: r0 weight, r1 operand; r3:r2, r7:r6 the sums of two rows each and r11, lr those of the lower row. On the stack: the operand and
 * its end, the row, and where the caller put the number of blocks and y, the end of the rows and y. The first two products fit 32 bits. */
#define QRNN_WIDE_BIASED                                                                                             \
    "ldmia r10!, {r4, r5, r8, r12}\n\tadd r4, r4, r11\n\tadd r8, r8, lr\n\tadd r5, r5, r2\n\tadd r12, r12, r6\n\t"
#define QRNN_WIDE_BARE "mov r4, r11\n\tmov r8, lr\n\tmov r5, r2\n\tmov r12, r6\n\t"
#define QRNN_WIDE_BLOCKS(store, biases)                                                                              \
    "push {r1-r8, r10, r11, lr}\n\tldr r4, [sp, #44]\n\tadd r4, r3, r4, lsl #" QRNN_LOG_##biases "\n\tstr r4, [sp, #44]\n\t" \
    "add r2, r1, r2, lsl #1\n\tstr r2, [sp, #4]\n"                                                                  \
    "4:\n\tldr r1, [sp]\n\tldrd r8, r12, [r0], #8\n\tldrd r4, r10, [r1], #8\n\t"                                     \
    "smuad r2, r8, r4\n\tsxtb16 r8, r8\n\tsmuad r6, r12, r4\n\tsxtb16 r12, r12\n\tsmuad r11, r8, r4\n\tsmuad lr, r12, r4\n\t" \
    "asr r3, r2, #31\n\tasr r7, r6, #31\n\t"                                                                        \
    QRNN_BLOCK_ENTER("ldr r4, [sp, #4]\n\tsub r4, r4, r1\n\t")                                                      \
    QRNN_BLOCK_LOOP(QRNN_WIDE_PAIR_EVEN, QRNN_WIDE_PAIR_ODD, "ldr r4, [sp, #4]\n\tcmp r1, r4\n\t")                  \
    "subs r2, r2, r11\n\tsbc r3, r3, r11, asr #31\n\tlsr r2, r2, #8\n\torr r2, r2, r3, lsl #24\n\t"                  \
    "subs r6, r6, lr\n\tsbc r7, r7, lr, asr #31\n\tlsr r6, r6, #8\n\torr r6, r6, r7, lsl #24\n\t"                    \
    "ldr r10, [sp, #8]\n\t" QRNN_WIDE_##biases "ldmia r10!, {r2, r3, r6, r7}\n\tstr r10, [sp, #8]\n\t"               \
    "smmulr r4, r4, r2\n\tsmmulr r5, r5, r3\n\tsmmulr r8, r8, r6\n\tsmmulr r12, r12, r7\n\t"                        \
    "ldr r6, [sp, #48]\n\t" store "str r6, [sp, #48]\n\tldr r4, [sp, #44]\n\tcmp r10, r4\n\tbne 4b\n\t"              \
    "pop {r1-r8, r10, r11, pc}"
#endif

/* The four results as words, and saturated as halfwords */
#define QRNN_STORE_WORDS "stmia r6!, {r4, r5, r8, r12}\n\t"
#define QRNN_STORE_HALFWORDS                                                                                         \
    "ssat r4, #16, r4\n\tssat r5, #16, r5\n\tssat r8, #16, r8\n\tssat r12, #16, r12\n\t"                            \
    "pkhbt r4, r4, r5, lsl #16\n\tpkhbt r8, r8, r12, lsl #16\n\tstr r4, [r6], #4\n\tstr r8, [r6], #4\n\t"

/* The functions that store by `store`, for QRNN_DEFINE_BLOCKS */
#ifdef QRNN_USE_NARROW
#define QRNN_DEFINE_NARROW(name, type, store, biases) QRNN_BLOCKS_FUNCTION(name, type, QRNN_NARROW_BLOCKS(store, biases))
#else
#define QRNN_DEFINE_NARROW(name, type, store, biases)
#endif
#ifdef QRNN_USE_WIDE
#define QRNN_DEFINE_WIDE(name, type, store, biases) QRNN_BLOCKS_FUNCTION(name, type, QRNN_WIDE_BLOCKS(store, biases))
#else
#define QRNN_DEFINE_WIDE(name, type, store, biases)
#endif

#ifdef QRNN_USE_ROWS
/* requantize(sum over k of weight[r, k] * operand[k] + bias[r], multiplier[r]) of the rows of `blocks` blocks, at least one */
QRNN_DEFINE_BLOCKS(qrnn_block_sums, int32_t, QRNN_STORE_WORDS)
#endif
#endif

#endif
