/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole blocks of four rows for Arm Helium: products, biases and requantization in one loop over the blocks, for weights of eight bits and
 * rows without left_shift. A compiler takes twice the instructions for what stands between the products.
 */
#ifndef QRNN_BLOCKS_H
#define QRNN_BLOCKS_H

#include "qrnn_dot_mve.h"

#if defined(QRNN_ASSEMBLY) && (defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE))
#define QRNN_HAS_BLOCKS

/* Whether the blocks of a matrix are such */
static inline int qrnn_takes_blocks(const qrnn_matrix *matrix)
{
    return (matrix->four == 0U) && (matrix->left_shift == NULL) && ((matrix->wide == 0U) || (matrix->columns > 16U));
}

/* How many numbers of a block `row` has, and the logarithm of their bytes */
#define QRNN_NUMBERS_BIASED 8U
#define QRNN_NUMBERS_BARE 4U
#define QRNN_LOG_BIASED "5"
#define QRNN_LOG_BARE "4"
/* The sums with their biases */
#define QRNN_ADD_BIASED(q, row) "vldrw.32 q3, [" row "], #16\n\tvadd.i32 " q ", " q ", q3\n\t"
#define QRNN_ADD_BARE(q, row)

/* The four results of q as words, and saturated as halfwords; y is the next address. */
#define QRNN_STORE_WORDS(q, y) "vstrw.32 " q ", [" y "], #16\n\t"
#define QRNN_STORE_HALFWORDS(q, y) "vqmovnb.s32 " q ", " q "\n\tvstrh.32 " q ", [" y "], #8\n\t"

#ifdef QRNN_USE_NARROW
/* Rows of few columns: the operands stay in registers, q0 and up, for all blocks; q6 has weights, and then results. */
#define QRNN_FEW_ROW(multiply, x, sum) "vldrb.8 q6, [%[weight]], #16\n\t" multiply " %[" sum "], q6, " x "\n\t"
#define QRNN_FEW_FIRST(multiply, x)                                                                                  \
    QRNN_FEW_ROW(multiply, x, "s0") QRNN_FEW_ROW(multiply, x, "s1") QRNN_FEW_ROW(multiply, x, "s2") QRNN_FEW_ROW(multiply, x, "s3")
#define QRNN_FEW_COLUMNS(x) QRNN_FEW_FIRST("vmladava.s8", x)
/* The first sixteen columns */
#define QRNN_FEW_BIASED "ldrd %[s0], %[s1], [%[row]], #8\n\tldrd %[s2], %[s3], [%[row]], #8\n\t" QRNN_FEW_COLUMNS("q0")
#define QRNN_FEW_BARE QRNN_FEW_FIRST("vmladav.s8", "q0")
#define QRNN_FEW_LOAD(x, byte) "vldrb.8 " x ", [%[operand], #" byte "]\n\t"
#define QRNN_FEW(load, columns, store, biases)                                                                       \
    __asm__ __volatile__(load "dls lr, %[blocks]\n1:\n\t"                                                            \
                         QRNN_FEW_##biases columns                                                                   \
                         "vmov q6[2], q6[0], %[s0], %[s2]\n\tvmov q6[3], q6[1], %[s1], %[s3]\n\t"                     \
                         "vldrw.32 q7, [%[row]], #16\n\tvrmulh.s32 q6, q6, q7\n\t" store("q6", "%[y]") "le lr, 1b"    \
                         : [weight] "+r"(weight), [row] "+r"(row), [y] "+l"(y), [s0] "=&Te"(s0), [s1] "=&Te"(s1),    \
                           [s2] "=&Te"(s2), [s3] "=&Te"(s3)                                                          \
                         : [operand] "r"(operand), [blocks] "r"(blocks)                                              \
                         : "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "lr", "cc", "memory")
#define QRNN_LOAD_16 QRNN_FEW_LOAD("q0", "0")
#define QRNN_LOAD_32 QRNN_LOAD_16 QRNN_FEW_LOAD("q1", "16")
#define QRNN_LOAD_48 QRNN_LOAD_32 QRNN_FEW_LOAD("q2", "32")
#define QRNN_LOAD_64 QRNN_LOAD_48 QRNN_FEW_LOAD("q3", "48")
#define QRNN_LOAD_80 QRNN_LOAD_64 QRNN_FEW_LOAD("q4", "64")
#define QRNN_LOAD_96 QRNN_LOAD_80 QRNN_FEW_LOAD("q5", "80")
#define QRNN_FEW_16 /* the columns after these */
#define QRNN_FEW_32 QRNN_FEW_COLUMNS("q1")
#define QRNN_FEW_48 QRNN_FEW_32 QRNN_FEW_COLUMNS("q2")
#define QRNN_FEW_64 QRNN_FEW_48 QRNN_FEW_COLUMNS("q3")
#define QRNN_FEW_80 QRNN_FEW_64 QRNN_FEW_COLUMNS("q4")
#define QRNN_FEW_96 QRNN_FEW_80 QRNN_FEW_COLUMNS("q5")
#ifdef __OPTIMIZE_SIZE__ /* which has every loop, whatever the number of columns */
#define QRNN_MORE_FEW(store, biases)
#else
#define QRNN_MORE_FEW(store, biases)                                                                                         \
    } else if (columns == 48U) {                                                                                     \
        QRNN_FEW(QRNN_LOAD_48, QRNN_FEW_48, store, biases);                                                                  \
    } else if (columns == 64U) {                                                                                     \
        QRNN_FEW(QRNN_LOAD_64, QRNN_FEW_64, store, biases);                                                                  \
    } else if (columns == 80U) {                                                                                     \
        QRNN_FEW(QRNN_LOAD_80, QRNN_FEW_80, store, biases);                                                                  \
    } else if (columns == 96U) {                                                                                     \
        QRNN_FEW(QRNN_LOAD_96, QRNN_FEW_96, store, biases);
#endif

/* Any number of columns, two blocks at a time, and a last one alone: 16 columns of two blocks are a load of operands, and a load and a product
 * for each row. Registers: r1 operand, r3 its end, r5 and r7 the weights of both blocks, r11 row; r0, r2, r4, r6 the sums of the first block
 * and r8, r10, r12, lr those of the second. On the stack: the operand, the bytes of a block, and where the caller put them, the row, the end
 * of the rows and y. */
#define QRNN_ROW_OF(weight, multiply, sum) "vldrb.8 q1, [" weight "], #16\n\t" multiply " " sum ", q1, q0\n\t"
#define QRNN_BLOCK_OF(multiply)                                                                                      \
    "vldrb.8 q0, [r1], #16\n\t" QRNN_ROW_OF("r5", multiply, "r0") QRNN_ROW_OF("r5", multiply, "r2")                  \
    QRNN_ROW_OF("r5", multiply, "r4") QRNN_ROW_OF("r5", multiply, "r6")
#define QRNN_PAIR_OF(multiply)                                                                                       \
    QRNN_BLOCK_OF(multiply) QRNN_ROW_OF("r7", multiply, "r8") QRNN_ROW_OF("r7", multiply, "r10")                     \
    QRNN_ROW_OF("r7", multiply, "r12") QRNN_ROW_OF("r7", multiply, "lr")
#define QRNN_PAIR_COLUMNS QRNN_PAIR_OF("vmladava.s8")
#ifdef QRNN_EVEN_ROWS
#define QRNN_PAIR_ENTER QRNN_PAIR_OF("vmladav.s8") "b 3f\n"
#else /* after the first sixteen columns an odd number of sixteens is left where the columns are an even number of them */
#define QRNN_PAIR_ENTER "sub r0, r3, r1\n\ttst r0, #16\n\t" QRNN_PAIR_OF("vmladav.s8") "beq 3f\n\tcmp r1, r3\n\tbeq 4f\n"
#endif
#define QRNN_BLOCK_RESULT(q, biases)                                                                                 \
    QRNN_ADD_##biases(q, "r11") "vldrw.32 q3, [r11], #16\n\tvrmulh.s32 " q ", " q ", q3\n\t"
#define QRNN_FIRST_SUMS "vmov q1[2], q1[0], r0, r4\n\tvmov q1[3], q1[1], r2, r6\n\t"
#define QRNN_SECOND_SUMS "vmov q2[2], q2[0], r8, r12\n\tvmov q2[3], q2[1], r10, lr\n\t"

#define QRNN_BLOCKS_BEGIN "push {r1, r2, r4-r8, r10, r11, lr}\n\tmov r5, r0\n\tldr r11, [sp, #40]\n"
#define QRNN_BLOCKS_END "\n\tpop {r1, r2, r4-r8, r10, r11, pc}"
#define QRNN_PAIRS(store, biases)                                                                                    \
    QRNN_BLOCKS_BEGIN "2:\n\tldrd r1, r0, [sp]\n\tadd r7, r5, r0\n\t" QRNN_PAIR_ENTER                                \
    "1:\n\t" QRNN_PAIR_COLUMNS "3:\n\t" QRNN_PAIR_COLUMNS "cmp r1, r3\n\tbne 1b\n4:\n\t"                             \
    QRNN_FIRST_SUMS QRNN_SECOND_SUMS QRNN_BLOCK_RESULT("q1", biases) QRNN_BLOCK_RESULT("q2", biases)                                 \
    "ldr r0, [sp, #48]\n\t" store("q1", "r0") store("q2", "r0") "str r0, [sp, #48]\n\t"                              \
    "mov r5, r7\n\tldr r0, [sp, #44]\n\tcmp r11, r0\n\tbne 2b" QRNN_BLOCKS_END
#define QRNN_LAST_BLOCK(store, biases)                                                                               \
    QRNN_BLOCKS_BEGIN "\t" QRNN_BLOCK_OF("vmladav.s8") "1:\n\t" QRNN_BLOCK_OF("vmladava.s8") "cmp r1, r3\n\tbne 1b\n\t" \
    QRNN_FIRST_SUMS QRNN_BLOCK_RESULT("q1", biases) "ldr r0, [sp, #48]\n\t" store("q1", "r0") QRNN_BLOCKS_END
#endif

#ifdef QRNN_USE_WIDE
#ifdef QRNN_EVEN_ROWS
#define QRNN_PLANES_ENTER QRNN_PLANES_BEGIN "b 3f\n"
#else /* as for QRNN_PAIR_ENTER */
#define QRNN_PLANES_ENTER "sub r0, r11, r1\n\ttst r0, #16\n\t" QRNN_PLANES_BEGIN "beq 3f\n"
#endif

/* The same with operands of 16 bits, whose planes are `high` and `low`, and more than 16 columns; see qrnn_dot_mve.h. Registers as there, and
 * r7 y, r11 the end of the highs; the planes, the row and the end of the rows are on the stack, where the caller put the row, the number of
 * blocks and y. */
#define QRNN_WIDE_BLOCKS(store, biases)                                                                              \
    "push {r1, r2, r4-r8, r10, r11, lr}\n\tmov r5, r0\n\tadd r11, r1, r3\n\tldr r7, [sp, #48]\n\t"                    \
    "ldrd r4, r6, [sp, #40]\n\tadd r6, r4, r6, lsl #" QRNN_LOG_##biases "\n\tstr r6, [sp, #44]\n"                                        \
    "2:\n\tldrd r1, r3, [sp]\n\t" QRNN_PLANES_ENTER                                                                  \
    "1:\n\t" QRNN_PLANES_COLUMNS "3:\n\t" QRNN_PLANES_COLUMNS "cmp r1, r11\n\tbne 1b\n\t" QRNN_PLANES_END            \
    "ldr r1, [sp, #40]\n\t" QRNN_ADD_##biases("q2", "r1") "vldrw.32 q3, [r1], #16\n\tvrmulh.s32 q2, q2, q3\n\t"     \
    store("q2", "r7") "ldr r0, [sp, #44]\n\tstr r1, [sp, #40]\n\tcmp r1, r0\n\tbne 2b\n\t"                           \
    "pop {r1, r2, r4-r8, r10, r11, pc}"
#endif

/* NAME(matrix, weight, operand, row, blocks, y) writes requantize(sum over k of weight[r, k] * operand[k] + bias[r]) of the rows of `blocks`
 * blocks, at least one, by `store`. */
#ifdef QRNN_USE_NARROW
#define QRNN_BLOCKS_FUNCTION(name, type, body)                                                                       \
    QRNN_NAKED void                                                                                                  \
    name(const int8_t *weight __attribute__((unused)), const int8_t *operand __attribute__((unused)),                \
         uint32_t block_bytes __attribute__((unused)), const int8_t *operand_end __attribute__((unused)),            \
         const int32_t *row __attribute__((unused)), const int32_t *row_end __attribute__((unused)),                 \
         type *y __attribute__((unused)))                                                                            \
    {                                                                                                                \
        __asm__ __volatile__(body : : : "r0", "r1", "r2", "r3", "r12", "q0", "q1", "q2", "q3", "cc", "memory");      \
    }
#define QRNN_DEFINE_NARROW(name, type, store, biases)                                                                        \
    QRNN_BLOCKS_FUNCTION(name##_pairs, type, QRNN_PAIRS(store, biases))                                                      \
    QRNN_BLOCKS_FUNCTION(name##_last, type, QRNN_LAST_BLOCK(store, biases))                                                  \
    QRNN_FOR_EACH_LAYER void name(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t *row,  \
                                     uint32_t blocks, type *y)                                                       \
    {                                                                                                                \
        int32_t s0;                                                                                                  \
        int32_t s1;                                                                                                  \
        int32_t s2;                                                                                                  \
        int32_t s3;                                                                                                  \
        if (columns == 16U) {                                                                                        \
            QRNN_FEW(QRNN_LOAD_16, QRNN_FEW_16, store, biases);                                                              \
        } else if (columns == 32U) {                                                                                 \
            QRNN_FEW(QRNN_LOAD_32, QRNN_FEW_32, store, biases);                                                              \
            QRNN_MORE_FEW(store, biases)                                                                                     \
        } else {                                                                                                     \
            const int8_t *const x = (const int8_t *)operand;                                                         \
            const uint32_t paired = blocks & ~1U;                                                                    \
            const int32_t *const end = &row[QRNN_NUMBERS_##biases * paired];                                                            \
            if (paired != 0U) {                                                                                      \
                name##_pairs(weight, x, 4U * columns, x + columns, row, end, y);                                     \
            }                                                                                                        \
            if (paired != blocks) {                                                                                  \
                name##_last(weight + 4U * columns * paired, x, 4U * columns, x + columns, end, end + QRNN_NUMBERS_##biases, y + 4U * paired); \
            }                                                                                                        \
        }                                                                                                            \
    }
#else
#define QRNN_DEFINE_NARROW(name, type, store, biases)
#endif
#ifdef QRNN_USE_WIDE
#define QRNN_DEFINE_WIDE(name, type, store, biases)                                                                          \
    QRNN_NAKED void                                                                                                  \
    name##_planes(const int8_t *weight __attribute__((unused)), const int8_t *high __attribute__((unused)),          \
                  const int8_t *low __attribute__((unused)), uint32_t columns __attribute__((unused)),               \
                  const int32_t *row __attribute__((unused)), uint32_t blocks __attribute__((unused)),               \
                  type *y __attribute__((unused)))                                                                   \
    {                                                                                                                \
        __asm__ __volatile__(QRNN_WIDE_BLOCKS(store, biases)                                                                 \
                             : : : "r0", "r1", "r2", "r3", "r12", "q0", "q1", "q2", "q3", "cc", "memory");           \
    }                                                                                                                \
    QRNN_FOR_EACH_LAYER void name(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t *row,    \
                                   uint32_t blocks, type *y)                                                         \
    {                                                                                                                \
        const int8_t *const high = (const int8_t *)operand;                                                          \
        name##_planes(weight, high, high + QRNN_PLANE(columns), columns, row, blocks, y);                            \
    }
#else
#define QRNN_DEFINE_WIDE(name, type, store, biases)
#endif

#ifdef QRNN_USE_ROWS
QRNN_DEFINE_BLOCKS(qrnn_block_sums, int32_t, QRNN_STORE_WORDS)
#endif
#endif

#endif
