/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors between layers: sums and selections, section 5 of docs/arithmetic.md. */
#ifndef QRNN_VECTORS_H
#define QRNN_VECTORS_H

#include "qrnn_contract.h"

#if defined(QRNN_USE_ADD)
/* y = add16(a, b, a_shift, b_shift, shift); y may be a or b. */
static void qrnn_add(const int16_t *a, const int16_t *b, uint32_t count, uint32_t a_shift, uint32_t b_shift, uint32_t shift,
                     int16_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        y[k] = (int16_t)qrnn_add16(a[k], b[k], a_shift, b_shift, shift);
    }
}
#endif

#if defined(QRNN_USE_SELECT)
/* y[k] = align16(x[index[k]], from_frac, to_frac): a part of a concatenation */
static void qrnn_select(const int16_t *x, const QRNN_FLASH uint16_t *index, uint32_t count, uint32_t from_frac, uint32_t to_frac, int16_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        y[k] = (int16_t)qrnn_align16(x[index[k]], from_frac, to_frac);
    }
}
#endif

#if defined(QRNN_USE_SELECT_OR_ZERO)
/* y[k] = align16(x[index[k]], from_frac, to_frac), or 0 for an index below 0: a part of a concatenation with zeros */
static void qrnn_select_or_zero(const int16_t *x, const QRNN_FLASH int32_t *index, uint32_t count, uint32_t from_frac, uint32_t to_frac, int16_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        y[k] = index[k] < 0 ? 0 : (int16_t)qrnn_align16(x[index[k]], from_frac, to_frac);
    }
}
#endif

#if defined(QRNN_USE_GATHER)
/* y[to[k]] = x[from[k]]: a part of an output */
static void qrnn_gather(const int16_t *x, const QRNN_FLASH uint16_t *from, const QRNN_FLASH uint16_t *to, uint32_t count, int16_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        y[to[k]] = x[from[k]];
    }
}
#endif

#if defined(QRNN_USE_GATHER_VALUES_32)
/* y[to[k]] = x[from[k]]: a part of an output */
static void qrnn_gather_values_32(const int16_t *x, const QRNN_FLASH uint16_t *from, const QRNN_FLASH uint16_t *to, uint32_t count, int32_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        y[to[k]] = x[from[k]];
    }
}
#endif

#if defined(QRNN_USE_GATHER_CELLS_32)
/* y[to[k]] = x[from[k]]: a part of an output */
static void qrnn_gather_cells_32(const int32_t *x, const QRNN_FLASH uint16_t *from, const QRNN_FLASH uint16_t *to, uint32_t count, int32_t *y)
{
    for (uint32_t k = 0U; k < count; k++) {
        y[to[k]] = x[from[k]];
    }
}
#endif

#endif
