/* SPDX-License-Identifier: Apache-2.0 */
/* The counter of Espressif's RISC-V cores (ESP32-C3, C6), which have no mcycle: registers of their own for events, and their number. */
#include <stdint.h>

#define QRNN_COUNTER "MPCCR"
#define QRNN_COUNTER_UNIT "cycles"

static void qrnn_counter_start(void)
{
    __asm__ volatile("csrwi 0x7E0, 1"); /* MPCER: count cycles */
    __asm__ volatile("csrwi 0x7E1, 1"); /* MPCMR: on */
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
    uint32_t count;

    __asm__ volatile("csrr %0, 0x7E2" : "=r"(count) : : "memory");
    return count;
}
