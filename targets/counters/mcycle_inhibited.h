/* SPDX-License-Identifier: Apache-2.0 */
/* The low word of mcycle, in machine mode, on cores that begin with the counter inhibited: Hazard3, as of the RP2350. */
#include <stdint.h>

#define QRNN_COUNTER "mcycle"
#define QRNN_COUNTER_UNIT "cycles"

static void qrnn_counter_start(void)
{
    __asm__ volatile("csrci 0x320, 1"); /* mcountinhibit.CY */
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
    uint32_t count;

    __asm__ volatile("csrr %0, mcycle" : "=r"(count) : : "memory");
    return count;
}
