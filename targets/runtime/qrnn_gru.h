/* SPDX-License-Identifier: Apache-2.0 */
/* One step of a GRU direction, both forms, section 4 of docs/arithmetic.md. */
#ifndef QRNN_GRU_H
#define QRNN_GRU_H

#include "qrnn_gates.h"
#include "qrnn_matrix.h"

/* h' = saturate(round(z * h + (1 - z) * n), 32767); n is first rounded to the state's fraction bits */
static inline qrnn_lanes qrnn_gru_hidden_state(const qrnn_cell *cell, qrnn_lanes z, qrnn_lanes n, qrnn_lanes h)
{
    const qrnn_lanes candidate = qrnn_lanes_shift_right_round(n, cell->candidate_shift);
#if defined(QRNN_UNIT_GATES) /* z in [0, 1] with 15 fraction bits: a mean, which stays between n and h */
    const qrnn_lanes rest = qrnn_lanes_subtract(qrnn_lanes_all(INT32_C(1) << 15), z);
    const qrnn_lanes blend = qrnn_lanes_add(qrnn_lanes_multiply(z, h), qrnn_lanes_multiply(rest, candidate));
    return qrnn_lanes_shift_right_round(blend, 15U);
#else
    const int64_t one = INT64_C(1) << cell->update_frac;
    const int64_t blend = ((int64_t)z * h) + ((one - z) * candidate);
    const int64_t rounded = qrnn_shift_right_round64(blend, cell->update_frac);
    return qrnn_lanes_symmetric16(qrnn_within_int32(rounded));
#endif
}

#if defined(QRNN_USE_GRU_RESET_AFTER)
/* linear_before_reset = 1: the argument saturate16_shifted(x + round(h * r)) */
static inline qrnn_lanes qrnn_candidate_after_reset(const qrnn_cell *cell, uint32_t row, qrnn_lanes x, qrnn_lanes h, qrnn_lanes r)
{
#if defined(QRNN_UNIT_GATES)
    return qrnn_to_argument(&cell->hh, row, qrnn_lanes_add(x, qrnn_lanes_multiply_q15(h, r)));
#else
    return qrnn_to_argument(&cell->hh, row, qrnn_within_int32(x + qrnn_shift_right_round64((int64_t)h * r, cell->reset_frac)));
#endif
}

/* x and operand: of the input and of the old state; h [H] is updated. */
QRNN_FOR_EACH_LAYER void qrnn_gru_step(const qrnn_cell *cell, const uint32_t *x, const uint32_t *operand, int16_t *h)
{
    int32_t xs[3][QRNN_BLOCK_ROWS];
    int32_t hs[3][QRNN_BLOCK_ROWS];
    uint32_t block = 0U; /* of gate r of four units */

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = cell->units - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, 3U, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, 3U, operand, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const uint32_t row = (QRNN_BLOCK_ROWS * block) + k;
            const uint32_t z_row = row + QRNN_BLOCK_ROWS;
            const uint32_t n_row = z_row + QRNN_BLOCK_ROWS;
            const qrnn_lanes r_sum = qrnn_lanes_add(qrnn_lanes_of(&xs[0][k]), qrnn_lanes_of(&hs[0][k]));
            const qrnn_lanes r = qrnn_evaluate(&cell->gate[0], qrnn_to_argument(&cell->hh, row, r_sum));
            const qrnn_lanes z_sum = qrnn_lanes_add(qrnn_lanes_of(&xs[1][k]), qrnn_lanes_of(&hs[1][k]));
            const qrnn_lanes z = qrnn_evaluate(&cell->gate[1], qrnn_to_argument(&cell->hh, z_row, z_sum));
            const qrnn_lanes n_x = qrnn_lanes_of(&xs[2][k]);
            const qrnn_lanes n_h = qrnn_lanes_of(&hs[2][k]);
            const qrnn_lanes n = qrnn_evaluate(&cell->gate[2], qrnn_candidate_after_reset(cell, n_row, n_x, n_h, r));
            const qrnn_lanes old = qrnn_lanes_read16(&h[first + k], count);
            qrnn_lanes_write16(&h[first + k], qrnn_gru_hidden_state(cell, z, n, old), count);
        }
        block += 3U;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}
#endif

#if defined(QRNN_USE_GRU_RESET_BEFORE)
/* saturate(round(r * h), limit), rounded once from the full product */
static inline qrnn_lanes qrnn_reset_operand(const qrnn_cell *cell, qrnn_lanes r, qrnn_lanes h)
{
    const int32_t limit = cell->h_limit;
    const qrnn_lanes rounded = qrnn_lanes_shift_right_round(r * h, (uint32_t)cell->reset_frac + cell->h_shift);
    return qrnn_lanes_max(qrnn_lanes_min(rounded, limit), -limit);
}

/* linear_before_reset = 0: r and z of all units, then n from the operand of r*h. Room: z [H], reset [H], `encoded` as `operand`. */
QRNN_FOR_EACH_LAYER void qrnn_gru_step_before(const qrnn_cell *cell, const uint32_t *x, const uint32_t *operand, int16_t *h,
                                              int32_t *z, int16_t *reset, uint32_t *encoded)
{
    const qrnn_operand_format as_it_is = {cell->h_limit, 0U, cell->hh.wide};
    int32_t xs[2][QRNN_BLOCK_ROWS];
    int32_t hs[2][QRNN_BLOCK_ROWS];
    uint32_t block = 0U;

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = cell->units - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, 2U, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, 2U, operand, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const uint32_t row = (QRNN_BLOCK_ROWS * block) + k;
            const qrnn_lanes r_sum = qrnn_lanes_add(qrnn_lanes_of(&xs[0][k]), qrnn_lanes_of(&hs[0][k]));
            const qrnn_lanes r = qrnn_evaluate(&cell->gate[0], qrnn_to_argument(&cell->hh, row, r_sum));
            const qrnn_lanes z_sum = qrnn_lanes_add(qrnn_lanes_of(&xs[1][k]), qrnn_lanes_of(&hs[1][k]));
            const qrnn_lanes update = qrnn_evaluate(&cell->gate[1], qrnn_to_argument(&cell->hh, row + QRNN_BLOCK_ROWS, z_sum));
            const qrnn_lanes old = qrnn_lanes_read16(&h[first + k], count);
            qrnn_lanes_write16(&reset[first + k], qrnn_reset_operand(cell, r, old), count);
            qrnn_lanes_write32(&z[first + k], update, count);
        }
        block += 3U;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
    qrnn_to_operands(reset, cell->units, as_it_is, encoded);
    block = 2U;
    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = cell->units - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;

        QRNN_PHASE(QRNN_PHASE_INPUT);
        qrnn_rows(&cell->ih, block, 1U, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, 1U, encoded, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k += QRNN_LANES) {
            const qrnn_lanes sum = qrnn_lanes_add(qrnn_lanes_of(&xs[0][k]), qrnn_lanes_of(&hs[0][k]));
            const qrnn_lanes argument = qrnn_to_argument(&cell->hh, (QRNN_BLOCK_ROWS * block) + k, sum);
            const qrnn_lanes n = qrnn_evaluate(&cell->gate[2], argument);
            const qrnn_lanes old = qrnn_lanes_read16(&h[first + k], count);
            const qrnn_lanes update = qrnn_lanes_read32(&z[first + k], count);
            qrnn_lanes_write16(&h[first + k], qrnn_gru_hidden_state(cell, update, n, old), count);
        }
        block += 3U;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}
#endif

#endif
