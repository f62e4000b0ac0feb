/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of a depthwise convolution, four channels at a time, on processors with registers of 32 bits. */
#ifndef QRNN_CHANNELS_SCALAR_H
#define QRNN_CHANNELS_SCALAR_H

#include "qrnn_contract.h"

#define QRNN_CHANNELS 4U /* channels that are computed at a time */

typedef struct {
    int32_t s0;
    int32_t s1;
    int32_t s2;
    int32_t s3;
} qrnn_channels;

static inline qrnn_channels qrnn_channels_begin(const QRNN_FLASH int32_t *bias)
{
    const qrnn_channels sums = {bias[0], bias[1], bias[2], bias[3]};
    return sums;
}

/* The products of a tap with `count` channels; no values are read beyond. */
static inline void qrnn_channels_add_each(qrnn_channels *sums, const QRNN_FLASH int8_t *weight, const int16_t *x, uint32_t count)
{
    sums->s0 += (int32_t)weight[0] * x[0];
    if (count > 1U) {
        sums->s1 += (int32_t)weight[1] * x[1];
    }
    if (count > 2U) {
        sums->s2 += (int32_t)weight[2] * x[2];
    }
    if (count > 3U) {
        sums->s3 += (int32_t)weight[3] * x[3];
    }
}

static inline int16_t qrnn_channel(int32_t sum, int32_t multiplier, const QRNN_FLASH uint8_t *left_shift, const QRNN_FLASH uint8_t *pre_shift, uint32_t k)
{
    const int32_t y = qrnn_requantize(sum, multiplier, (left_shift == NULL) ? 0U : left_shift[k]);
    return (int16_t)((pre_shift == NULL) ? qrnn_saturate16(y) : qrnn_saturate16_shifted(y, pre_shift[k]));
}

/* y = saturate16_shifted(requantize(sums, multiplier, left_shift), pre_shift) of `count` channels */
static inline void qrnn_channels_end(const qrnn_channels *sums, const QRNN_FLASH int32_t *multiplier, const QRNN_FLASH uint8_t *left_shift,
                                     const QRNN_FLASH uint8_t *pre_shift, uint32_t count, int16_t *y)
{
    y[0] = qrnn_channel(sums->s0, multiplier[0], left_shift, pre_shift, 0U);
    if (count > 1U) {
        y[1] = qrnn_channel(sums->s1, multiplier[1], left_shift, pre_shift, 1U);
    }
    if (count > 2U) {
        y[2] = qrnn_channel(sums->s2, multiplier[2], left_shift, pre_shift, 2U);
    }
    if (count > 3U) {
        y[3] = qrnn_channel(sums->s3, multiplier[3], left_shift, pre_shift, 3U);
    }
}

#if !defined(QRNN_HAS_WRITE_BLOCK)
/* the same of a block of four rows of a matrix */
static inline void qrnn_write_block(const int32_t sums[4], const QRNN_FLASH int32_t multiplier[4], const QRNN_FLASH uint8_t *left_shift,
                                    const QRNN_FLASH uint8_t *pre_shift, uint32_t count, int16_t *y)
{
    const qrnn_channels found = {sums[0], sums[1], sums[2], sums[3]};
    qrnn_channels_end(&found, multiplier, left_shift, pre_shift, count, y);
}
#endif

#endif
