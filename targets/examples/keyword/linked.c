/* SPDX-License-Identifier: Apache-2.0 */
/* A recording that is linked into the image, as a test of a board without a microphone: `recording` and `recording_samples` are defined by
 * a file recording.c of your own (docs/keyword.md). The words that are heard are written as digits, one a line. */
#include "board.h"
#include "spotter.h"

extern const int16_t recording[];
extern const uint32_t recording_samples;

int main(void)
{
    static spotter s;

    spotter_init(&s);
    for (uint32_t n = 0; n < recording_samples; n++) {
        const int heard = spotter_hear(&s, recording[n]);

        if (heard >= 0) {
            const char line[2] = {(char)('0' + heard), '\n'};

            board_write(line, sizeof line);
        }
    }
    return 0;
}
