/* SPDX-License-Identifier: Apache-2.0 */
/* Windows of convolutions and pools over time and over the lines and bands of a step, section 5 of docs/arithmetic.md. */
#ifndef QRNN_WINDOW_H
#define QRNN_WINDOW_H

#include "qrnn_types.h"

/* The last `span` steps stand in a ring; tap k of a window reads step k * dilation, counted from the oldest. A step has `lines` of `bands`
 * times `channels` values, those of a band one after the other; tap b of place p reads band p * band_stride + b * band_dilation -
 * band_before, where there is one, and tap a of line place q a line likewise. */
typedef struct {
    uint32_t span; /* (taps - 1) * dilation + 1 */
    uint32_t taps;
    uint32_t stride;
    uint32_t dilation;
    uint32_t bands;
    uint32_t band_taps;
    uint32_t band_stride;
    uint32_t band_dilation;
    uint32_t band_before;
    uint32_t places; /* of a line */
    uint32_t lines;
    uint32_t line_taps;
    uint32_t line_stride;
    uint32_t line_dilation;
    uint32_t line_before;
    uint32_t line_places;
    uint32_t channels;
} qrnn_window;

/* The values of a step */
static inline uint32_t qrnn_window_features(const QRNN_FLASH qrnn_window *window)
{
    return window->lines * window->bands * window->channels;
}

/* The ring goes on to the place of the next step, which is that of the oldest. Returns whether a window ends with the last step. */
static inline uint32_t qrnn_window_ends(const QRNN_FLASH qrnn_window *window, int32_t *place, int32_t *phase)
{
    const int32_t next = *place + 1;

    *place = ((window->span == 1U) || (next == (int32_t)window->span)) ? 0 : next;
    if (*phase > 0) {
        (*phase)--;
        return 0U;
    }
    *phase = (int32_t)window->stride - 1;
    return 1U;
}

/* The taps of place p that read a band: from *low on and below *high. */
static inline void qrnn_window_taps(const QRNN_FLASH qrnn_window *window, uint32_t p, uint32_t *low, uint32_t *high)
{
    const uint32_t first = p * window->band_stride;
    uint32_t begin = 0U;
    uint32_t end = window->band_taps;

    while ((begin < end) && ((first + (begin * window->band_dilation)) < window->band_before)) {
        begin++;
    }
    while ((end > begin) && ((first + ((end - 1U) * window->band_dilation)) >= (window->bands + window->band_before))) {
        end--;
    }
    *low = begin;
    *high = end;
}

/* Where the band of tap b of place p begins in a step; the tap reads a band. */
static inline uint32_t qrnn_window_band(const QRNN_FLASH qrnn_window *window, uint32_t p, uint32_t b)
{
    return ((p * window->band_stride) + (b * window->band_dilation) - window->band_before) * window->channels;
}

/* Whether tap a of line place q reads a line; the only tap always does. */
static inline uint32_t qrnn_window_has_line(const QRNN_FLASH qrnn_window *window, uint32_t q, uint32_t a)
{
    const uint32_t at = (q * window->line_stride) + (a * window->line_dilation);

    return ((window->line_taps == 1U) || ((at >= window->line_before) && (at < (window->lines + window->line_before)))) ? 1U : 0U;
}

/* Where the line of tap a of line place q begins in a step; the tap reads a line. */
static inline uint32_t qrnn_window_line(const QRNN_FLASH qrnn_window *window, uint32_t q, uint32_t a)
{
    const uint32_t line = (q * window->line_stride) + (a * window->line_dilation) - window->line_before;

    return line * window->bands * window->channels;
}

/* The step of the next tap in the ring */
static inline uint32_t qrnn_window_next(const QRNN_FLASH qrnn_window *window, uint32_t step)
{
    const uint32_t next = step + window->dilation;

    return (next >= window->span) ? (next - window->span) : next;
}

#endif
