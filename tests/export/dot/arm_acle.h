/* The instructions of the Arm DSP extension that the dot products use, for a host. */
#ifndef ARM_ACLE_EMULATED_H
#define ARM_ACLE_EMULATED_H

#include <stdint.h>

static inline int32_t half(int32_t word, int top)
{
    return (int16_t)(uint16_t)((uint32_t)word >> (top ? 16 : 0));
}

static inline int32_t join(int32_t low, int32_t high)
{
    return (int32_t)(((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16);
}

static inline int32_t saturated(int32_t x)
{
    return x < -32768 ? -32768 : x > 32767 ? 32767 : x;
}

static inline int32_t __sxtb16(int32_t a)
{
    return join((int8_t)(uint8_t)a, (int8_t)(uint8_t)((uint32_t)a >> 16));
}

static inline int32_t __qadd16(int32_t a, int32_t b)
{
    return join(saturated(half(a, 0) + half(b, 0)), saturated(half(a, 1) + half(b, 1)));
}

static inline int32_t __qsub16(int32_t a, int32_t b)
{
    return join(saturated(half(a, 0) - half(b, 0)), saturated(half(a, 1) - half(b, 1)));
}

static inline int64_t __smlald(int32_t a, int32_t b, int64_t sum)
{
    return sum + (int64_t)half(a, 0) * half(b, 0) + (int64_t)half(a, 1) * half(b, 1);
}

static inline int32_t __smlad(int32_t a, int32_t b, int32_t sum)
{
    return (int32_t)(uint32_t)(uint64_t)__smlald(a, b, sum);
}

#endif
