/* SPDX-License-Identifier: Apache-2.0 */
/* The system's clock, in nanoseconds, where no instruction tells cycles to a program. The file comes before every other header. */
#if !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 199309L
#endif
#include <stdint.h>
#include <time.h>

#define QRNN_COUNTER "clock"
#define QRNN_COUNTER_UNIT "ns"

static void qrnn_counter_start(void)
{
}

static void qrnn_counter_stop(void)
{
}

static uint32_t qrnn_counter_now(void)
{
#if defined(CLOCK_MONOTONIC)
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)((uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec);
#else
    return (uint32_t)((uint64_t)clock() * (1000000000U / (uint64_t)CLOCKS_PER_SEC));
#endif
}
