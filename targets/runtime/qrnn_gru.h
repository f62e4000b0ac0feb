/* SPDX-License-Identifier: Apache-2.0 */
/* One step of a GRU direction, both forms, section 4 of docs/arithmetic.md. */
#ifndef QRNN_GRU_H
#define QRNN_GRU_H

#include "qrnn_contract_lanes.h"
#include "qrnn_matrix.h"

#if defined(QRNN_USE_GRU_RESET_AFTER)
/* linear_before_reset = 1. x and operand: of the input and of the old state; h [H] is updated. */
QRNN_FOR_EACH_LAYER void qrnn_gru_step(const QRNN_FLASH qrnn_cell *cell, const uint32_t *x, const uint32_t *operand, int16_t *h)
{
    int32_t xs[3][QRNN_BLOCK_ROWS];
    int32_t hs[3][QRNN_BLOCK_ROWS];
    uint32_t block = 0U; /* of gate r of four units */

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t count = qrnn_units_of_block(cell, first);

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, 3U, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, 3U, operand, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const uint32_t row = (QRNN_BLOCK_ROWS * block) + k;
            const uint32_t z_row = row + QRNN_BLOCK_ROWS;
            const uint32_t n_row = z_row + QRNN_BLOCK_ROWS;
            const qrnn_lanes r_sum = qrnn_preactivation(qrnn_lanes_of(&xs[0][k]), qrnn_lanes_of(&hs[0][k]));
            const qrnn_lanes r = qrnn_evaluate(&cell->gate[0], qrnn_to_argument(&cell->hh, row, r_sum));
            const qrnn_lanes z_sum = qrnn_preactivation(qrnn_lanes_of(&xs[1][k]), qrnn_lanes_of(&hs[1][k]));
            const qrnn_lanes z = qrnn_evaluate(&cell->gate[1], qrnn_to_argument(&cell->hh, z_row, z_sum));
            const qrnn_lanes n_x = qrnn_lanes_of(&xs[2][k]);
            const qrnn_lanes n_h = qrnn_lanes_of(&hs[2][k]);
            const qrnn_lanes n_sum = qrnn_candidate_after_reset(n_x, n_h, r, cell->reset_frac);
            const qrnn_lanes n = qrnn_evaluate(&cell->gate[2], qrnn_to_argument(&cell->hh, n_row, n_sum));
            const qrnn_lanes old = qrnn_lanes_read16(&h[first + k], count);
            const qrnn_lanes next = qrnn_gru_hidden_state(z, n, old, cell->update_frac, cell->candidate_shift);
            qrnn_lanes_write16(&h[first + k], next, count);
        }
        block += 3U;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}
#endif

#if defined(QRNN_USE_GRU_RESET_BEFORE)
/* linear_before_reset = 0: r and z of all units, then n from the operand of r*h. Room: z [H], reset [H], `encoded` as `operand`. */
QRNN_FOR_EACH_LAYER void qrnn_gru_step_before(const QRNN_FLASH qrnn_cell *cell, const uint32_t *x, const uint32_t *operand, int16_t *h,
                                              int32_t *z, int16_t *reset, uint32_t *encoded)
{
    const qrnn_operand_format as_it_is = {cell->h_limit, 0U, cell->hh.wide, cell->hh.four};
    int32_t xs[2][QRNN_BLOCK_ROWS];
    int32_t hs[2][QRNN_BLOCK_ROWS];
    uint32_t block = 0U;

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t count = qrnn_units_of_block(cell, first);

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, 2U, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, 2U, operand, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const uint32_t row = (QRNN_BLOCK_ROWS * block) + k;
            const qrnn_lanes r_sum = qrnn_preactivation(qrnn_lanes_of(&xs[0][k]), qrnn_lanes_of(&hs[0][k]));
            const qrnn_lanes r = qrnn_evaluate(&cell->gate[0], qrnn_to_argument(&cell->hh, row, r_sum));
            const qrnn_lanes z_sum = qrnn_preactivation(qrnn_lanes_of(&xs[1][k]), qrnn_lanes_of(&hs[1][k]));
            const qrnn_lanes update = qrnn_evaluate(&cell->gate[1], qrnn_to_argument(&cell->hh, row + QRNN_BLOCK_ROWS, z_sum));
            const qrnn_lanes old = qrnn_lanes_read16(&h[first + k], count);
            const qrnn_lanes product = qrnn_reset_operand(r, old, cell->reset_frac, cell->h_shift, cell->h_limit);
            qrnn_lanes_write16(&reset[first + k], product, count);
            qrnn_lanes_write32(&z[first + k], update, count);
        }
        block += 3U;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
    qrnn_to_operands(reset, cell->units, as_it_is, encoded);
    block = 2U;
    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t count = qrnn_units_of_block(cell, first);

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, 1U, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, 1U, encoded, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const qrnn_lanes sum = qrnn_preactivation(qrnn_lanes_of(&xs[0][k]), qrnn_lanes_of(&hs[0][k]));
            const qrnn_lanes argument = qrnn_to_argument(&cell->hh, (QRNN_BLOCK_ROWS * block) + k, sum);
            const qrnn_lanes n = qrnn_evaluate(&cell->gate[2], argument);
            const qrnn_lanes old = qrnn_lanes_read16(&h[first + k], count);
            const qrnn_lanes update = qrnn_lanes_read32(&z[first + k], count);
            const qrnn_lanes next = qrnn_gru_hidden_state(update, n, old, cell->update_frac, cell->candidate_shift);
            qrnn_lanes_write16(&h[first + k], next, count);
        }
        block += 3U;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}
#endif

#endif
