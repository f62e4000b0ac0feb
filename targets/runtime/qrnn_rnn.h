/* SPDX-License-Identifier: Apache-2.0 */
/* One step of a vanilla RNN direction, section 4 of docs/arithmetic.md. */
#ifndef QRNN_RNN_H
#define QRNN_RNN_H

#include "qrnn_contract_lanes.h"
#include "qrnn_matrix.h"

/* h' = saturate(round(f(pre)), 32767); x and h: operands of the input and of the old state; hidden [H] is what the cell puts out. */
QRNN_FOR_EACH_LAYER void qrnn_rnn_step(const QRNN_FLASH qrnn_cell *cell, const uint32_t *x, const uint32_t *h, int16_t *hidden)
{
    int32_t xs[1][QRNN_BLOCK_ROWS];
    int32_t hs[1][QRNN_BLOCK_ROWS];
    uint32_t block = 0U;

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t count = qrnn_units_of_block(cell, first);

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, 1U, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, 1U, h, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const qrnn_lanes sum = qrnn_preactivation(qrnn_lanes_of(&xs[0][k]), qrnn_lanes_of(&hs[0][k]));
            const qrnn_lanes value = qrnn_evaluate(&cell->gate[0], qrnn_to_argument(&cell->hh, first + k, sum));
            const qrnn_lanes next = qrnn_rnn_hidden_state(value, cell->hidden_shift);
            qrnn_lanes_write16(&hidden[first + k], next, count);
        }
        block++;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}

#endif
