/* SPDX-License-Identifier: Apache-2.0 */
/* The cycle counter of the DWT unit, of 32 bits: Cortex-M3 and up. A core may lack it, and emulators do: then it stays at 0. */
#include <stdint.h>

#define QRNN_COUNTER "DWT CYCCNT"
#define QRNN_COUNTER_UNIT "cycles"
#define QRNN_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

static void qrnn_counter_start(void)
{
    QRNN_REGISTER(0xE000EDFCU) |= UINT32_C(1) << 24; /* DEMCR: the unit is on */
    QRNN_REGISTER(0xE0001FB0U) = 0xC5ACCE55U;        /* LAR: the Cortex-M7's unit is locked after a reset; others ignore it */
    QRNN_REGISTER(0xE0001004U) = 0U;                 /* CYCCNT */
    QRNN_REGISTER(0xE0001000U) |= 1U;                /* CTRL: it counts */
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
    return QRNN_REGISTER(0xE0001004U);
}
