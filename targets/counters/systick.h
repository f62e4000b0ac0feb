/* SPDX-License-Identifier: Apache-2.0 */
/* SysTick, of 24 bits, for cores without a cycle counter: Cortex-M0 and M0+. It belongs to the measurement meanwhile, without its interrupt, and
 * is given back as it was; an operating system's clock loses that time. */
#include <stdint.h>

#define QRNN_COUNTER "SysTick"
#define QRNN_COUNTER_UNIT "cycles"
#define QRNN_COUNTER_SPANS
#define QRNN_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define QRNN_SYST_CSR QRNN_REGISTER(0xE000E010U) /* bit 0: on, bit 2: the core's clock, bit 16: it has reached 0 */
#define QRNN_SYST_RVR QRNN_REGISTER(0xE000E014U) /* reload value */
#define QRNN_SYST_CVR QRNN_REGISTER(0xE000E018U) /* counts down; written, it becomes 0 */
#define QRNN_SYST_MOST 0xFFFFFFU

static uint32_t qrnn_counter_control, qrnn_counter_reload;

static void qrnn_counter_start(void)
{
    qrnn_counter_control = QRNN_SYST_CSR;
    qrnn_counter_reload = QRNN_SYST_RVR;
    QRNN_SYST_RVR = QRNN_SYST_MOST;
    QRNN_SYST_CSR = 5U;
}

static void qrnn_counter_stop(void)
{
    QRNN_SYST_RVR = qrnn_counter_reload;
    QRNN_SYST_CVR = 0U;
    QRNN_SYST_CSR = qrnn_counter_control & 7U;
}

static void qrnn_counter_begin(void)
{
    QRNN_SYST_CVR = 0U;
    for (uint32_t k = 0U; (QRNN_SYST_CVR == 0U) && (k < 100U); k++) { /* until the next tick has loaded it */
    }
    (void)QRNN_SYST_CSR; /* a reading clears bit 16 */
}

static uint32_t qrnn_counter_end(void)
{
    const uint32_t left = QRNN_SYST_CVR;

    if ((QRNN_SYST_CSR & (UINT32_C(1) << 16)) != 0U) {
        return UINT32_MAX; /* longer than it counts */
    }
    return (left == 0U) ? 0U : (QRNN_SYST_MOST - left);
}
