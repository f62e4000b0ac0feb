/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole blocks of four rows for the Arm DSP extension: products, biases and requantization in one loop over the blocks, for weights of eight
 * bits and rows without left_shift. A compiler takes twice the instructions for what stands between the products.
 */
#ifndef QRNN_BLOCKS_H
#define QRNN_BLOCKS_H

#include "qrnn_dot_dsp.h"

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

#if defined(QRNN_DSP_ASSEMBLY) && defined(QRNN_USE_HALVES) && defined(QRNN_USE_ROWS)
#define QRNN_HAS_HALF_BLOCKS

/* Whether the blocks of a matrix are of halfwords, and without left_shift. */
static inline int qrnn_takes_halves(const qrnn_matrix *matrix)
{
#if defined(QRNN_USE_FOUR) || defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE) || defined(QRNN_USE_LEFT_SHIFT)
    return (matrix->halves != 0U) && (matrix->left_shift == NULL);
#else
    (void)matrix;
    return 1;
#endif
}

/* Four columns, of which the operands lie `before` bytes before r1: words r2, r8, r12 and lr with r10, and then with r11 */
#define QRNN_HALF_WORDS "ldmia.w r0!, {r2, r8, r12, lr}\n\t"
#define QRNN_HALF_PAIR(x)                                                                                            \
    QRNN_HALF_WORDS "smlad r4, r2, " x ", r4\n\tsmlad r5, r8, " x ", r5\n\t"                                         \
                    "smlad r6, r12, " x ", r6\n\tsmlad r7, lr, " x ", r7\n\t"
#define QRNN_HALF_OPERANDS(before) "ldrd r10, r11, [r1, #-" before "]\n\t"
#define QRNN_HALF_GROUP(before) QRNN_HALF_OPERANDS(before) QRNN_HALF_PAIR("r10") QRNN_HALF_PAIR("r11")
/* The last four columns begin the sums, whose weights come first. */
#define QRNN_HALF_BIASED "ldmia r3!, {r4, r5, r6, r7}\n\t" QRNN_HALF_GROUP("8")
#define QRNN_HALF_BARE                                                                                               \
    QRNN_HALF_OPERANDS("8") QRNN_HALF_WORDS "smuad r4, r2, r10\n\tsmuad r5, r8, r10\n\tsmuad r6, r12, r10\n\t"         \
    "smuad r7, lr, r10\n\t" QRNN_HALF_PAIR("r11")
#ifdef QRNN_FEW_HALVES /* no row has more than four columns */
#define QRNN_HALF_GROUPS
#else
#define QRNN_HALF_GROUPS                                                                                             \
    "ldr pc, [sp, #8]\n\t" QRNN_HALF_GROUP("96") QRNN_HALF_GROUP("88") QRNN_HALF_GROUP("80") QRNN_HALF_GROUP("72")    \
    QRNN_HALF_GROUP("64") QRNN_HALF_GROUP("56") QRNN_HALF_GROUP("48") QRNN_HALF_GROUP("40") QRNN_HALF_GROUP("32")    \
    QRNN_HALF_GROUP("24") QRNN_HALF_GROUP("16")
#endif

/* requantize(sum over k of weight[r, k] * operand[k] + bias[r], multiplier[r]) of the rows of `blocks` blocks, at least one; weights have 16
 * bits, and `columns` is a multiple of 4, at most 48. A group of four columns is 11 instructions of four bytes, and each block enters the
 * groups where as many are left as it has. ADR counts from a whole word, so that the assembler has to know where words begin.
 *
 * Registers: r0 weight, r1 the end of the operand, r3 row, r4 to r7 the four sums. On the stack: y, its end, and where groups are entered; then
 * the registers of the caller, and what it put there, the number of blocks and y. */
#define QRNN_HALF_BLOCKS(biases)                                                                                     \
    "push {r4-r8, r10, r11, lr}\n\tldrd r5, r4, [sp, #32]\n\tadd r5, r4, r5, lsl #4\n\tadd r1, r1, r2, lsl #1\n\t"        \
    "sub r2, r2, #4\n\t.balign 4\n\tadr.w r6, 2f\n\tmov r7, #11\n\tmls r6, r2, r7, r6\n\torr r6, r6, #1\n\t"             \
    "push {r4, r5, r6}\n1:\n\t" QRNN_HALF_##biases QRNN_HALF_GROUPS                                                  \
    "2:\n\tldmia.w r3!, {r2, r8, r12, lr}\n\tldrd r10, r11, [sp]\n\tsmmulr r4, r4, r2\n\tsmmulr r5, r5, r8\n\t"         \
    "smmulr r6, r6, r12\n\tsmmulr r7, r7, lr\n\tstmia.w r10!, {r4, r5, r6, r7}\n\t"                                \
    "cmp r10, r11\n\tstr r10, [sp]\n\tbne.w 1b\n\tadd sp, sp, #12\n\tpop {r4-r8, r10, r11, pc}"
#if defined(QRNN_USE_BIASES) || !defined(QRNN_USE_NO_BIASES)
QRNN_BLOCKS_FUNCTION(qrnn_half_blocks, int32_t, QRNN_HALF_BLOCKS(BIASED))
#endif
#if defined(QRNN_USE_NO_BIASES)
QRNN_BLOCKS_FUNCTION(qrnn_half_blocks_bare, int32_t, QRNN_HALF_BLOCKS(BARE))
#endif

QRNN_FOR_EACH_LAYER void qrnn_half_sums(const qrnn_matrix *matrix, const int8_t *weight, const uint32_t *operand, const int32_t *row,
                                        uint32_t blocks, int32_t *y)
{
    QRNN_CALL_BLOCKS_OF(qrnn_half_blocks)
}
#endif

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

/* After the first two columns of a row come groups of four, and then the last two columns. As many groups stand one after the other as make a
 * pass, and a block enters the first pass where it has as many left as make whole passes behind it. A group is 14 instructions of four bytes.
 * QRNN_BLOCK_ENTRY makes the address in r5 of the columns in r2; it takes r4. ADR counts from a whole word, so that the assembler has to know
 * where words begin: functions may begin between two. */
#define QRNN_FOUR_WORDS "ldmia.w r0!, {r4, r5, r8, r12}\n\t"
#define QRNN_BLOCK_ENTRY(mask)                                                                                       \
    "sub r4, r2, #4\n\tand r4, r4, " mask "\n\trsb r4, r4, r4, lsl #3\n\t.balign 4\n\tadr.w r5, 3f\n\tsub r5, r5, r4, lsl #1\n\t" \
    "orr r5, r5, #1\n\t"
#ifdef __OPTIMIZE_SIZE__ /* two groups */
#define QRNN_PASS_MASK "#4"
#define QRNN_BLOCK_PASS(even, odd) even(QRNN_FOUR_WORDS) odd even(QRNN_FOUR_WORDS) odd
#else /* eight groups */
#define QRNN_PASS_MASK "#28"
#define QRNN_TWO_GROUPS(even, odd) even(QRNN_FOUR_WORDS) odd even(QRNN_FOUR_WORDS) odd
#define QRNN_BLOCK_PASS(even, odd)                                                                                   \
    QRNN_TWO_GROUPS(even, odd) QRNN_TWO_GROUPS(even, odd) QRNN_TWO_GROUPS(even, odd) QRNN_TWO_GROUPS(even, odd)
#endif
/* The logarithm of a block's bytes of `row` */
#define QRNN_LOG_BIASED "5"
#define QRNN_LOG_BARE "4"

/* All columns but the first two; `ended` compares r1 with the end of the operand. */
#define QRNN_BLOCK_LOOP(even, odd, ended)                                                                            \
    "1:\n\t" QRNN_BLOCK_PASS(even, odd) "3:\n\t" ended "bne.w 1b\n\t" even("ldrd r4, r5, [r0], #8\n\t")

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

/* Registers: r0 weight, r1 operand, r2 its end, r3 row; r6, r7 the sums of two rows each and r11, lr those of the lower row (qrnn_dot_dsp.h).
 * On the stack: the operand and where passes are entered; then, where the caller put the number of blocks and y, the end of the rows and y. */
#define QRNN_NARROW_BLOCKS(store, biases)                                                                            \
    "push {r1, r2, r4-r8, r10, r11, lr}\n\t" QRNN_BLOCK_ENTRY(QRNN_PASS_MASK) "str r5, [sp, #4]\n\t"                  \
    "ldr r4, [sp, #40]\n\tadd r4, r3, r4, lsl #" QRNN_LOG_##biases "\n\tstr r4, [sp, #40]\n\tadd r2, r1, r2, lsl #1\n"   \
    "4:\n\tldr r1, [sp]\n\tldrd r8, r12, [r0], #8\n\tldrd r4, r10, [r1], #8\n\t"                                     \
    "smuad r6, r8, r4\n\tsxtb16 r8, r8\n\tsmuad r7, r12, r4\n\tsxtb16 r12, r12\n\tsmuad r11, r8, r4\n\tsmuad lr, r12, r4\n\t" \
    "ldr pc, [sp, #4]\n" QRNN_BLOCK_LOOP(QRNN_PAIR_EVEN, QRNN_PAIR_ODD, "cmp r1, r2\n\t")                            \
    QRNN_NARROW_##biases "ldmia r3!, {r6, r7, r10, r11}\n\t"                                                         \
    "smmulr r4, r4, r6\n\tsmmulr r5, r5, r7\n\tsmmulr r8, r8, r10\n\tsmmulr r12, r12, r11\n\t"                      \
    "ldrd r7, r6, [sp, #40]\n\t" store "str r6, [sp, #44]\n\tcmp r3, r7\n\tbne.w 4b\n\t"                            \
    "pop {r1, r2, r4-r8, r10, r11, pc}"
#endif

#ifdef QRNN_USE_WIDE
/* The same with operands of 16 bits, of which the sums of two rows take 64 bits */
#define QRNN_WIDE_PAIR_ODD                                                                                           \
    "ldrd r4, r10, [r1], #8\n\tsmlald r2, r3, r8, r4\n\tsxtb16 r8, r8\n\tsmlald r6, r7, r12, r4\n\tsxtb16 r12, r12\n\t"    \
    "smlad r11, r8, r4, r11\n\tsmlad lr, r12, r4, lr\n\t"
#define QRNN_WIDE_PAIR_EVEN(load)                                                                                    \
    load "smlald r2, r3, r4, r10\n\tsxtb16 r4, r4\n\tsmlald r6, r7, r5, r10\n\tsxtb16 r5, r5\n\t"                       \
         "smlad r11, r4, r10, r11\n\tsmlad lr, r5, r10, lr\n\t"

/* Registers: r0 weight, r1 operand; r3:r2, r7:r6 the sums of two rows each and r11, lr those of the lower row. On the stack: where passes are
 * entered, the operand and its end, the row; then, where the caller put the number of blocks and y, the end of the rows and y. The first two
 * products fit 32 bits. */
#define QRNN_WIDE_BIASED                                                                                             \
    "ldmia r10!, {r4, r5, r8, r12}\n\tadd r4, r4, r11\n\tadd r8, r8, lr\n\tadd r5, r5, r2\n\tadd r12, r12, r6\n\t"
#define QRNN_WIDE_BARE "mov r4, r11\n\tmov r8, lr\n\tmov r5, r2\n\tmov r12, r6\n\t"
#define QRNN_WIDE_BLOCKS(store, biases)                                                                              \
    "push {r0-r8, r10, r11, lr}\n\t" QRNN_BLOCK_ENTRY(QRNN_PASS_MASK) "str r5, [sp]\n\t"                             \
    "ldr r4, [sp, #48]\n\tadd r4, r3, r4, lsl #" QRNN_LOG_##biases "\n\tstr r4, [sp, #48]\n\t"                        \
    "add r2, r1, r2, lsl #1\n\tstr r2, [sp, #8]\n"                                                                  \
    "4:\n\tldr r1, [sp, #4]\n\tldrd r8, r12, [r0], #8\n\tldrd r4, r10, [r1], #8\n\t"                                 \
    "smuad r2, r8, r4\n\tsxtb16 r8, r8\n\tsmuad r6, r12, r4\n\tsxtb16 r12, r12\n\tsmuad r11, r8, r4\n\tsmuad lr, r12, r4\n\t" \
    "asr r3, r2, #31\n\tasr r7, r6, #31\n\tldr pc, [sp]\n"                                                         \
    QRNN_BLOCK_LOOP(QRNN_WIDE_PAIR_EVEN, QRNN_WIDE_PAIR_ODD, "ldr r4, [sp, #8]\n\tcmp r1, r4\n\t")                  \
    "subs r2, r2, r11\n\tsbc r3, r3, r11, asr #31\n\tlsr r2, r2, #8\n\torr r2, r2, r3, lsl #24\n\t"                  \
    "subs r6, r6, lr\n\tsbc r7, r7, lr, asr #31\n\tlsr r6, r6, #8\n\torr r6, r6, r7, lsl #24\n\t"                    \
    "ldr r10, [sp, #12]\n\t" QRNN_WIDE_##biases "ldmia r10!, {r2, r3, r6, r7}\n\tstr r10, [sp, #12]\n\t"               \
    "smmulr r4, r4, r2\n\tsmmulr r5, r5, r3\n\tsmmulr r8, r8, r6\n\tsmmulr r12, r12, r7\n\t"                        \
    "ldrd r7, r6, [sp, #48]\n\t" store "str r6, [sp, #52]\n\tcmp r10, r7\n\tbne.w 4b\n\t"                            \
    "pop {r0-r8, r10, r11, pc}"
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
