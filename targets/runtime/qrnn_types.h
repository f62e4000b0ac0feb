/* SPDX-License-Identifier: Apache-2.0 */
/* What an exported model is made of. Words and letters are those of qrnn's docs/arithmetic.md ("the contract"). */
#ifndef QRNN_TYPES_H
#define QRNN_TYPES_H

#if !defined(__cplusplus) && !defined(_MSC_VER)
#if !defined(__STDC_VERSION__) || (__STDC_VERSION__ < 199901L)
#error "qrnn: this is C99; compile it with -std=c99 or newer"
#endif
#elif defined(__cplusplus) && !defined(_MSC_VER)
#if __cplusplus < 201103L
#error "qrnn: as C++ this needs C++11; compile it with -std=c++11 or newer, or as C"
#endif
#endif

#include <stddef.h>
#include <stdint.h>

#if defined(__BYTE_ORDER__) && defined(__ORDER_LITTLE_ENDIAN__)
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "qrnn: the weights are packed for little-endian processors, and this one is compiled as big-endian"
#endif
#elif defined(__BIG_ENDIAN__) || defined(__ARM_BIG_ENDIAN) || defined(__BIG_ENDIAN)
#error "qrnn: the weights are packed for little-endian processors, and this one is compiled as big-endian"
#endif

/* The code relies on 8-bit bytes and on integers in two's complement, which <stdint.h> guarantees where it has int8_t, int16_t and int32_t.
 * C leaves >> of a negative number to the compiler; the contract needs floor(x / 2^s). An array of -1 elements does not compile. */
typedef char qrnn_shifts_are_arithmetic[((INT32_C(-3) >> 1) == INT32_C(-2)) ? 1 : -1];

/* The Arm instruction set that this file is compiled for, where it is a 32-bit one. What a core could execute in another state does not
 * count: a Cortex-A in Arm state has Thumb-2, but its assembler takes none of it now. */
#if defined(__ARM_ARCH_ISA_THUMB) && !defined(__aarch64__) && !defined(__ARM_64BIT_STATE)
#if (__ARM_ARCH_ISA_THUMB == 1) && (defined(__thumb__) || !defined(__ARM_ARCH_ISA_ARM))
#define QRNN_ARM_THUMB_1 /* Cortex-M0, M0+, M23; Arm926 and Arm1176 in Thumb state */
#elif (__ARM_ARCH_ISA_THUMB >= 2) && (defined(__thumb__) || !defined(__ARM_ARCH_ISA_ARM))
#define QRNN_ARM_THUMB_2 /* Cortex-M3 and up; Cortex-A and Cortex-R in Thumb state */
#else
#define QRNN_ARM_ARM /* Arm state */
#endif
#endif

/* Some instructions, and loops, are assembly where the compiler takes GNU C's. QRNN_NO_ASSEMBLY leaves them to the compiler.
 *
 * A loop has at most 12 operands and clobbered registers, and names none of r6, r7, r9 and r11: an optimizing compiler has so many left,
 * also where it keeps a frame pointer and r9. One that does not optimize may need more of them for itself, and gets C. */
#if defined(__GNUC__) && !defined(QRNN_NO_ASSEMBLY)
#define QRNN_GNU_ASSEMBLY
#if defined(__OPTIMIZE__)
#define QRNN_ASSEMBLY_LOOPS
#endif
#endif

/* A dot product. LLVM's allocator would not find the registers of an assembly loop in a large function. GCC finds those of the largest
 * loop, QRNN_WIDE_DOT, in whatever way it is called where this keeps no frame pointer; that is GCC's default, but not everyone's. */
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2) && defined(__clang__)
#define QRNN_DOT static __attribute__((noinline))
#define QRNN_WIDE_DOT QRNN_DOT
#elif defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2)
#define QRNN_DOT static
#define QRNN_WIDE_DOT static __attribute__((optimize("omit-frame-pointer")))
#else
#define QRNN_DOT static
#define QRNN_WIDE_DOT static
#endif

/* A function whose body is one assembly statement, from its arguments' registers to its return, where more registers are needed than a
 * statement may take from a compiler. Nothing that a compiler finds out about such a body is true of it: that parameters are not read, that
 * what they point to is not, that registers are left as they were. GCC has an attribute that says so, and Clang does not look. */
#if defined(__GNUC__) && !defined(__clang__) && (__GNUC__ >= 8)
#define QRNN_NAKED static __attribute__((naked, noinline, noipa))
#elif defined(__GNUC__)
#define QRNN_NAKED static __attribute__((naked, noinline, used))
#endif

/* Compilers for bare cores may come without <string.h>. Where size_t has 16 bits, a number of bytes that is computed on uint32_t fits it too. */
#if defined(__GNUC__)
#define QRNN_COPY(to, from, bytes) ((void)__builtin_memcpy((to), (from), (__SIZE_TYPE__)(bytes)))
#define QRNN_CLEAR(to, bytes) ((void)__builtin_memset((to), 0, (__SIZE_TYPE__)(bytes)))
#else
#include <string.h>
#define QRNN_COPY(to, from, bytes) ((void)memcpy((to), (from), (size_t)(bytes)))
#define QRNN_CLEAR(to, bytes) ((void)memset((to), 0, (size_t)(bytes)))
#endif

/* Constants of the model lie in flash. An AVR reaches its flash by instructions of its own, and its compiler through a type; other cores
 * reach it as they reach RAM. Without GNU's dialect of C (-std=gnu99 or newer) the constants of an AVR lie in RAM. */
#if defined(__AVR__) && defined(__FLASH)
#define QRNN_FLASH __flash
#pragma GCC diagnostic ignored "-Wuninitialized" /* GCC 5 says it of constants that it has folded */
#define QRNN_COPY_CONSTANT(to, from, bytes) qrnn_copy_constant((to), (from), (uint16_t)(bytes))
static inline void qrnn_copy_constant(void *to, const QRNN_FLASH void *from, uint16_t bytes)
{
    uint8_t *next = (uint8_t *)to;
    const QRNN_FLASH uint8_t *byte = (const QRNN_FLASH uint8_t *)from;
    for (; bytes != 0U; bytes--) {
        *next++ = *byte++;
    }
}
#else
#define QRNN_FLASH
#define QRNN_COPY_CONSTANT(to, from, bytes) QRNN_COPY(to, from, bytes)
#endif

/* A function that is compiled anew for each layer, with the layer's constants in place of what it reads from structs; -Os has it once. */
#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
#define QRNN_FOR_EACH_LAYER static inline __attribute__((always_inline))
#else
#define QRNN_FOR_EACH_LAYER static
#endif

/* A function that is always a part of the one that calls it, since this makes constants of its arguments. */
#if defined(__GNUC__)
#define QRNN_ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define QRNN_ALWAYS_INLINE static inline
#endif

/* A function that is no part of the one that calls it, where a compiler would keep the caller's variables in registers that its loops
 * should have; and one with copies of its own of what it calls, which is the same where its innermost loop is C. */
#if defined(__GNUC__)
#define QRNN_APART static __attribute__((noinline))
#else
#define QRNN_APART static
#endif
#if defined(QRNN_ASSEMBLY_LOOPS) && defined(QRNN_ARM_THUMB_2) && !defined(__OPTIMIZE_SIZE__)
#define QRNN_WHOLE static __attribute__((flatten))
#else
#define QRNN_WHOLE QRNN_APART
#endif

/* Before a loop that is to stay one: GCC repeats the body of a loop whose count it knows, until the vectors no longer fit the registers. */
#if defined(__GNUC__) && !defined(__clang__) && (__GNUC__ >= 8)
#define QRNN_AS_A_LOOP _Pragma("GCC unroll 1")
#else
#define QRNN_AS_A_LOOP
#endif

/* Where the numbers of a model lie: weights with tables of embeddings, and all else (biases, tables of gate functions). Each stands between
 * an array and its initializer, where GCC, Clang and Arm's compiler take __attribute__((section("name"))) and IAR takes @ "name". Empty:
 * where constants lie. GCC puts what is QRNN_FLASH on an AVR into the section of its flash, whatever these say. */
#ifndef QRNN_WEIGHTS
#define QRNN_WEIGHTS
#endif
#ifndef QRNN_CONSTANTS
#define QRNN_CONSTANTS
#endif

/* Where the time goes: a build that measures gives this a meaning. */
#ifndef QRNN_PHASE
#define QRNN_PHASE(phase) ((void)0)
#endif
#define QRNN_PHASE_INPUT 0U /* W x, requantized */
#define QRNN_PHASE_STATE 1U /* R h, requantized */
#define QRNN_PHASE_GATES 2U /* gate functions and the new state */
#define QRNN_PHASE_OTHER 3U /* operands, heads, the way there and back */
#define QRNN_PHASE_WINDOWS 4U /* convolutions and pools */

/* Rows of a block: what one dot product call computes. Where products go through vectors, as many as a vector has lanes. */
#ifndef QRNN_BLOCK_ROWS
#define QRNN_BLOCK_ROWS 4U
#endif
#if QRNN_BLOCK_ROWS == 4U
typedef uint16_t qrnn_block_bytes;
#else
typedef uint32_t qrnn_block_bytes;
#endif

/* Rows of weights with what requantizes their sums. Rows stand in blocks of QRNN_BLOCK_ROWS; short last blocks are filled up with zeros. */
typedef struct {
    const QRNN_FLASH uint32_t *weight;    /* [blocks][bytes of a block], laid out as the dot product reads them; or lists */
    const QRNN_FLASH int32_t *row;        /* [blocks][2][rows of a block]: biases, multipliers; without either [blocks][rows]; or NULL */
    const QRNN_FLASH uint32_t *short_bias; /* [blocks][rows / 2], pairs of biases / 2^bias_shift, where `biases` is QRNN_SHORT_BIASES */
    const QRNN_FLASH uint32_t *short_multiplier; /* [blocks][rows / 2], pairs of multipliers / 2^multiplier_shift, or NULL */
    const QRNN_FLASH uint8_t *left_shift; /* [blocks][rows], NULL where all are 0 */
    const QRNN_FLASH uint8_t *pre_shift;  /* [blocks][rows], NULL where all are 0 */
    uint16_t columns;          /* of a row, with its padding */
    qrnn_block_bytes block_bytes; /* of weights */
    uint8_t wide;              /* operands have 16 bits */
    uint8_t raw;               /* operands of 8 bits are int16, two to a word: qrnn_dot_mla.h */
    uint8_t four;              /* weights have four bits, and a scale for 32 columns of a row */
    uint8_t biases;            /* QRNN_NO_BIASES where all are 0, QRNN_LONG_BIASES: in `row`, or QRNN_SHORT_BIASES */
    uint8_t bias_shift;
    uint8_t multiplier_shift;  /* 0, or multipliers are 2^multiplier_shift times those of short_multiplier */
    uint8_t lists;             /* QRNN_NO_LISTS, or what lists there are of tiles that are not all zero: qrnn_lists.h */
    uint8_t halves;            /* weights are stored as halfwords: qrnn_dot_dsp.h */
} qrnn_matrix;

enum { QRNN_NO_BIASES = 0, QRNN_LONG_BIASES = 1, QRNN_SHORT_BIASES = 2 };
enum { QRNN_NO_LISTS = 0, QRNN_LISTS_OF_TILES = 1, QRNN_LISTS_OF_ROWS = 2 };

/* The numbers of a block that `row` has: with biases twice as many as rows. QRNN_USE_NO_BIASES: a matrix of the model has none there. */
#if defined(QRNN_USE_BIASES) && defined(QRNN_USE_NO_BIASES)
#define QRNN_ROW_NUMBERS(matrix) (((matrix)->biases == (uint8_t)QRNN_LONG_BIASES) ? (2U * QRNN_BLOCK_ROWS) : QRNN_BLOCK_ROWS)
#elif defined(QRNN_USE_NO_BIASES)
#define QRNN_ROW_NUMBERS(matrix) QRNN_BLOCK_ROWS
#else
#define QRNN_ROW_NUMBERS(matrix) (2U * QRNN_BLOCK_ROWS)
#endif
/* the same of any matrix, where some have multipliers elsewhere */
#if defined(QRNN_USE_SHORT_MULTIPLIERS)
#define QRNN_ROW_STRIDE(matrix) (QRNN_ROW_NUMBERS(matrix) - (((matrix)->multiplier_shift != 0U) ? QRNN_BLOCK_ROWS : 0U))
#else
#define QRNN_ROW_STRIDE(matrix) QRNN_ROW_NUMBERS(matrix)
#endif

/* Calls NAME_wide or NAME_narrow, the loops over whole blocks of rows, for the operands that `matrix` has, or NAME_…_bare, those of rows without
 * biases. */
#if defined(QRNN_USE_BIASES) && defined(QRNN_USE_NO_BIASES)
#define QRNN_CALL_BLOCKS_OF(name)                                                                                    \
    if (matrix->biases != 0U) {                                                                                      \
        name(weight, operand, matrix->columns, row, blocks, y);                                                      \
    } else {                                                                                                         \
        name##_bare(weight, operand, matrix->columns, row, blocks, y);                                               \
    }
#elif defined(QRNN_USE_NO_BIASES)
#define QRNN_CALL_BLOCKS_OF(name) name##_bare(weight, operand, matrix->columns, row, blocks, y);
#else
#define QRNN_CALL_BLOCKS_OF(name) name(weight, operand, matrix->columns, row, blocks, y);
#endif
#if defined(QRNN_USE_NARROW) && defined(QRNN_USE_WIDE)
#define QRNN_CALL_BLOCKS(name)                                                                                       \
    if (matrix->wide != 0U) {                                                                                        \
        QRNN_CALL_BLOCKS_OF(name##_wide)                                                                             \
    } else {                                                                                                         \
        QRNN_CALL_BLOCKS_OF(name##_narrow)                                                                           \
    }
#elif defined(QRNN_USE_WIDE)
#define QRNN_CALL_BLOCKS(name) QRNN_CALL_BLOCKS_OF(name##_wide)
#else
#define QRNN_CALL_BLOCKS(name) QRNN_CALL_BLOCKS_OF(name##_narrow)
#endif

/* NAME(matrix, …) and what it calls, which store by `store`; QRNN_DEFINE_NARROW and QRNN_DEFINE_WIDE are those of qrnn_blocks_….h: they define
 * a function that ends a block as BIASED or BARE. */
#if defined(QRNN_USE_NO_BIASES)
#define QRNN_DEFINE_BARE(name, type, store)                                                                          \
    QRNN_DEFINE_NARROW(name##_narrow_bare, type, store, BARE)                                                   \
    QRNN_DEFINE_WIDE(name##_wide_bare, type, store, BARE)
#else
#define QRNN_DEFINE_BARE(name, type, store)
#endif
#if defined(QRNN_USE_BIASES) || !defined(QRNN_USE_NO_BIASES)
#define QRNN_DEFINE_BIASED(name, type, store)                                                                        \
    QRNN_DEFINE_NARROW(name##_narrow, type, store, BIASED)                                                      \
    QRNN_DEFINE_WIDE(name##_wide, type, store, BIASED)
#else
#define QRNN_DEFINE_BIASED(name, type, store)
#endif
#define QRNN_DEFINE_BLOCKS(name, type, store)                                                                        \
    QRNN_DEFINE_BARE(name, type, store)                                                                              \
    QRNN_DEFINE_BIASED(name, type, store)                                                                            \
    QRNN_FOR_EACH_LAYER void name(const qrnn_matrix *matrix, const int8_t *weight, const uint32_t *operand, const int32_t *row, uint32_t blocks,  \
                            type *y)                                                                                 \
    {                                                                                                                \
        QRNN_CALL_BLOCKS(name)                                                                                       \
    }

/* QRNN_OPERANDS_IN_PLACE: a state may become its own operands, of 8 bits, or for the DSP extension of 16. Each operand is written to where its
 * value was or before, as bytes; only assembly reads it from there. */

/* How an int16 vector becomes the operands of a matrix: to_operand(x, shift, limit). */
typedef struct {
    uint16_t limit;
    uint8_t shift;
    uint8_t wide;
    uint8_t four; /* for weights of four bits */
} qrnn_operand_format;

/* A gate function, section 3 of the contract. */
typedef struct {
    const QRNN_FLASH int16_t *table;      /* ODD */
    const QRNN_FLASH int32_t *wide_table; /* TABLE */
    int32_t value[5];          /* the five parameters of the kind, in the contract's order */
    uint8_t kind;              /* a qrnn_gate_kind */
} qrnn_gate;

/* One direction of a recurrent layer. Blocks of its matrices: [unit / rows][gate][unit % rows], for the rows of a block. */
typedef struct {
    qrnn_matrix ih;                  /* W, from the layer's input */
    qrnn_matrix hh;                  /* R, from the state */
    const QRNN_FLASH qrnn_gate *gate;           /* a function for each gate in the blocks' order, and for LSTM one more, of the cell */
    const QRNN_FLASH int16_t *peephole;         /* [blocks][rows] weights, or NULL */
    const QRNN_FLASH uint8_t *peephole_shift;   /* [blocks][rows] */
    uint16_t units;                  /* H */
    uint16_t h_limit;                /* GRU with linear_before_reset = 0: of the operand of r*h; */
    uint8_t h_shift;                 /* its shift */
    uint8_t forget;                  /* LSTM: QRNN_FORGET_GATE, QRNN_FORGET_ONE or QRNN_FORGET_COUPLED */
    uint8_t input_frac;              /* LSTM: fraction bits of i */
    uint8_t forget_frac;             /* LSTM: of f */
    uint8_t product_shift;           /* LSTM: i*g to the cell's fraction bits */
    uint8_t argument_shift;          /* LSTM: c to the output function's argument */
    uint8_t reset_frac;              /* GRU: fraction bits of r */
    uint8_t update_frac;             /* GRU: of z */
    uint8_t candidate_shift;         /* GRU: n to the state's fraction bits */
    uint8_t hidden_shift;            /* LSTM and RNN: to the state's fraction bits */
} qrnn_cell;

enum { QRNN_FORGET_GATE = 0, QRNN_FORGET_ONE = 1, QRNN_FORGET_COUPLED = 2 };

#endif
