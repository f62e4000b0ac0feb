/* SPDX-License-Identifier: Apache-2.0 */
/* A step of a pool, section 5 of docs/arithmetic.md: the largest value of each channel in a window. */
#ifndef QRNN_MAX_POOL_H
#define QRNN_MAX_POOL_H

#include "qrnn_window.h"

/* Puts x into the ring `past`, of whose steps those are of the sequence that `real` marks; past its end x is NULL. Returns how many rows of
 * y came out, 0 or 1. */
QRNN_FOR_EACH_LAYER uint32_t qrnn_max_pool(const QRNN_FLASH qrnn_window *window, const int16_t *x, int16_t *past, int16_t *real, int32_t *place,
                                           int32_t *phase, int16_t *y)
{
    const uint32_t features = qrnn_window_features(window);
    const uint32_t places = window->line_places * window->places;
    uint32_t ended;

    QRNN_PHASE(QRNN_PHASE_WINDOWS);
    real[*place] = (x == NULL) ? 0 : 1;
    if (x != NULL) {
        QRNN_COPY(&past[(uint32_t)*place * features], x, features * sizeof(*x));
    }
    ended = qrnn_window_ends(window, place, phase);
    for (uint32_t k = 0U; (ended != 0U) && (k < places); k++) {
        const uint32_t q = (window->line_places == 1U) ? 0U : (k / window->places);
        const uint32_t p = k - (q * window->places);
        uint32_t step = (uint32_t)*place;
        uint32_t found = 0U;
        uint32_t low;
        uint32_t high;

        qrnn_window_taps(window, p, &low, &high);
        for (uint32_t tap = 0U; tap < window->taps; tap++) {
            for (uint32_t a = 0U; a < window->line_taps; a++) {
                const uint32_t last = ((real[step] > 0) && (qrnn_window_has_line(window, q, a) != 0U)) ? high : low;

                for (uint32_t b = low; b < last; b++) {
                    const int16_t *from =
                        &past[(step * features) + qrnn_window_line(window, q, a) + qrnn_window_band(window, p, b)];

                    if (found == 0U) {
                        QRNN_COPY(y, from, window->channels * sizeof(*y));
                    } else {
                        qrnn_take_largest(from, window->channels, y);
                    }
                    found = 1U;
                }
            }
            step = qrnn_window_next(window, step);
        }
        if (found == 0U) {
            QRNN_CLEAR(y, window->channels * sizeof(*y));
        }
        y = &y[window->channels];
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
    return ended;
}

#endif
