/* SPDX-License-Identifier: Apache-2.0 */
/* Odd gate functions for the Arm DSP extension, whose tables are written for arguments of both signs. */
#ifndef QRNN_GATES_DSP_H
#define QRNN_GATES_DSP_H

#include <arm_acle.h>
#include "qrnn_lanes.h"

/* qrnn_evaluate_odd, where entry -k of the table is minus entry k, `table` points to entry 0, and cut is 0. With t = x >> bits and
 * low = x mod 2^bits, the sum (2^bits - low) table[t] + low table[t + 1] is 2^bits times the value between both entries. SMLAD makes it, of a
 * word that has both entries and one that has both factors. The contract rounds the magnitude of it, half up, so that 1 less is added
 * below 0: -floor((a + h) / 2^bits) = floor((-a + h - 1) / 2^bits) for h = 2^(bits - 1).
 *
 * Here value[0] is 2^bits times the offset, plus h, and value[1] is bits, 1 ... 14. Where value[2] is -1 and not 0, the table's signs are
 * turned, and 1 less is added from 0 on. The exporter writes such a table where -32768 has the value that it has with this sum. */
static inline qrnn_lanes qrnn_evaluate_signed(const qrnn_gate *gate, qrnn_lanes x)
{
    const uint32_t bits = (uint32_t)gate->value[1];
    const int32_t whole = INT32_C(1) << bits;
    const int32_t limited = qrnn_saturate16(x);
    const int32_t low = limited & (whole - 1);
    const int32_t factors = whole + (low * 65535); /* low above whole - low */
    const int32_t start = gate->value[0] - (((limited ^ gate->value[2]) < 0) ? 1 : 0);
    const int16_t *table = gate->table;
    int32_t entries;

#if defined(QRNN_GNU_ASSEMBLY)
    __asm("" : "+r"(table));
#endif
    QRNN_COPY(&entries, &table[limited >> bits], sizeof entries);
    return __smlad(entries, factors, start) >> bits;
}

#endif
