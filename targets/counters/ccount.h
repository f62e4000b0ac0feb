/* SPDX-License-Identifier: Apache-2.0 */
/* CCOUNT, the cycle counter of Xtensa. */
#include <stdint.h>

#define QRNN_COUNTER "CCOUNT"
#define QRNN_COUNTER_UNIT "cycles"

static void qrnn_counter_start(void)
{
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
    uint32_t count;

    __asm__ volatile("rsr %0, ccount" : "=r"(count) : : "memory");
    return count;
}
