/* SPDX-License-Identifier: Apache-2.0 */
/* What convolutions and pools do with neighbouring channels, for Arm Helium (Cortex-M55, M85). */
#ifndef QRNN_CHANNELS_H
#define QRNN_CHANNELS_H

#include "qrnn_dot_mve.h"

/* to_operand of `count` values, or zeros where there are none */
static inline void qrnn_keep_operands(const int16_t *values, uint32_t count, qrnn_operand_format format, int16_t *to)
{
    if (values == NULL) {
        QRNN_CLEAR(to, count * sizeof(*to));
        return;
    }
    for (; count >= 8U; count -= 8U) {
        vstrhq_s16(to, qrnn_clamp_operands(vldrhq_s16(values), format.shift, format.limit));
        values += 8;
        to += 8;
    }
    if (count != 0U) {
        vstrhq_p_s16(to, qrnn_operands(values, count, format.shift, format.limit), vctp16q(count));
    }
}

/* y = max(x, y) */
static inline void qrnn_take_largest(const int16_t *x, uint32_t count, int16_t *y)
{
    for (; count >= 8U; count -= 8U) {
        vstrhq_s16(y, vmaxq_s16(vldrhq_s16(x), vldrhq_s16(y)));
        x += 8;
        y += 8;
    }
    if (count != 0U) {
        const mve_pred16_t lanes = vctp16q(count);
        vstrhq_p_s16(y, vmaxq_s16(vldrhq_z_s16(x, lanes), vldrhq_z_s16(y, lanes)), lanes);
    }
}

#define QRNN_CHANNELS 8U /* channels of a depthwise convolution that are computed at a time; constants are those of even ones, then of odd */

typedef struct {
    int32x4_t even;
    int32x4_t odd;
} qrnn_channels;

static inline qrnn_channels qrnn_channels_begin(const int32_t *bias)
{
    const qrnn_channels sums = {vldrwq_s32(bias), vldrwq_s32(&bias[4])};
    return sums;
}

/* The products of a tap with `count` channels; no values are read beyond. */
static inline void qrnn_channels_add(qrnn_channels *sums, const int8_t *weight, const int16_t *x, uint32_t count)
{
    const int16x8_t w = vldrbq_s16(weight);
    const int16x8_t values = (count < QRNN_CHANNELS) ? vldrhq_z_s16(x, vctp16q(count)) : vldrhq_s16(x);

    sums->even = vaddq_s32(sums->even, vmullbq_int_s16(w, values));
    sums->odd = vaddq_s32(sums->odd, vmulltq_int_s16(w, values));
}

/* saturate16_shifted(requantize(sum, multiplier, left_shift), pre_shift), of which the last saturation is left where pre_shift is NULL */
static inline int32x4_t qrnn_channels_requantize(int32x4_t sum, const int32_t *multiplier, const uint8_t *left_shift,
                                                 const uint8_t *pre_shift)
{
    if (left_shift != NULL) {
        sum = vshlq_s32(sum, vreinterpretq_s32_u32(vldrbq_u32(left_shift)));
    }
    sum = vrmulhq_s32(sum, vldrwq_s32(multiplier));
    if (pre_shift != NULL) {
        const int32x4_t left = vreinterpretq_s32_u32(vldrbq_u32(pre_shift));
        const int32x4_t right = vnegq_s32(left);
        const int32x4_t high = vshlq_s32(vdupq_n_s32(32767), right);
        const int32x4_t low = vshlq_s32(vdupq_n_s32(-32768), right);
        sum = vshlq_s32(vmaxq_s32(vminq_s32(sum, high), low), left);
    }
    return sum;
}

/* y = saturate16_shifted(requantize(sums, multiplier, left_shift), pre_shift) of `count` channels */
static inline void qrnn_channels_end(const qrnn_channels *sums, const int32_t *multiplier, const uint8_t *left_shift,
                                     const uint8_t *pre_shift, uint32_t count, int16_t *y)
{
    const int32x4_t even = qrnn_channels_requantize(sums->even, multiplier, left_shift, pre_shift);
    const int32x4_t odd = qrnn_channels_requantize(sums->odd, &multiplier[4], (left_shift == NULL) ? NULL : &left_shift[4],
                                                   (pre_shift == NULL) ? NULL : &pre_shift[4]);
    const int16x8_t both = vqmovntq_s32(vqmovnbq_s32(vdupq_n_s16(0), even), odd);

    if (count >= QRNN_CHANNELS) {
        vstrhq_s16(y, both);
    } else {
        vstrhq_p_s16(y, both, vctp16q(count));
    }
}

/* the same of a block of four rows of a matrix */
static inline void qrnn_write_block(const int32_t sums[4], const int32_t multiplier[4], const uint8_t *left_shift,
                                    const uint8_t *pre_shift, uint32_t count, int16_t *y)
{
    const int32x4_t value = qrnn_channels_requantize(vldrwq_s32(sums), multiplier, left_shift, pre_shift);
    const int32x4_t low = vreinterpretq_s32_s16(vqmovnbq_s32(vreinterpretq_s16_s32(value), value));

    if (count >= 4U) {
        vstrhq_s32(y, low);
    } else {
        vstrhq_p_s32(y, low, vctp32q(count));
    }
}

#ifdef QRNN_USE_COLUMNS
#if defined(QRNN_ASSEMBLY) && (defined(QRNN_USE_NARROW) || defined(QRNN_USE_WIDE))
/* Whole blocks of rows, which are shifted neither before nor after, and weights of eight bits: in one loop, since a compiler takes more
 * instructions for what stands between the products than the products of short rows take. */
#define QRNN_WHOLE_BLOCKS

static inline int qrnn_takes_whole_blocks(const qrnn_matrix *matrix)
{
    return (matrix->four == 0U) && (matrix->left_shift == NULL) && (matrix->pre_shift == NULL) &&
           ((matrix->wide == 0U) || (matrix->columns > 16U));
}

#define QRNN_BLOCK_BEGIN "ldrd %[s0], %[s1], [%[row]], #8\n\tldrd %[s2], %[s3], [%[row]], #8\n\t"
#define QRNN_BLOCK_ROW(x, sum) "vldrb.8 q2, [%[weight]], #16\n\tvmladava.s8 %[" sum "], q2, " x "\n\t"
#define QRNN_BLOCK_COLUMNS(x) QRNN_BLOCK_ROW(x, "s0") QRNN_BLOCK_ROW(x, "s1") QRNN_BLOCK_ROW(x, "s2") QRNN_BLOCK_ROW(x, "s3")
#define QRNN_BLOCK_END                                                                                               \
    "vmov q3[2], q3[0], %[s0], %[s2]\n\tvmov q3[3], q3[1], %[s1], %[s3]\n\t"                                        \
    "vldrw.32 q2, [%[row]], #16\n\tvrmulh.s32 q3, q3, q2\n\tvqmovnb.s32 q3, q3\n\tvstrh.32 q3, [%[y]], #8\n\t"

#ifdef QRNN_USE_NARROW
/* y = saturate16(requantize(sum over k of weight[r, k] * operand[k] + bias[r])) of the rows of `blocks` blocks, at least one */
static inline void qrnn_blocks(const int8_t *weight, const uint32_t *operand, uint32_t columns, const int32_t *row, uint32_t blocks, int16_t *y)
{
    int32_t s0;
    int32_t s1;
    int32_t s2;
    int32_t s3;

    if (columns == 32U) { /* the operands stay in registers */
        __asm__ __volatile__("vldrb.8 q0, [%[operand]]\n\tvldrb.8 q1, [%[operand], #16]\n\tdls lr, %[blocks]\n1:\n\t"
                             QRNN_BLOCK_BEGIN QRNN_BLOCK_COLUMNS("q0") QRNN_BLOCK_COLUMNS("q1") QRNN_BLOCK_END "le lr, 1b"
                             : [weight] "+r"(weight), [row] "+r"(row), [y] "+l"(y), [s0] "=&Te"(s0), [s1] "=&Te"(s1),
                               [s2] "=&Te"(s2), [s3] "=&Te"(s3)
                             : [operand] "r"(operand), [blocks] "r"(blocks)
                             : "q0", "q1", "q2", "q3", "lr", "cc", "memory");
    } else {
        const uint32_t *x;

        __asm__ __volatile__("1:\n\t" QRNN_BLOCK_BEGIN
                             "mov %[x], %[operand]\n\tdls lr, %[times]\n2:\n\tvldrb.8 q0, [%[x]], #16\n\t" QRNN_BLOCK_COLUMNS("q0")
                             "le lr, 2b\n\t" QRNN_BLOCK_END "subs %[blocks], %[blocks], #1\n\tbne 1b"
                             : [weight] "+r"(weight), [row] "+r"(row), [y] "+l"(y), [s0] "=&Te"(s0), [s1] "=&Te"(s1),
                               [s2] "=&Te"(s2), [s3] "=&Te"(s3), [x] "=&r"(x), [blocks] "+r"(blocks)
                             : [operand] "r"(operand), [times] "r"(columns / 16U)
                             : "q0", "q2", "q3", "lr", "cc", "memory");
    }
}
#endif

#ifdef QRNN_USE_WIDE
#ifdef QRNN_EVEN_ROWS
#define QRNN_PLANES_ENTER QRNN_PLANES_BEGIN "b 3f\n"
#else /* after the first sixteen columns an odd number of sixteens is left where the columns are an even number of them */
#define QRNN_PLANES_ENTER "sub r0, r11, r1\n\ttst r0, #16\n\t" QRNN_PLANES_BEGIN "beq 3f\n"
#endif

/* The same with operands of 16 bits, whose planes are `high` and `low`, and more than 16 columns. Registers as in qrnn_dot_mve.h, and r7 y, r11 the end of the highs;
 * the planes, the row and the end of the rows are on the stack, where the caller put the row, the number of blocks and y. */
QRNN_NAKED void
qrnn_blocks_wide(const int8_t *weight __attribute__((unused)), const int8_t *high __attribute__((unused)),
                 const int8_t *low __attribute__((unused)), uint32_t columns __attribute__((unused)),
                 const int32_t *row __attribute__((unused)), uint32_t blocks __attribute__((unused)),
                 int16_t *y __attribute__((unused)))
{
    __asm__ __volatile__("push {r1, r2, r4-r8, r10, r11, lr}\n\tmov r5, r0\n\tadd r11, r1, r3\n\tldr r7, [sp, #48]\n\t"
            "ldrd r4, r6, [sp, #40]\n\tadd r6, r4, r6, lsl #5\n\tstr r6, [sp, #44]\n"
            "2:\n\tldrd r1, r3, [sp]\n\t" QRNN_PLANES_ENTER
            "1:\n\t" QRNN_PLANES_COLUMNS "3:\n\t" QRNN_PLANES_COLUMNS "cmp r1, r11\n\tbne 1b\n\t" QRNN_PLANES_END
            "ldr r1, [sp, #40]\n\tvldrw.32 q3, [r1], #16\n\tvadd.i32 q2, q2, q3\n\tvldrw.32 q3, [r1], #16\n\tvrmulh.s32 q2, q2, q3\n\t"
            "vqmovnb.s32 q2, q2\n\tvstrh.32 q2, [r7], #8\n\tldr r0, [sp, #44]\n\tstr r1, [sp, #40]\n\tcmp r1, r0\n\tbne 2b\n\t"
            "pop {r1, r2, r4-r8, r10, r11, pc}"
            :
            :
            : "r0", "r1", "r2", "r3", "r12", "q0", "q1", "q2", "q3", "cc", "memory");
}
#endif

static inline void qrnn_whole_blocks(const qrnn_matrix *matrix, const int8_t *weight, const uint32_t *operand, const int32_t *row,
                                     uint32_t blocks, int16_t *y)
{
#ifdef QRNN_USE_WIDE
#ifdef QRNN_USE_NARROW
    if (matrix->wide == 0U) {
        qrnn_blocks(weight, operand, matrix->columns, row, blocks, y);
        return;
    }
#endif
    qrnn_blocks_wide(weight, (const int8_t *)operand, (const int8_t *)operand + QRNN_PLANE(matrix->columns), matrix->columns, row,
                     blocks, y);
#else
    qrnn_blocks(weight, operand, matrix->columns, row, blocks, y);
#endif
}
#endif

/* Operands that lie in several places become one vector, as qrnn_dot_mve.h has it: begin, then put all columns in whatever order, then end. */
static inline void qrnn_begin_columns(uint32_t *operand)
{
    (void)operand;
}

/* Less than eight columns; `wide` is the number of bytes of a plane of operands of 16 bits, or 0. Operands of
 * 16 bits go one by one, since GCC 12 takes one of two stores of some lanes into one array for a store that nobody reads. */
static inline void qrnn_put_rest(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    int8_t *const to = (int8_t *)operand + column;

    if (wide != 0u) {
        for (uint32_t k = 0; k < count; k++) {
            to[k] = (int8_t)(from[k] >> 8);
            to[wide + k] = (int8_t)((from[k] & 255) - 128);
        }
    } else {
        const mve_pred16_t lanes = vctp16q(count);
        vstrbq_p_s16(to, vldrhq_z_s16(from, lanes), lanes);
    }
}

static inline void qrnn_put_whole_eight(uint32_t *operand, uint32_t wide, uint32_t column, int16x8_t x)
{
    int8_t *const to = (int8_t *)operand + column;

    if (wide != 0u) {
        qrnn_split(x, to, to + wide);
    } else {
        vstrbq_s16(to, x);
    }
}

static inline void qrnn_put_columns(uint32_t *operand, uint32_t wide, uint32_t column, const int16_t *from, uint32_t count)
{
    uint32_t k = 0;

    for (; k + 8u <= count; k += 8u) {
        qrnn_put_whole_eight(operand, wide, column + k, vldrhq_s16(&from[k]));
    }
    if (k < count) {
        qrnn_put_rest(operand, wide, column + k, &from[k], count - k);
    }
}

#define QRNN_KEEPS_COLUMNS

/* `qrnn_keep_operands`, of which the columns are put too */
static inline void qrnn_keep_columns(const int16_t *values, uint32_t count, qrnn_operand_format format, int16_t *to, uint32_t *operand,
                                     uint32_t wide)
{
    uint32_t column = 0;

    if (values == NULL) {
        qrnn_keep_operands(values, count, format, to);
        qrnn_put_columns(operand, wide, 0u, to, count);
        return;
    }
    for (; column + 8u <= count; column += 8u) {
        const int16x8_t x = qrnn_clamp_operands(vldrhq_s16(&values[column]), format.shift, format.limit);

        vstrhq_s16(&to[column], x);
        qrnn_put_whole_eight(operand, wide, column, x);
    }
    if (column != count) {
        const uint32_t rest = count - column;

        vstrhq_p_s16(&to[column], qrnn_operands(&values[column], rest, format.shift, format.limit), vctp16q(rest));
        qrnn_put_rest(operand, wide, column, &to[column], rest);
    }
}

static inline void qrnn_put_zeros(uint32_t *operand, uint32_t wide, uint32_t column, uint32_t count)
{
    QRNN_CLEAR((uint8_t *)operand + column, count);
    if (wide != 0u) {
        int8_t *const low = (int8_t *)operand + wide + column;
        uint32_t k = 0;

        for (; k + 8u <= count; k += 8u) {
            vstrbq_s16(&low[k], vdupq_n_s16(-128));
        }
        for (; k < count; k++) {
            low[k] = -128;
        }
    }
}

static inline void qrnn_end_columns(uint32_t *operand, uint32_t columns, uint32_t four)
{
    (void)operand;
    (void)columns;
    (void)four;
}
#endif

#endif
