/* The instructions of Helium that the dot products use, for a host. */
#ifndef ARM_MVE_EMULATED_H
#define ARM_MVE_EMULATED_H

#include <stdint.h>
#include <string.h>

typedef struct {
    int8_t lane[16];
} int8x16_t;

typedef struct {
    int16_t lane[8];
} int16x8_t;

typedef uint16_t mve_pred16_t;

#define EACH_LANE(n) for (uint32_t k = 0; k < (n); k++)

static inline int8x16_t vldrbq_s8(const int8_t *p)
{
    int8x16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline int16x8_t vldrhq_s16(const int16_t *p)
{
    int16x8_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline int16x8_t vldrbq_s16(const int8_t *p)
{
    int16x8_t v;
    EACH_LANE(8) v.lane[k] = p[k];
    return v;
}

static inline mve_pred16_t vctp16q(uint32_t count)
{
    return (mve_pred16_t)(count >= 8 ? 0xFFFFu : (1u << (2 * count)) - 1u);
}

static inline int16x8_t vldrhq_z_s16(const int16_t *p, mve_pred16_t lanes)
{
    int16x8_t v;
    EACH_LANE(8) v.lane[k] = (int16_t)(((uint32_t)lanes >> (2 * k) & 1u) != 0u ? p[k] : 0);
    return v;
}

static inline void vstrhq_s16(int16_t *p, int16x8_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void vstrbq_s16(int8_t *p, int16x8_t v)
{
    EACH_LANE(8) p[k] = (int8_t)v.lane[k];
}

static inline int16x8_t vdupq_n_s16(int16_t a)
{
    int16x8_t v;
    EACH_LANE(8) v.lane[k] = a;
    return v;
}

static inline int16x8_t vmaxq_s16(int16x8_t a, int16x8_t b)
{
    EACH_LANE(8) a.lane[k] = a.lane[k] > b.lane[k] ? a.lane[k] : b.lane[k];
    return a;
}

static inline int16x8_t vminq_s16(int16x8_t a, int16x8_t b)
{
    EACH_LANE(8) a.lane[k] = a.lane[k] < b.lane[k] ? a.lane[k] : b.lane[k];
    return a;
}

static inline int16x8_t vrshlq_n_s16(int16x8_t a, int32_t shift)
{
    EACH_LANE(8) a.lane[k] = (int16_t)((a.lane[k] + ((1 << -shift) >> 1)) >> -shift);
    return a;
}

static inline int32_t vmladavaq_s8(int32_t sum, int8x16_t a, int8x16_t b)
{
    EACH_LANE(16) sum += a.lane[k] * b.lane[k];
    return sum;
}

static inline int32_t vmladavaq_s16(int32_t sum, int16x8_t a, int16x8_t b)
{
    EACH_LANE(8) sum += a.lane[k] * b.lane[k];
    return sum;
}

#endif
