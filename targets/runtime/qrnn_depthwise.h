/* SPDX-License-Identifier: Apache-2.0 */
/* A step of a depthwise convolution, section 5 of docs/arithmetic.md: each channel of a place is computed from the same channel alone. */
#ifndef QRNN_DEPTHWISE_H
#define QRNN_DEPTHWISE_H

#include "qrnn_window.h"

/* Channels stand in blocks of QRNN_CHANNELS; a short last block is filled up with zeros. */
typedef struct {
    qrnn_window window;
    const QRNN_FLASH int8_t *weight;      /* [blocks][taps][line_taps][band_taps][QRNN_CHANNELS] */
    const QRNN_FLASH int32_t *row;        /* [blocks][2]: biases, multipliers */
    const QRNN_FLASH uint8_t *left_shift; /* [blocks], NULL where all are 0 */
    const QRNN_FLASH uint8_t *pre_shift;  /* [blocks], NULL where all are 0 */
    qrnn_operand_format format;
} qrnn_depthwise;

/* The sums of a run of taps of a block, of which `count` channels exist; each tap reads `stride` values further on. Returns the weights
 * that follow. */
static inline const QRNN_FLASH int8_t *qrnn_channels_run(qrnn_channels *sums, const QRNN_FLASH int8_t *weight, const int16_t *x, uint32_t taps,
                                              uint32_t stride, uint32_t count)
{
    for (; taps != 0U; taps--) {
        qrnn_channels_add(sums, weight, x, count);
        weight += QRNN_CHANNELS;
        x = &x[stride];
    }
    return weight;
}

/* A block of channels of place p of line place q, from channel `first` on, of which `count` exist */
QRNN_FOR_EACH_LAYER void qrnn_depthwise_block(const QRNN_FLASH qrnn_depthwise *conv, const int16_t *past, uint32_t oldest, uint32_t q, uint32_t p,
                                              uint32_t low, uint32_t high, uint32_t first, uint32_t count, int16_t *y)
{
    const QRNN_FLASH qrnn_window *window = &conv->window;
    const uint32_t features = qrnn_window_features(window);
    const QRNN_FLASH int32_t *row = &conv->row[2U * first];
    const QRNN_FLASH int8_t *weight = &conv->weight[window->taps * window->line_taps * window->band_taps * first];
    qrnn_channels sums = qrnn_channels_begin(row);

    if ((window->line_taps == 1U) && (window->band_taps == 1U) && (low < high)) {
        const int16_t *from = &past[first + qrnn_window_line(window, q, 0U) + qrnn_window_band(window, p, 0U)];
        const uint32_t rest = (window->span - oldest + window->dilation - 1U) / window->dilation; /* taps to the end of the ring */
        const uint32_t taps = (rest < window->taps) ? rest : window->taps;

        weight = qrnn_channels_run(&sums, weight, &from[oldest * features], taps, window->dilation * features, count);
        if (taps < window->taps) {
            (void)qrnn_channels_run(&sums, weight, &from[(oldest + (taps * window->dilation) - window->span) * features],
                                    window->taps - taps, window->dilation * features, count);
        }
    } else if (low < high) {
        uint32_t step = oldest;

        for (uint32_t tap = 0U; tap < window->taps; tap++) {
            for (uint32_t a = 0U; a < window->line_taps; a++) {
                if (qrnn_window_has_line(window, q, a) != 0U) {
                    const uint32_t at = (step * features) + qrnn_window_line(window, q, a) + qrnn_window_band(window, p, low);

                    (void)qrnn_channels_run(&sums, &weight[QRNN_CHANNELS * low], &past[first + at], high - low,
                                            window->band_dilation * window->channels, count);
                }
                weight = &weight[QRNN_CHANNELS * window->band_taps];
            }
            step = qrnn_window_next(window, step);
        }
    } else {
        /* No tap lies on a band: the sums are the bias. */
    }
    qrnn_channels_end(&sums, &row[QRNN_CHANNELS], (conv->left_shift == NULL) ? NULL : &conv->left_shift[first],
                      (conv->pre_shift == NULL) ? NULL : &conv->pre_shift[first], count, &y[first]);
}

/* Puts the operands of x, zeros where it is NULL, into the ring `past`, and returns how many rows of y came out, 0 or 1. */
QRNN_FOR_EACH_LAYER uint32_t qrnn_depthwise_conv(const QRNN_FLASH qrnn_depthwise *conv, const int16_t *x, int16_t *past, int32_t *place,
                                                 int32_t *phase, int16_t *y)
{
    const QRNN_FLASH qrnn_window *window = &conv->window;
    const uint32_t features = qrnn_window_features(window);
    const uint32_t whole = window->channels / QRNN_CHANNELS * QRNN_CHANNELS;
    uint32_t ended;

    QRNN_PHASE(QRNN_PHASE_WINDOWS);
    qrnn_keep_operands(x, features, conv->format, &past[(uint32_t)*place * features]);
    ended = qrnn_window_ends(window, place, phase);
    if (ended != 0U) {
        for (uint32_t k = 0U; k < (window->line_places * window->places); k++) {
            const uint32_t q = (window->line_places == 1U) ? 0U : (k / window->places);
            const uint32_t p = k - (q * window->places);
            uint32_t low;
            uint32_t high;

            qrnn_window_taps(window, p, &low, &high);
            for (uint32_t first = 0U; first < whole; first += QRNN_CHANNELS) {
                qrnn_depthwise_block(conv, past, (uint32_t)*place, q, p, low, high, first, QRNN_CHANNELS, y);
            }
            if (whole < window->channels) {
                qrnn_depthwise_block(conv, past, (uint32_t)*place, q, p, low, high, whole, window->channels - whole, y);
            }
            y = &y[window->channels];
        }
    }
    QRNN_PHASE(QRNN_PHASE_OTHER);
    return ended;
}

#endif
