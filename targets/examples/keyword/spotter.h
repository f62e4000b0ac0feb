/* SPDX-License-Identifier: Apache-2.0 */
/* A keyword spotter: samples of a microphone in, words out. It is the log-mel front end, the exported network and the smoother in a row. */
#ifndef SPOTTER_H
#define SPOTTER_H

#include "keyword_net.h"
#include "qrnn_log_mel.h"
#include "smoother.h"

typedef struct {
    qrnn_log_mel sound;
    keyword_net_state network;
    smoother words;
    int16_t codes[QRNN_LOG_MEL_BANDS];
    int16_t x[KEYWORD_NET_X_SIZE];
    int16_t p[KEYWORD_NET_P_SIZE];
} spotter;

/* An array of -1 elements does not compile: the parts do not fit each other. */
typedef char spotter_parts_fit[((KEYWORD_NET_X_SIZE == QRNN_LOG_MEL_BANDS) && (KEYWORD_NET_P_SIZE == SMOOTHER_CLASSES) &&
                                (KEYWORD_NET_P_LIMIT == SMOOTHER_ONE)) ? 1 : -1];

static inline void spotter_init(spotter *s)
{
    qrnn_log_mel_init(&s->sound);
    keyword_net_init(&s->network);
    smoother_init(&s->words);
}

/* The three parts of a frame, which come one after the other once qrnn_log_mel_ready(&s->sound) is true. */
static inline void spotter_features(spotter *s)
{
    qrnn_log_mel_codes(&s->sound, s->codes);
}

static inline void spotter_network(spotter *s)
{
    keyword_net_from_codes_x(s->codes, s->x);
    keyword_net_step(&s->network, s->x, s->p);
}

static inline int spotter_words(spotter *s)
{
    return smoother_step(&s->words, s->p);
}

/* Take one sample, as an interrupt of a converter gives it. Returns the class of the word that is heard, or -1. */
static inline int spotter_hear(spotter *s, int16_t sample)
{
    (void)qrnn_log_mel_take(&s->sound, &sample, 1);
    if (!qrnn_log_mel_ready(&s->sound)) {
        return -1;
    }
    spotter_features(s);
    spotter_network(s);
    return spotter_words(s);
}

#endif
