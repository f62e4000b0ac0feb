/* SPDX-License-Identifier: Apache-2.0 */
/* The cycle counter of the performance monitors of Cortex-R and Cortex-A, in a privileged mode. */
#include <stdint.h>

#define QRNN_COUNTER "PMCCNTR"
#define QRNN_COUNTER_UNIT "cycles"

static void qrnn_counter_start(void)
{
    __asm__ volatile("mcr p15, 0, %0, c9, c12, 0" : : "r"(5U));                /* PMCR: on, every cycle, from 0 */
    __asm__ volatile("mcr p15, 0, %0, c9, c12, 1" : : "r"(UINT32_C(1) << 31)); /* PMCNTENSET */
    __asm__ volatile("isb" : : : "memory");
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
    uint32_t count;

    __asm__ volatile("isb\n\tmrc p15, 0, %0, c9, c13, 0" : "=r"(count) : : "memory");
    return count;
}
