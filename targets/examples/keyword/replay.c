/* SPDX-License-Identifier: Apache-2.0 */
/* Runs recordings through the spotter on an emulated core or on this machine, and counts the instructions of its parts.
 *
 * Input: for each recording, the number of its samples (uint32) and the samples (int16). Output: for each frame, the features, the
 * probabilities and the word that is heard (all int16, -1 for none); at the end, the instructions of front end, network and smoother, and
 * the number of frames (uint64). All are little-endian. */
#include "board.h"
#include "spotter.h"

static spotter s;
static uint64_t counts[4];

static void frame(void)
{
    int16_t heard;
    uint32_t times[4];

    times[0] = board_instructions();
    spotter_features(&s);
    times[1] = board_instructions();
    spotter_network(&s);
    times[2] = board_instructions();
    heard = (int16_t)spotter_words(&s);
    times[3] = board_instructions();
    for (int k = 0; k < 3; k++) {
        counts[k] += (uint32_t)(times[k + 1] - times[k]);
    }
    counts[3]++;
    board_write(s.codes, sizeof s.codes);
    board_write(s.p, sizeof s.p);
    board_write(&heard, sizeof heard);
}

int main(void)
{
    static int16_t samples[QRNN_LOG_MEL_HOP];
    uint32_t left;

    while (board_read(&left, sizeof left) == sizeof left) {
        spotter_init(&s);
        while (left > 0U) {
            const uint32_t count = (left < QRNN_LOG_MEL_HOP) ? left : QRNN_LOG_MEL_HOP;
            size_t done = 0;

            if (board_read(samples, 2U * count) != 2U * count) {
                return 1;
            }
            while (done < count) {
                done += qrnn_log_mel_take(&s.sound, &samples[done], count - done);
                if (qrnn_log_mel_ready(&s.sound)) {
                    frame();
                }
            }
            left -= count;
        }
    }
    board_write(counts, sizeof counts);
    return 0;
}
