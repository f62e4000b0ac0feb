/* SPDX-License-Identifier: Apache-2.0 */
/* Log-mel energies of sampled sound, in integers: a microphone's samples become the codes that a model reads.
 *
 * What is computed is `LogMel.codes` of qrnn/datasets/log_mel.py, bit for bit. The settings are those of qrnn_log_mel_sizes.h, which
 * `qrnn data front-end` writes. A code stands for code / 1024, the natural logarithm of a band's energy; `qrnn export --codes x=1/1024`
 * makes the function that turns codes into a model's input. Nothing is allocated, and no real number is computed with.
 *
 *     static qrnn_log_mel sound;
 *     qrnn_log_mel_init(&sound);
 *     while (count > 0) {
 *         size_t taken = qrnn_log_mel_take(&sound, samples, count);
 *         samples += taken;
 *         count -= taken;
 *         if (qrnn_log_mel_ready(&sound)) {
 *             qrnn_log_mel_codes(&sound, codes);
 *             ... one step of the model ...
 *         }
 *     } */
#ifndef QRNN_LOG_MEL_H
#define QRNN_LOG_MEL_H

#include <stddef.h>
#include <stdint.h>

#include "qrnn_log_mel_sizes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One number of the transform, and afterwards the power of one frequency. */
typedef union {
    struct {
        int32_t re;
        int32_t im;
    } z;
    uint64_t power;
} qrnn_log_mel_bin;

/* The samples of the frame that is being gathered, and room for its transform. */
typedef struct {
    int16_t samples[QRNN_LOG_MEL_WINDOW];
    size_t filled;
    qrnn_log_mel_bin bins[QRNN_LOG_MEL_POINTS / 2 + 1];
} qrnn_log_mel;

/* Begin a recording. */
void qrnn_log_mel_init(qrnn_log_mel *sound);

/* Take samples until a frame is whole. Returns how many were taken: all `count`, or fewer where the frame is whole before. */
size_t qrnn_log_mel_take(qrnn_log_mel *sound, const int16_t *samples, size_t count);

/* Return 1 where a frame is whole, and 0 otherwise. */
int qrnn_log_mel_ready(const qrnn_log_mel *sound);

/* Compute the codes of the whole frame, and go on to the next, which begins QRNN_LOG_MEL_HOP samples later. */
void qrnn_log_mel_codes(qrnn_log_mel *sound, int16_t codes[QRNN_LOG_MEL_BANDS]);

#ifdef __cplusplus
}
#endif

#endif
