/* One step of a vanilla RNN direction, section 4 of docs/arithmetic.md. */
#ifndef QRNN_RNN_H
#define QRNN_RNN_H

#include "qrnn_gates.h"
#include "qrnn_matrix.h"

/* h' = saturate(round(f(pre)), 32767); x and h: operands of the input and of the old state; hidden [H] is what the cell puts out. */
static void qrnn_rnn_step(const qrnn_cell *cell, const uint32_t *x, const uint32_t *h, int16_t *hidden)
{
    int32_t xs[QRNN_BLOCK_ROWS];
    int32_t hs[QRNN_BLOCK_ROWS];
    uint32_t block = 0U;

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = cell->units - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, h, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k++) {
            const int32_t argument = qrnn_to_argument(&cell->hh, first + k, xs[k] + hs[k]);
            const int32_t value = qrnn_shift_right_round(qrnn_evaluate(&cell->gate[0], argument), cell->hidden_shift);
            hidden[first + k] = (int16_t)qrnn_saturate(value, -32767, 32767);
        }
        block++;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}

#endif
