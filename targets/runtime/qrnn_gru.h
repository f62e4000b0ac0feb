/* One step of a GRU direction, both forms, section 4 of docs/arithmetic.md. */
#ifndef QRNN_GRU_H
#define QRNN_GRU_H

#include "qrnn_gates.h"
#include "qrnn_matrix.h"

/* h' = saturate(round(z * h + (1 - z) * n), 32767); n is first rounded to the state's fraction bits */
static inline int16_t qrnn_gru_hidden_state(const qrnn_cell *cell, int32_t z, int32_t n, int32_t h)
{
    const int32_t candidate = qrnn_shift_right_round(n, cell->candidate_shift);
#if defined(QRNN_UNIT_GATES) /* z in [0, 1] with 15 fraction bits: a mean, which stays between n and h */
    return (int16_t)qrnn_shift_right_round((z * h) + (((INT32_C(1) << 15) - z) * candidate), 15U);
#else
    const int64_t one = INT64_C(1) << cell->update_frac;
    const int64_t blend = ((int64_t)z * h) + ((one - z) * candidate);
    const int64_t rounded = qrnn_shift_right_round64(blend, cell->update_frac);
    return (int16_t)((rounded < -32767) ? -32767 : ((rounded > 32767) ? 32767 : rounded));
#endif
}

#if defined(QRNN_USE_GRU_RESET_AFTER)
/* linear_before_reset = 1: pre_n = saturate16_shifted(x + round(h * r)) */
static inline int32_t qrnn_candidate_after_reset(const qrnn_cell *cell, uint32_t row, int32_t x, int32_t h, int32_t r)
{
#if defined(QRNN_UNIT_GATES)
    return qrnn_to_argument(&cell->hh, row, x + (int32_t)qrnn_shift_right_round64((int64_t)h * r, 15U));
#else
    const int64_t sum = x + qrnn_shift_right_round64((int64_t)h * r, cell->reset_frac);
    return qrnn_to_argument(&cell->hh, row, (int32_t)((sum < INT32_MIN) ? INT32_MIN : ((sum > INT32_MAX) ? INT32_MAX : sum)));
#endif
}

/* x and operand: of the input and of the old state; h [H] is updated. */
static void qrnn_gru_step(const qrnn_cell *cell, const uint32_t *x, const uint32_t *operand, int16_t *h)
{
    int32_t xs[3][QRNN_BLOCK_ROWS];
    int32_t hs[3][QRNN_BLOCK_ROWS];
    uint32_t block = 0U;

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = cell->units - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;
        const uint32_t row = QRNN_BLOCK_ROWS * block;

        for (uint32_t gate = 0U; gate < 3U; gate++) {
            QRNN_PHASE(QRNN_PHASE_INPUT);
            qrnn_rows(&cell->ih, block, x, xs[gate]);
            QRNN_PHASE(QRNN_PHASE_STATE);
            qrnn_rows(&cell->hh, block, operand, hs[gate]);
            block++;
        }
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k++) {
            const int32_t r = qrnn_evaluate(&cell->gate[0], qrnn_to_argument(&cell->hh, row + k, xs[0][k] + hs[0][k]));
            const int32_t z_argument = qrnn_to_argument(&cell->hh, row + QRNN_BLOCK_ROWS + k, xs[1][k] + hs[1][k]);
            const int32_t z = qrnn_evaluate(&cell->gate[1], z_argument);
            const int32_t n_argument = qrnn_candidate_after_reset(cell, row + (2U * QRNN_BLOCK_ROWS) + k, xs[2][k], hs[2][k], r);
            const int32_t n = qrnn_evaluate(&cell->gate[2], n_argument);
            h[first + k] = qrnn_gru_hidden_state(cell, z, n, h[first + k]);
        }
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}
#endif

#if defined(QRNN_USE_GRU_RESET_BEFORE)
/* saturate(round(r * h), limit), rounded once from the full product */
static inline int16_t qrnn_reset_operand(const qrnn_cell *cell, int32_t r, int32_t h)
{
    const int32_t limit = cell->h_limit;
    const int64_t rounded = qrnn_shift_right_round64((int64_t)r * h, (uint32_t)cell->reset_frac + cell->h_shift);
    return (int16_t)((rounded < -limit) ? -limit : ((rounded > limit) ? limit : rounded));
}

/* linear_before_reset = 0: r and z of all units, then n from the operand of r*h. Room: z [H], reset [H], `encoded` as `operand`. */
static void qrnn_gru_step_before(const qrnn_cell *cell, const uint32_t *x, const uint32_t *operand, int16_t *h,
                                 int32_t *z, int16_t *reset, uint32_t *encoded)
{
    const qrnn_operand_format as_it_is = {cell->h_limit, 0U, cell->hh.wide};
    int32_t xs[QRNN_BLOCK_ROWS];
    int32_t hs[QRNN_BLOCK_ROWS];
    uint32_t block = 0U;

    for (uint32_t first = 0U; first < cell->units; first += QRNN_BLOCK_ROWS) {
        const uint32_t rest = cell->units - first;
        const uint32_t count = (rest < QRNN_BLOCK_ROWS) ? rest : QRNN_BLOCK_ROWS;

        for (uint32_t gate = 0U; gate < 2U; gate++) {
            const uint32_t row = QRNN_BLOCK_ROWS * (block + gate);
            QRNN_PHASE(QRNN_PHASE_INPUT);
            qrnn_rows(&cell->ih, block + gate, x, xs);
            QRNN_PHASE(QRNN_PHASE_STATE);
            qrnn_rows(&cell->hh, block + gate, operand, hs);
            QRNN_PHASE(QRNN_PHASE_GATES);
            for (uint32_t k = 0U; k < count; k++) {
                const int32_t value = qrnn_evaluate(&cell->gate[gate], qrnn_to_argument(&cell->hh, row + k, xs[k] + hs[k]));
                if (gate == 0U) {
                    reset[first + k] = qrnn_reset_operand(cell, value, h[first + k]);
                } else {
                    z[first + k] = value;
                }
            }
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
        qrnn_rows(&cell->ih, block, x, xs);
        QRNN_PHASE(QRNN_PHASE_STATE);
        qrnn_rows(&cell->hh, block, encoded, hs);
        QRNN_PHASE(QRNN_PHASE_GATES);
        for (uint32_t k = 0U; k < count; k++) {
            const int32_t argument = qrnn_to_argument(&cell->hh, (QRNN_BLOCK_ROWS * block) + k, xs[k] + hs[k]);
            const int32_t n = qrnn_evaluate(&cell->gate[2], argument);
            h[first + k] = qrnn_gru_hidden_state(cell, z[first + k], n, h[first + k]);
        }
        block += 3U;
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
}
#endif

#endif
