/* SPDX-License-Identifier: Apache-2.0 */
/* The time stamp counter of x86-64. It counts at a rate of its own, whatever the core's clock is. */
#include <stdint.h>

#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <x86intrin.h>
#endif

#define QRNN_COUNTER "TSC"
#define QRNN_COUNTER_UNIT "ticks"

static void qrnn_counter_start(void)
{
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
    return (uint32_t)__rdtsc();
}
