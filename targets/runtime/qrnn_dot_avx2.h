/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of AVX2 (x86-64-v3): eight int32 lanes, which are the rows of a block of weights or the units of a cell.
 *
 * Operands of 8 bits: bytes. Weights for them: four columns by four columns, row by row four bytes. VPMADDUBSW multiplies a byte without a sign
 * by one with a sign, so that the sign of each operand is given to its weight; two products are at most 2 * 127 * 127 < 2^15.
 * Operands of 16 bits: as they are. Weights for them: two columns by two columns, row by row two bytes, which become int16.
 */
#ifndef QRNN_DOT_H
#define QRNN_DOT_H

#include <immintrin.h>
#include "qrnn_contract.h"

#define QRNN_COLUMNS 8U
#define QRNN_GROUP 4U      /* columns of one call of qrnn_vector_products */
#define QRNN_WIDE_GROUP 2U /* of qrnn_vector_products_wide */

typedef __m256i qrnn_vector;

static inline qrnn_vector qrnn_vector_all(int32_t x)
{
    return _mm256_set1_epi32(x);
}

static inline qrnn_vector qrnn_vector_add(qrnn_vector a, qrnn_vector b)
{
    return _mm256_add_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_subtract(qrnn_vector a, qrnn_vector b)
{
    return _mm256_sub_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_multiply(qrnn_vector a, qrnn_vector b)
{
    return _mm256_mullo_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_and(qrnn_vector a, qrnn_vector b)
{
    return _mm256_and_si256(a, b);
}

static inline qrnn_vector qrnn_vector_xor(qrnn_vector a, qrnn_vector b)
{
    return _mm256_xor_si256(a, b);
}

static inline qrnn_vector qrnn_vector_min(qrnn_vector a, qrnn_vector b)
{
    return _mm256_min_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_max(qrnn_vector a, qrnn_vector b)
{
    return _mm256_max_epi32(a, b);
}

static inline qrnn_vector qrnn_vector_size(qrnn_vector x)
{
    return _mm256_abs_epi32(x);
}

/* below where x <= threshold, else above */
static inline qrnn_vector qrnn_vector_choose(qrnn_vector x, qrnn_vector threshold, qrnn_vector below, qrnn_vector above)
{
    return _mm256_blendv_epi8(below, above, _mm256_cmpgt_epi32(x, threshold));
}

static inline qrnn_vector qrnn_vector_shift_left(qrnn_vector x, uint32_t shift)
{
    return _mm256_slli_epi32(x, (int)shift);
}

static inline qrnn_vector qrnn_vector_shift_right(qrnn_vector x, uint32_t shift)
{
    return _mm256_srai_epi32(x, (int)shift);
}

static inline qrnn_vector qrnn_vector_shift_left_each(qrnn_vector x, qrnn_vector shift)
{
    return _mm256_sllv_epi32(x, shift);
}

static inline qrnn_vector qrnn_vector_shift_right_each(qrnn_vector x, qrnn_vector shift)
{
    return _mm256_srav_epi32(x, shift);
}

static inline qrnn_vector qrnn_vector_read32(const int32_t *from)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

static inline qrnn_vector qrnn_vector_read16(const int16_t *from)
{
    return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
}

static inline qrnn_vector qrnn_vector_read8(const uint8_t *from)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from));
}

static inline void qrnn_vector_write32(int32_t *to, qrnn_vector x)
{
    _mm256_storeu_si256((__m256i *)(void *)to, x);
}

/* lanes within int16 */
static inline void qrnn_vector_write16(int16_t *to, qrnn_vector x)
{
    const __m256i halves = _mm256_permute4x64_epi64(_mm256_packs_epi32(x, x), 0x08);
    _mm_storeu_si128((__m128i *)(void *)to, _mm256_castsi256_si128(halves));
}

/* the lowest byte of each lane */
static inline void qrnn_vector_write8(uint8_t *to, qrnn_vector x)
{
    const __m256i order = _mm256_set1_epi32(0x0C080400);
    const __m256i bytes = _mm256_shuffle_epi8(x, order);
    const __m128i eight = _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
    _mm_storel_epi64((__m128i *)(void *)to, eight);
}

static inline qrnn_vector qrnn_vector_entry32(const int32_t *table, qrnn_vector index)
{
    return _mm256_i32gather_epi32((const int *)table, index, 4);
}

/* table[index] in the lower half of each lane, table[index + 1] in the upper half */
static inline qrnn_vector qrnn_vector_pairs(const int16_t *table, qrnn_vector index)
{
    return _mm256_i32gather_epi32((const int *)(const void *)table, index, 2);
}

/* (upper half - lower half) * fraction, 0 <= fraction < 2^15 */
static inline qrnn_vector qrnn_vector_rise(qrnn_vector pairs, qrnn_vector fraction)
{
    const __m256i negative = _mm256_sub_epi32(_mm256_setzero_si256(), fraction);
    return _mm256_madd_epi16(pairs, _mm256_blend_epi16(_mm256_slli_epi32(fraction, 16), negative, 0x55));
}

/* qrnn_requantize without its left shift: (x * multiplier + 2^31) >> 32, of even and of odd lanes */
static inline qrnn_vector qrnn_vector_requantize(qrnn_vector x, qrnn_vector multiplier)
{
    const __m256i half = _mm256_set1_epi64x(INT64_C(1) << 31);
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, multiplier), half);
    const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(multiplier, 32)), half);
    return _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}

static inline __m256i qrnn_vector_group(const uint8_t *operand)
{
    int32_t group;
    QRNN_COPY(&group, operand, sizeof group);
    return _mm256_set1_epi32(group);
}

/* sum + the products of a group of columns */
static inline qrnn_vector qrnn_vector_products(qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
    const __m256i x = qrnn_vector_group(operand);
    const __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)weight);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline qrnn_vector qrnn_vector_products_wide(qrnn_vector sum, const int8_t *weight, const uint8_t *operand)
{
    const __m256i w = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)weight));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(w, qrnn_vector_group(operand)));
}

#include "qrnn_dot_lanes.h"

#endif
