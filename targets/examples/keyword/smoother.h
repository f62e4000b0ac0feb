/* SPDX-License-Identifier: Apache-2.0 */
/* From probabilities at every frame to words: a moving average, a threshold, and a time in which the same word is not heard again. */
#ifndef SMOOTHER_H
#define SMOOTHER_H

#include <stdint.h>

#define SMOOTHER_CLASSES 11 /* of which the last is "nothing" and is never heard */
#define SMOOTHER_ONE 16384  /* a probability of 1, as the softmax of an exported network gives it */
#define SMOOTHER_FRAMES 8   /* frames that are averaged: 80 ms */
#define SMOOTHER_LEAST 9830 /* the mean from which on a word is heard: 0.6 */
#define SMOOTHER_HOLD 40    /* frames after a word at which none is heard: 400 ms */

typedef struct {
    int16_t recent[SMOOTHER_FRAMES][SMOOTHER_CLASSES];
    int32_t sums[SMOOTHER_CLASSES];
    uint16_t oldest;
    uint16_t hold;
} smoother;

static inline void smoother_init(smoother *s)
{
    static const smoother fresh = {{{0}}, {0}, 0, 0};

    *s = fresh;
}

/* Take the probabilities of a frame, of which 1 is SMOOTHER_ONE. Returns the class of the word that is heard at this frame, or -1. */
static inline int smoother_step(smoother *s, const int16_t probabilities[SMOOTHER_CLASSES])
{
    int16_t *const row = s->recent[s->oldest];
    int best = 0;

    for (int k = 0; k < SMOOTHER_CLASSES; k++) {
        s->sums[k] += probabilities[k] - row[k];
        row[k] = probabilities[k];
        if ((k < SMOOTHER_CLASSES - 1) && (s->sums[k] > s->sums[best])) {
            best = k;
        }
    }
    s->oldest = (uint16_t)((s->oldest + 1U) % SMOOTHER_FRAMES);
    if (s->hold > 0U) {
        s->hold--;
        return -1;
    }
    if (s->sums[best] < SMOOTHER_LEAST * SMOOTHER_FRAMES) {
        return -1;
    }
    s->hold = SMOOTHER_HOLD;
    return best;
}

#endif
