/* SPDX-License-Identifier: Apache-2.0 */
/* No counter is known for the target. A program that has one defines QRNN_COUNTER_HEADER: the name of a header with what is here. */
#include <stdint.h>

#define QRNN_COUNTER "none"
#define QRNN_COUNTER_UNIT "cycles"

static void qrnn_counter_start(void)
{
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
    return 0U;
}
