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

static inline int32_t __smlawb(int32_t a, int32_t b, int32_t sum)
{
    return sum + (int32_t)((int64_t)a * half(b, 0) >> 16);
}

static inline int32_t __smlawt(int32_t a, int32_t b, int32_t sum)
{
    return sum + (int32_t)((int64_t)a * half(b, 1) >> 16);
}

static inline int32_t __shadd16(int32_t a, int32_t b)
{
    return join((half(a, 0) + half(b, 0)) >> 1, (half(a, 1) + half(b, 1)) >> 1);
}

static inline int64_t __smlald(int32_t a, int32_t b, int64_t sum)
{
    return sum + (int64_t)half(a, 0) * half(b, 0) + (int64_t)half(a, 1) * half(b, 1);
}

static inline int32_t __smlad(int32_t a, int32_t b, int32_t sum)
{
    return (int32_t)(uint32_t)(uint64_t)__smlald(a, b, sum);
}

static inline int32_t __smlabb(int32_t a, int32_t b, int32_t sum)
{
    return sum + half(a, 0) * half(b, 0);
}

static inline int32_t __smlabt(int32_t a, int32_t b, int32_t sum)
{
    return sum + half(a, 0) * half(b, 1);
}

static inline int32_t __smlatb(int32_t a, int32_t b, int32_t sum)
{
    return sum + half(a, 1) * half(b, 0);
}

static inline int32_t __smlatt(int32_t a, int32_t b, int32_t sum)
{
    return sum + half(a, 1) * half(b, 1);
}

/* The flags GE: whether the last __ssub16 had a difference of at least 0, of its low half and of its high half. */
static int at_least[2];

static inline int32_t __ssub16(int32_t a, int32_t b)
{
    at_least[0] = half(a, 0) >= half(b, 0);
    at_least[1] = half(a, 1) >= half(b, 1);
    return join(half(a, 0) - half(b, 0), half(a, 1) - half(b, 1));
}

static inline uint32_t __sel(uint32_t a, uint32_t b)
{
    return (at_least[0] ? a & 0xFFFFu : b & 0xFFFFu) | (at_least[1] ? a & 0xFFFF0000u : b & 0xFFFF0000u);
}

#endif
