/* SPDX-License-Identifier: Apache-2.0 */
/* Which of the instruction sets that libraries have kernels for an x86-64 processor and its operating system have. */
#ifndef QRNN_X86_H
#define QRNN_X86_H

#include <cpuid.h>
#include <stdint.h>

typedef struct {
    uint32_t eax, ebx, ecx, edx;
} qrnn_cpuid;

static inline qrnn_cpuid qrnn_cpuid_of(uint32_t leaf)
{
    qrnn_cpuid found = {0U, 0U, 0U, 0U};
    (void)__get_cpuid_count(leaf, 0U, &found.eax, &found.ebx, &found.ecx, &found.edx);
    return found;
}

/* The registers that the operating system keeps for programs: XCR0, where it may be read. */
static inline uint32_t qrnn_kept_registers(void)
{
    uint32_t low = 0U;
    uint32_t high = 0U;
    if ((qrnn_cpuid_of(1U).ecx & (UINT32_C(1) << 27)) != 0U) { /* OSXSAVE */
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0U));
    }
    return low;
}

static inline int qrnn_has_all(uint32_t word, uint32_t bits)
{
    return ((word & bits) == bits) ? 1 : 0;
}

/* x86-64-v3: FMA, MOVBE, F16C; LZCNT; BMI1, AVX2, BMI2; and the registers of SSE and AVX. AVX is behind XCR0. */
static inline int qrnn_runs_avx2(void)
{
    const uint32_t first = (UINT32_C(1) << 12) | (UINT32_C(1) << 22) | (UINT32_C(1) << 28) | (UINT32_C(1) << 29);
    const uint32_t seventh = (UINT32_C(1) << 3) | (UINT32_C(1) << 5) | (UINT32_C(1) << 8);
    return (qrnn_has_all(qrnn_kept_registers(), 0x06U) != 0) && (qrnn_has_all(qrnn_cpuid_of(1U).ecx, first) != 0) &&
           (qrnn_has_all(qrnn_cpuid_of(0x80000001U).ecx, UINT32_C(1) << 5) != 0) && (qrnn_has_all(qrnn_cpuid_of(7U).ebx, seventh) != 0);
}

/* x86-64-v4 and VNNI: AVX-512 F, DQ, CD, BW, VL and VNNI, and the registers of AVX-512 */
static inline int qrnn_runs_vnni(void)
{
    const uint32_t sets = (UINT32_C(1) << 16) | (UINT32_C(1) << 17) | (UINT32_C(1) << 28) | (UINT32_C(1) << 30) | (UINT32_C(1) << 31);
    const qrnn_cpuid seventh = qrnn_cpuid_of(7U);
    return (qrnn_runs_avx2() != 0) && (qrnn_has_all(qrnn_kept_registers(), 0xE6U) != 0) && (qrnn_has_all(seventh.ebx, sets) != 0) &&
           (qrnn_has_all(seventh.ecx, UINT32_C(1) << 11) != 0);
}

#endif
