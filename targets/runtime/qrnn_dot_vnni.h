/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of AVX-512 with VNNI (x86-64-v4): sixteen int32 lanes, which are the rows of a block of weights or the units of a cell.
 *
 * VPDPBUSD multiplies four bytes without a sign by four with a sign and adds the products to an int32, modulo 2^32. Operands of 8 bits are
 * bytes x + 128; those of 16 bits two planes of bytes, x + 2^15 = 2^8 high + low, so that a load of weights serves both. The biases of rows
 * have 128 or 2^15 times the sum of their weights less. Weights: four columns by four columns, row by row four bytes.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <immintrin.h>
#include "qrnn_contract.h"

/* GCC's own header of AVX-512 passes undefined values on purpose, and at -O0 its gathers are macros that convert 0xFFFF to a signed mask. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif

#define QRNN_COLUMNS 16U
#define QRNN_GROUP 4U /* columns of one call of qrnn_vector_products */
#define QRNN_PLANES   /* operands of 16 bits are two planes of bytes */
#define QRNN_BYTE_FLIP 0x80
#define QRNN_LOW_FLIP 0x00 /* what the operands' bytes, and those of the lower plane, are combined with */

typedef __m512i qrnn_vector;

static inline qrnn_vector qrnn_vector_all(int32_t x)
{
    return _mm512_set1_epi32(x);
}

static inline qrnn_vector qrnn_vector_add(qrnn_vector a, qrnn_vector b)
{
    return _mm512_add_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_subtract(qrnn_vector a, qrnn_vector b)
{
    return _mm512_sub_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_multiply(qrnn_vector a, qrnn_vector b)
{
    return _mm512_mullo_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_and(qrnn_vector a, qrnn_vector b)
{
    return _mm512_and_si512(a, b);
}

static inline qrnn_vector qrnn_vector_xor(qrnn_vector a, qrnn_vector b)
{
    return _mm512_xor_si512(a, b);
}

static inline qrnn_vector qrnn_vector_min(qrnn_vector a, qrnn_vector b)
{
    return _mm512_min_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_max(qrnn_vector a, qrnn_vector b)
{
    return _mm512_max_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_size(qrnn_vector x)
{
    return _mm512_abs_epi32(x);
}

/* below where x <= threshold, else above */
static inline qrnn_vector qrnn_vector_choose(qrnn_vector x, qrnn_vector threshold, qrnn_vector below, qrnn_vector above)
{
    return _mm512_mask_blend_epi32(_mm512_cmple_epi32_mask(x, threshold), above, below);
}

static inline qrnn_vector qrnn_vector_shift_left(qrnn_vector x, uint32_t shift)
{
    return _mm512_sllv_epi32(x, _mm512_set1_epi32((int32_t)shift));
}

static inline qrnn_vector qrnn_vector_shift_right(qrnn_vector x, uint32_t shift)
{
    return _mm512_srav_epi32(x, _mm512_set1_epi32((int32_t)shift));
}

static inline qrnn_vector qrnn_vector_shift_left_each(qrnn_vector x, qrnn_vector shift)
{
    return _mm512_sllv_epi32(x, shift);
}

static inline qrnn_vector qrnn_vector_shift_right_each(qrnn_vector x, qrnn_vector shift)
{
    return _mm512_srav_epi32(x, shift);
}

static inline qrnn_vector qrnn_vector_read32(const int32_t *from)
{
    return _mm512_loadu_si512((const void *)from);
}

static inline qrnn_vector qrnn_vector_read16(const int16_t *from)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

static inline qrnn_vector qrnn_vector_read8(const uint8_t *from)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline void qrnn_vector_write32(int32_t *to, qrnn_vector x)
{
    _mm512_storeu_si512((void *)to, x);
}

/* lanes within int16 */
static inline void qrnn_vector_write16(int16_t *to, qrnn_vector x)
{
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi32_epi16(x));
}

/* the lowest byte of each lane */
static inline void qrnn_vector_write8(uint8_t *to, qrnn_vector x)
{
    _mm_storeu_si128((__m128i *)(void *)to, _mm512_cvtepi32_epi8(x));
}

static inline qrnn_vector qrnn_vector_entry32(const int32_t *table, qrnn_vector index)
{
    return _mm512_i32gather_epi32(index, (const void *)table, 4);
}

/* table[index] in the lower half of each lane, table[index + 1] in the upper half */
static inline qrnn_vector qrnn_vector_pairs(const int16_t *table, qrnn_vector index)
{
    return _mm512_i32gather_epi32(index, (const void *)table, 2);
}

/* (upper half - lower half) * fraction, 0 <= fraction < 2^15 */
static inline qrnn_vector qrnn_vector_rise(qrnn_vector pairs, qrnn_vector fraction)
{
    const __m512i negative = _mm512_sub_epi32(_mm512_setzero_si512(), fraction);
    return _mm512_madd_epi16(pairs, _mm512_mask_blend_epi16(0x55555555U, _mm512_slli_epi32(fraction, 16), negative));
}

/* qrnn_requantize without its left shift: (x * multiplier + 2^31) >> 32, of even and of odd lanes */
static inline qrnn_vector qrnn_vector_requantize(qrnn_vector x, qrnn_vector multiplier)
{
    const __m512i half = _mm512_set1_epi64(INT64_C(1) << 31);
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, multiplier), half);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), _mm512_srli_epi64(multiplier, 32)), half);
    return _mm512_mask_blend_epi32(0xAAAAU, _mm512_srli_epi64(even, 32), odd);
}

/* sum + the products of a group of columns */
static inline qrnn_vector qrnn_vector_products(qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
    int32_t group;
    QRNN_COPY(&group, operand, sizeof group);
    return _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(group), _mm512_loadu_si512((const void *)weight));
}

#include "qrnn_dot_lanes.h"

#endif
