/* SPDX-License-Identifier: Apache-2.0 */
/* One step of an LSTM direction, section 4 of docs/arithmetic.md. */
#ifndef QRNN_LSTM_H
#define QRNN_LSTM_H

#include "qrnn_contract_lanes.h"
#include "qrnn_matrix.h"

/* The argument of a gate, of the units of rows from `row` on; c is what its peephole reads. */
static inline qrnn_lanes qrnn_lstm_argument(const QRNN_FLASH qrnn_cell *cell, uint32_t row, const int32_t *x, const int32_t *h, qrnn_lanes c)
{
#if defined(QRNN_USE_PEEPHOLE)
    if (cell->peephole != NULL) {
        const int32_t part = qrnn_peephole(c, cell->peephole[row], cell->peephole_shift[row]);
        return qrnn_to_argument(&cell->hh, row, qrnn_within_int32((int64_t)*x + part + *h));
    }
#else
    (void)c;
#endif
    return qrnn_to_argument(&cell->hh, row, qrnn_preactivation(qrnn_lanes_of(x), qrnn_lanes_of(h)));
}

/* x and h: operands of the input and of the old state. cells [H] are updated; hidden [H] is what the cell puts out. */
QRNN_FOR_EACH_LAYER void qrnn_lstm_step(const QRNN_FLASH qrnn_cell *cell, const uint32_t *x, const uint32_t *h, int32_t *cells, int16_t *hidden)
{
    const uint32_t gates = (cell->forget == (uint8_t)QRNN_FORGET_GATE) ? 4U : 3U;
    const uint32_t g_gate = gates - 2U;
    const uint32_t o_gate = gates - 1U;
    int32_t xs[4][QRNN_BLOCK_ROWS];
    int32_t hs[4][QRNN_BLOCK_ROWS];
    uint32_t block = 0U; /* of gate i of four units */

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t count = qrnn_units_of_block(cell, first);

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, gates, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, gates, h, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const uint32_t unit = first + k;
            const uint32_t row = (QRNN_BLOCK_ROWS * block) + k;
            const uint32_t g_row = row + (QRNN_BLOCK_ROWS * g_gate);
            const uint32_t o_row = row + (QRNN_BLOCK_ROWS * o_gate);
            const qrnn_lanes c = qrnn_lanes_read32(&cells[unit], count);
            const qrnn_lanes i = qrnn_evaluate(&cell->gate[0], qrnn_lstm_argument(cell, row, &xs[0][k], &hs[0][k], c));
            qrnn_lanes f = qrnn_lanes_all(INT32_C(1) << 15);
            if (cell->forget == (uint8_t)QRNN_FORGET_GATE) {
                f = qrnn_evaluate(&cell->gate[1], qrnn_lstm_argument(cell, row + QRNN_BLOCK_ROWS, &xs[1][k], &hs[1][k], c));
            } else if (cell->forget == (uint8_t)QRNN_FORGET_COUPLED) {
                f = qrnn_coupled_forget(i, cell->input_frac);
            } else {
                /* f is 1 */
            }
            const qrnn_lanes g_sum = qrnn_preactivation(qrnn_lanes_of(&xs[g_gate][k]), qrnn_lanes_of(&hs[g_gate][k]));
            const qrnn_lanes g = qrnn_evaluate(&cell->gate[g_gate], qrnn_to_argument(&cell->hh, g_row, g_sum));
            const qrnn_lanes next = qrnn_lstm_cell_state(i, f, g, c, cell->forget_frac, cell->product_shift);
            const qrnn_lanes o_argument = qrnn_lstm_argument(cell, o_row, &xs[o_gate][k], &hs[o_gate][k], next);
            const qrnn_lanes o = qrnn_evaluate(&cell->gate[o_gate], o_argument);
            const qrnn_lanes argument = qrnn_lstm_output_argument(next, cell->argument_shift);
            const qrnn_lanes activated = qrnn_evaluate(&cell->gate[gates], argument);
            const qrnn_lanes state = qrnn_lstm_hidden_state(o, activated, cell->hidden_shift);
            qrnn_lanes_write32(&cells[unit], next, count);
            qrnn_lanes_write16(&hidden[unit], state, count);
        }
        block += gates;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}

#endif
