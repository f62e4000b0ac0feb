/* One step of an LSTM direction, section 4 of docs/arithmetic.md. */
#ifndef QRNN_LSTM_H
#define QRNN_LSTM_H

#include "qrnn_gates.h"
#include "qrnn_matrix.h"

/* c' = saturate32(round(c * f) + round(i * g)) */
static inline int32_t qrnn_lstm_cell_state(const qrnn_cell *cell, int32_t i, int32_t f, int32_t g, int32_t c)
{
#if defined(QRNN_UNIT_GATES) /* f in [0, 1] with 15 fraction bits: both roundings fit an int32 */
    const int32_t kept = (int32_t)qrnn_shift_right_round64((int64_t)c * f, 15U);
    return qrnn_add_saturate32(kept, qrnn_shift_right_round(i * g, cell->product_shift));
#else
    const int64_t kept = qrnn_shift_right_round64((int64_t)c * f, cell->forget_frac);
    const int64_t sum = kept + qrnn_shift_right_round64((int64_t)i * g, cell->product_shift);
    return (int32_t)((sum < INT32_MIN) ? INT32_MIN : ((sum > INT32_MAX) ? INT32_MAX : sum));
#endif
}

/* The argument of gate `row / 4 % gates` of a unit; c is what its peephole reads. */
static inline int32_t qrnn_lstm_argument(const qrnn_cell *cell, uint32_t row, int32_t x, int32_t h, int32_t c)
{
#if defined(QRNN_USE_PEEPHOLE)
    if (cell->peephole != NULL) {
        const int64_t product = (int64_t)c * cell->peephole[row];
        const int64_t part = qrnn_shift_right_round64(product, cell->peephole_shift[row]);
        const int64_t most = INT64_C(1) << 30;
        const int64_t sum = (int64_t)x + ((part < -most) ? -most : ((part > most) ? most : part)) + h;
        return qrnn_to_argument(&cell->hh, row, (int32_t)((sum < INT32_MIN) ? INT32_MIN : ((sum > INT32_MAX) ? INT32_MAX : sum)));
    }
#else
    (void)c;
#endif
    return qrnn_to_argument(&cell->hh, row, x + h);
}

/* x and h: operands of the input and of the old state. c [H] is updated; hidden [H] is what the cell puts out. */
static void qrnn_lstm_step(const qrnn_cell *cell, const uint32_t *x, const uint32_t *h, int32_t *c, int16_t *hidden)
{
    const uint32_t gates = (cell->forget == (uint8_t)QRNN_FORGET_GATE) ? 4U : 3U;
    int32_t xs[4][QRNN_BLOCK_ROWS];
    int32_t hs[4][QRNN_BLOCK_ROWS];
    uint32_t block = 0U;

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = cell->units - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;
        const uint32_t row = QRNN_BLOCK_ROWS * block;

        for (uint32_t gate = 0U; gate < gates; gate++) {
            QRNN_PHASE(QRNN_PHASE_INPUT);
            qrnn_rows(&cell->ih, block, x, xs[gate]);
            QRNN_PHASE(QRNN_PHASE_STATE);
            qrnn_rows(&cell->hh, block, h, hs[gate]);
            block++;
        }
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k++) {
            const uint32_t unit = first + k;
            const uint32_t g_gate = gates - 2U;
            const uint32_t o_gate = gates - 1U;
            int32_t f = INT32_C(1) << 15;
            const int32_t i = qrnn_evaluate(&cell->gate[0], qrnn_lstm_argument(cell, row + k, xs[0][k], hs[0][k], c[unit]));
            if (cell->forget == (uint8_t)QRNN_FORGET_GATE) {
                f = qrnn_evaluate(&cell->gate[1], qrnn_lstm_argument(cell, row + QRNN_BLOCK_ROWS + k, xs[1][k], hs[1][k], c[unit]));
            } else if (cell->forget == (uint8_t)QRNN_FORGET_COUPLED) {
                f = (INT32_C(1) << cell->input_frac) - i;
            } else {
                /* f is 1 */
            }
            const int32_t g_argument = qrnn_to_argument(&cell->hh, row + (QRNN_BLOCK_ROWS * g_gate) + k, xs[g_gate][k] + hs[g_gate][k]);
            const int32_t g = qrnn_evaluate(&cell->gate[g_gate], g_argument);
            const int32_t next = qrnn_lstm_cell_state(cell, i, f, g, c[unit]);
            const int32_t o_argument = qrnn_lstm_argument(cell, row + (QRNN_BLOCK_ROWS * o_gate) + k, xs[o_gate][k], hs[o_gate][k], next);
            const int32_t o = qrnn_evaluate(&cell->gate[o_gate], o_argument);
            const int32_t argument = qrnn_saturate16(qrnn_shift_right_round_full(next, cell->argument_shift));
            const int32_t activated = qrnn_evaluate(&cell->gate[gates], argument);
            c[unit] = next;
            hidden[unit] = (int16_t)qrnn_saturate(qrnn_shift_right_round(o * activated, cell->hidden_shift), -32767, 32767);
        }
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}

#endif
