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

typedef struct {
    int32_t lane[4];
} int32x4_t;

typedef struct {
    uint32_t lane[4];
} uint32x4_t;

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

static inline int32_t vmladavq_s8(int8x16_t a, int8x16_t b)
{
    return vmladavaq_s8(0, a, b);
}

static inline int32_t vmladavq_s16(int16x8_t a, int16x8_t b)
{
    return vmladavaq_s16(0, a, b);
}

static inline int16x8_t veorq_s16(int16x8_t a, int16x8_t b)
{
    EACH_LANE(8) a.lane[k] = (int16_t)((uint16_t)a.lane[k] ^ (uint16_t)b.lane[k]);
    return a;
}

static inline int8x16_t vdupq_n_s8(int8_t a)
{
    int8x16_t v;
    EACH_LANE(16) v.lane[k] = a;
    return v;
}

static inline int8x16_t vandq_s8(int8x16_t a, int8x16_t b)
{
    EACH_LANE(16) a.lane[k] = (int8_t)((uint8_t)a.lane[k] & (uint8_t)b.lane[k]);
    return a;
}

static inline int8x16_t vshlq_n_s8(int8x16_t a, int shift)
{
    EACH_LANE(16) a.lane[k] = (int8_t)(uint8_t)((uint32_t)(uint8_t)a.lane[k] << shift);
    return a;
}

static inline int16x8_t vshlq_n_s16(int16x8_t a, int shift)
{
    EACH_LANE(8) a.lane[k] = (int16_t)(uint16_t)((uint32_t)(uint16_t)a.lane[k] << shift);
    return a;
}

static inline int16x8_t vshrq_n_s16(int16x8_t a, int shift)
{
    EACH_LANE(8) a.lane[k] = (int16_t)(a.lane[k] >> shift);
    return a;
}

static inline int has_lane(mve_pred16_t lanes, uint32_t k)
{
    return ((uint32_t)lanes >> k & 1u) != 0u;
}

static inline mve_pred16_t vctp32q(uint32_t count)
{
    return (mve_pred16_t)(count >= 4 ? 0xFFFFu : (1u << (4 * count)) - 1u);
}

static inline void vstrbq_p_s16(int8_t *p, int16x8_t v, mve_pred16_t lanes)
{
    EACH_LANE(8) if (has_lane(lanes, 2 * k)) p[k] = (int8_t)v.lane[k];
}

static inline void vstrhq_p_s16(int16_t *p, int16x8_t v, mve_pred16_t lanes)
{
    EACH_LANE(8) if (has_lane(lanes, 2 * k)) p[k] = v.lane[k];
}

static inline void vstrhq_s32(int16_t *p, int32x4_t v)
{
    EACH_LANE(4) p[k] = (int16_t)(uint16_t)((uint32_t)v.lane[k] & 0xFFFFu);
}

static inline void vstrhq_p_s32(int16_t *p, int32x4_t v, mve_pred16_t lanes)
{
    EACH_LANE(4) if (has_lane(lanes, 4 * k)) p[k] = (int16_t)(uint16_t)((uint32_t)v.lane[k] & 0xFFFFu);
}

static inline int32x4_t vldrwq_s32(const int32_t *p)
{
    int32x4_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32x4_t vldrbq_u32(const uint8_t *p)
{
    uint32x4_t v;
    EACH_LANE(4) v.lane[k] = p[k];
    return v;
}

static inline int32x4_t vldrwq_gather_shifted_offset_s32(const int32_t *p, uint32x4_t at)
{
    int32x4_t r;
    EACH_LANE(4) r.lane[k] = p[at.lane[k]];
    return r;
}

static inline int8x16_t vreinterpretq_s8_s32(int32x4_t a)
{
    int8x16_t r;
    memcpy(&r, &a, sizeof r);
    return r;
}

static inline int32x4_t vreinterpretq_s32_u32(uint32x4_t a)
{
    int32x4_t v;
    memcpy(&v, &a, sizeof v);
    return v;
}

static inline int16x8_t vreinterpretq_s16_s32(int32x4_t a)
{
    int16x8_t v;
    memcpy(&v, &a, sizeof v);
    return v;
}

static inline int32x4_t vreinterpretq_s32_s16(int16x8_t a)
{
    int32x4_t v;
    memcpy(&v, &a, sizeof v);
    return v;
}

static inline int32x4_t vdupq_n_s32(int32_t a)
{
    int32x4_t v;
    EACH_LANE(4) v.lane[k] = a;
    return v;
}

static inline int32x4_t vaddq_s32(int32x4_t a, int32x4_t b)
{
    EACH_LANE(4) a.lane[k] += b.lane[k];
    return a;
}

static inline int32x4_t vnegq_s32(int32x4_t a)
{
    EACH_LANE(4) a.lane[k] = -a.lane[k];
    return a;
}

static inline int32x4_t vminq_s32(int32x4_t a, int32x4_t b)
{
    EACH_LANE(4) a.lane[k] = a.lane[k] < b.lane[k] ? a.lane[k] : b.lane[k];
    return a;
}

static inline int32x4_t vmaxq_s32(int32x4_t a, int32x4_t b)
{
    EACH_LANE(4) a.lane[k] = a.lane[k] > b.lane[k] ? a.lane[k] : b.lane[k];
    return a;
}

/* Shifts left by b, or right where b is negative. */
static inline int32x4_t vshlq_s32(int32x4_t a, int32x4_t b)
{
    EACH_LANE(4) a.lane[k] = b.lane[k] >= 0 ? (int32_t)((uint32_t)a.lane[k] << b.lane[k]) : a.lane[k] >> -b.lane[k];
    return a;
}

static inline int32x4_t vrmulhq_s32(int32x4_t a, int32x4_t b)
{
    EACH_LANE(4) a.lane[k] = (int32_t)(((int64_t)a.lane[k] * b.lane[k] + INT64_C(0x80000000)) >> 32);
    return a;
}

/* Products of even lanes, and of odd ones */
static inline int32x4_t vmullbq_int_s16(int16x8_t a, int16x8_t b)
{
    int32x4_t v;
    EACH_LANE(4) v.lane[k] = a.lane[2 * k] * b.lane[2 * k];
    return v;
}

static inline int32x4_t vmulltq_int_s16(int16x8_t a, int16x8_t b)
{
    int32x4_t v;
    EACH_LANE(4) v.lane[k] = a.lane[2 * k + 1] * b.lane[2 * k + 1];
    return v;
}

static inline int16_t narrowed(int32_t x)
{
    return (int16_t)(x < -32768 ? -32768 : x > 32767 ? 32767 : x);
}

/* Even lanes, or odd ones, of a become those of b, saturated. */
static inline int16x8_t vqmovnbq_s32(int16x8_t a, int32x4_t b)
{
    EACH_LANE(4) a.lane[2 * k] = narrowed(b.lane[k]);
    return a;
}

static inline int16x8_t vqmovntq_s32(int16x8_t a, int32x4_t b)
{
    EACH_LANE(4) a.lane[2 * k + 1] = narrowed(b.lane[k]);
    return a;
}

#endif
