/* SPDX-License-Identifier: Apache-2.0 */
/* See qrnn_log_mel.h; every step is that of `LogMel.codes` in qrnn/datasets/log_mel.py. */
#include "qrnn_log_mel.h"

#include "qrnn_contract.h"
#include "qrnn_log_mel_tables.h"

#define HALF (QRNN_LOG_MEL_POINTS / 2)
#define LN2 INT32_C(11629080) /* 24 fraction bits */

static const int32_t *const sines = qrnn_log_mel_turns;
static const int32_t *const cosines = &qrnn_log_mel_turns[QRNN_LOG_MEL_POINTS / 4];

/* The upper 32 bits of a product, which is one instruction of many cores. */
static inline int32_t upper(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b) >> 32);
}

/* Half of (re + i im) (c - i s), of which c and s are in Q31. */
static inline void turned(int32_t re, int32_t im, int32_t c, int32_t s, int32_t *to_re, int32_t *to_im)
{
    *to_re = upper(re, c) + upper(im, s);
    *to_im = upper(im, c) - upper(re, s);
}

static inline uint64_t power_of(int32_t re, int32_t im)
{
    return (uint64_t)((int64_t)re * re) + (uint64_t)((int64_t)im * im);
}

/* Write the windowed frame into the bins, even samples as real and odd ones as imaginary parts, scaled to 30 bits. Returns the scale's bits. */
static int32_t windowed(qrnn_log_mel *sound)
{
    uint32_t any = 0;
    int32_t shift = 0;

    for (size_t k = QRNN_LOG_MEL_WINDOW / 2; k < HALF; k++) { /* behind the window */
        sound->bins[k].z.re = 0;
        sound->bins[k].z.im = 0;
    }
    for (size_t n = 0; n < QRNN_LOG_MEL_WINDOW; n++) {
        const int32_t value = (int32_t)sound->samples[n] * qrnn_log_mel_hann[n];

        any |= (uint32_t)((value < 0) ? -value : value);
        if ((n & 1U) == 0U) {
            sound->bins[n >> 1].z.re = value;
        } else {
            sound->bins[n >> 1].z.im = value;
        }
    }
    if (any == 0U) {
        return 30;
    }
    while ((any & (UINT32_C(1) << 29)) == 0U) {
        any <<= 1;
        shift++;
    }
    for (size_t k = 0; k < HALF; k++) {
        sound->bins[k].z.re *= INT32_C(1) << shift;
        sound->bins[k].z.im *= INT32_C(1) << shift;
    }
    return shift;
}

/* Put every bin where its number with the bits in the other order says. */
static void reorder(qrnn_log_mel_bin *bins)
{
    size_t to = 0;

    for (size_t from = 0; from < HALF; from++) {
        size_t bit = HALF >> 1;

        if (from < to) {
            const qrnn_log_mel_bin kept = bins[from];

            bins[from] = bins[to];
            bins[to] = kept;
        }
        while ((to & bit) != 0U) {
            to ^= bit;
            bit >>= 1;
        }
        to |= bit;
    }
}

/* The complex transform of HALF points, divided by HALF. */
static void transform(qrnn_log_mel_bin *bins)
{
    for (size_t size = 1; size < HALF; size *= 2) {
        for (size_t k = 0; k < size; k++) {
            const int32_t c = cosines[k * (HALF / size)];
            const int32_t s = sines[k * (HALF / size)];

            for (size_t at = k; at < HALF; at += 2 * size) {
                qrnn_log_mel_bin *const a = &bins[at];
                qrnn_log_mel_bin *const b = &bins[at + size];
                const int32_t re = a->z.re >> 1;
                const int32_t im = a->z.im >> 1;
                int32_t t_re;
                int32_t t_im;

                turned(b->z.re, b->z.im, c, s, &t_re, &t_im);
                a->z.re = re + t_re;
                a->z.im = im + t_im;
                b->z.re = re - t_re;
                b->z.im = im - t_im;
            }
        }
    }
}

/* The power of the frequencies 0 to HALF of the real frame, in the place of its transform. */
static void to_power(qrnn_log_mel_bin *bins)
{
    for (size_t k = 0; k <= HALF / 2; k++) {
        const qrnn_log_mel_bin *const other = &bins[(k == 0U) ? 0U : (HALF - k)];
        const int32_t re = bins[k].z.re >> 1;
        const int32_t im = bins[k].z.im >> 1;
        const int32_t re_other = other->z.re >> 1;
        const int32_t im_other = other->z.im >> 1;
        const int32_t even_re = (re + re_other) >> 1;
        const int32_t even_im = (im - im_other) >> 1;
        int32_t t_re;
        int32_t t_im;

        turned(im + im_other, re_other - re, cosines[k], sines[k], &t_re, &t_im);
        bins[HALF - k].power = power_of(even_re - t_re, even_im - t_im);
        bins[k].power = power_of(even_re + t_re, even_im + t_im);
    }
}

/* The logarithm of each band's energy. */
static void to_codes(const qrnn_log_mel_bin *bins, int32_t shift, int16_t *codes)
{
    const uint16_t *weight = qrnn_log_mel_weights;
    const int32_t scale = (31 + (2 * shift)) * LN2;

    for (size_t b = 0; b < QRNN_LOG_MEL_BANDS; b++) {
        const qrnn_log_mel_bin *const from = &bins[qrnn_log_mel_starts[b]];
        uint64_t energy = 0;
        int32_t value;

        for (size_t k = 0; k < qrnn_log_mel_counts[b]; k++) {
            energy += (from[k].power >> 14) * weight[k];
        }
        weight += qrnn_log_mel_counts[b];
        value = qrnn_natural_log((energy == 0U) ? INT64_C(1) : (int64_t)energy, qrnn_log_mel_logs) - scale;
        if (value < -16 * LN2) {
            value = -16 * LN2;
        }
        codes[b] = (int16_t)((value + (INT32_C(1) << 13)) >> 14);
    }
}

void qrnn_log_mel_init(qrnn_log_mel *sound)
{
    sound->filled = 0;
}

size_t qrnn_log_mel_take(qrnn_log_mel *sound, const int16_t *samples, size_t count)
{
    const size_t room = QRNN_LOG_MEL_WINDOW - sound->filled;
    const size_t taken = (count < room) ? count : room;

    QRNN_COPY(&sound->samples[sound->filled], samples, taken * sizeof *samples);
    sound->filled += taken;
    return taken;
}

int qrnn_log_mel_ready(const qrnn_log_mel *sound)
{
    return sound->filled == QRNN_LOG_MEL_WINDOW;
}

void qrnn_log_mel_codes(qrnn_log_mel *sound, int16_t codes[QRNN_LOG_MEL_BANDS])
{
    const int32_t shift = windowed(sound);

    reorder(sound->bins);
    transform(sound->bins);
    to_power(sound->bins);
    to_codes(sound->bins, shift, codes);
    sound->filled = QRNN_LOG_MEL_WINDOW - QRNN_LOG_MEL_HOP;
    for (size_t n = 0; n < sound->filled; n++) {
        sound->samples[n] = sound->samples[n + QRNN_LOG_MEL_HOP];
    }
}
