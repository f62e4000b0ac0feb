/* Compares each special form of the runtime with the function of the contract that it replaces. That function is the generated text with
 * `plain_` in place of `qrnn_`, where no special form takes its place. The exit status is the number of the form that differs. */
#include <stdint.h>
#include <string.h>

#define QRNN_USE_NARROW
#define QRNN_USE_WIDE
#include HEADER
#if defined(OPERANDS_OF_DSP)
#define QRNN_GATE_ODD
#define QRNN_GATE_SIGNED
#include "qrnn_gates_dsp.h"
#endif
#include "qrnn_contract_lanes.h"
#include "qrnn_softmax.h"

#define plain_shift_left qrnn_shift_left
#define plain_within_int32 qrnn_within_int32
#include "plain_contract.h"

#define EXPECT(form, got, want) \
    do {                        \
        if ((got) != (want)) {  \
            return (form);      \
        }                       \
    } while (0)

/* As many as a vector has, or the rows of a block. */
#define LANES ((QRNN_LANES > QRNN_BLOCK_ROWS) ? QRNN_LANES : QRNN_BLOCK_ROWS)

#if defined(QRNN_HAS_VECTORS)
static void requantized(const int32_t *sums, const int32_t *multiplier, const uint8_t *left_shift, int32_t *y)
{
    qrnn_requantize_block(qrnn_vector_read32(sums), multiplier, left_shift, y);
}
#else
#define requantized qrnn_requantize_four
#endif

static uint32_t random_bits = 1;

static uint32_t next(void);

/* Multipliers of 16 bits and a shift, random and as large as they can be */
static int short_multipliers(void)
{
    for (uint32_t n = 0; n < COUNT; n++) {
        const uint32_t shift = 1U + (next() % 15U);
        const uint32_t m = (n % 8U == 0U) ? 65535U : (next() & 0xFFFFU);
        const int32_t limits[] = {INT32_MAX, -INT32_MAX, (int32_t)(next() >> (next() % 32U)), -(int32_t)(next() >> 1)};
        const int32_t acc = (n % 4U < 2U) ? limits[n / 8U % 4U] : (int32_t)(next() >> 1) - INT32_C(0x40000000);

        if (acc != INT32_MIN) {
            EXPECT(60, qrnn_requantize_short(acc, m, shift), plain_requantize(acc, (int32_t)(m << shift), 0));
        }
    }
    return 0;
}

static uint32_t next(void) /* xorshift32 */
{
    random_bits ^= random_bits << 13;
    random_bits ^= random_bits >> 17;
    random_bits ^= random_bits << 5;
    return random_bits;
}

/* Numbers of every size, of either sign, and the ends. */
static int32_t any(void)
{
    static const int32_t ends[] = {0, 1, -1, 32767, -32767, 32768, -32768, 32769, -32769, INT32_MAX, -INT32_MAX, INT32_MIN};
    if ((next() & 15U) == 0U) {
        return ends[next() % 12U];
    }
    return (int32_t)next() >> (next() % 32U);
}

/* The same without the one number that has no magnitude. */
static int32_t sized(void)
{
    const int32_t x = any();
    return (x == INT32_MIN) ? INT32_MAX : x;
}

static int scalars(void)
{
    for (uint32_t k = 0; k < COUNT; k++) {
        const int32_t a = any();
        const int32_t b = any();
        const uint32_t shift = next() % 31U;
        const uint32_t left = next() % 31U;
        const int32_t acc = sized() / (int32_t)(UINT32_C(1) << left);
        const int32_t multiplier = ((next() & 15U) == 0U) ? 2147483646 : (int32_t)(next() >> (1U + (next() % 30U))) & ~1;
        EXPECT(1, qrnn_saturate16(a), plain_saturate16(a));
        EXPECT(2, qrnn_add_saturate32(a, b), plain_saturate64((int64_t)a + b, INT32_MIN, INT32_MAX));
        EXPECT(3, plain_saturate16(qrnn_shift_right_round_full(a, shift)),
               plain_saturate64(plain_shift_right_round64(a, shift), -32768, 32767));
        EXPECT(4, qrnn_shift_right_round_full(a, shift) == INT32_MIN, 0);
        EXPECT(5, qrnn_requantize(acc, multiplier, left), plain_requantize(acc, multiplier, left));
    }
    return 0;
}

/* A form of one vector argument, as each of its lanes: EACH(form, vector, scalar) with the value of the lane called x in both. */
#define EACH(form, vector, scalar)                              \
    do {                                                        \
        qrnn_lanes_write32(found, (vector), QRNN_LANES);        \
        for (uint32_t lane = 0; lane < QRNN_LANES; lane++) {    \
            const int32_t a = as[lane];                         \
            const int32_t b = bs[lane];                         \
            (void)b;                                            \
            EXPECT((form), found[lane], (scalar));              \
        }                                                       \
    } while (0)

static int lanes(void)
{
    for (uint32_t n = 0; n < COUNT / LANES; n++) {
        int32_t as[LANES];
        int32_t bs[LANES];
        int32_t found[LANES];
        uint8_t shifts[LANES];
        const uint32_t shift = next() % 31U;
        const int32_t end = any();
        const int32_t other = any();
        for (uint32_t k = 0; k < LANES; k++) {
            as[k] = sized();
            bs[k] = sized();
            shifts[k] = (uint8_t)(next() % 16U);
        }
        {
            const qrnn_lanes x = qrnn_lanes_of(as);
            const qrnn_lanes y = qrnn_lanes_of(bs);
            EACH(20, qrnn_lanes_min(x, end), plain_at_most(a, end));
            EACH(21, qrnn_lanes_max(x, end), plain_at_least(a, end));
            EACH(22, qrnn_lanes_size(x), plain_magnitude(a));
            EACH(23, qrnn_lanes_saturate16(x), plain_saturate16(a));
            EACH(24, qrnn_lanes_symmetric16(x), plain_saturate(a, -32767, 32767));
            EACH(25, qrnn_lanes_with_sign(x, y), (b < 0) ? -a : a);
            EACH(26, qrnn_lanes_choose(x, end, other, y), (a <= end) ? other : b);
            EACH(27, qrnn_lanes_add_saturate32(x, y), plain_saturate64((int64_t)a + b, INT32_MIN, INT32_MAX));
            EACH(28, qrnn_lanes_saturate16(qrnn_lanes_shift_right_round_full(x, shift)),
                 plain_saturate64(plain_shift_right_round64(a, shift), -32768, 32767));
            EACH(29, qrnn_lanes_saturate16_shifted(x, shifts), plain_saturate16_shifted(a, shifts[lane]));
            for (uint32_t k = 0; k < LANES; k++) {
                bs[k] = (int32_t)(next() % 32769U);
            }
            EACH(30, qrnn_lanes_multiply_q15(x, qrnn_lanes_of(bs)), plain_shift_right_round64((int64_t)a * b, 15));
            for (uint32_t k = 0; k < LANES; k++) {
                as[k] >>= 1; /* with room for half a unit */
            }
            EACH(31, qrnn_lanes_shift_right_round(qrnn_lanes_of(as), shift), plain_shift_right_round(a, shift));
            for (uint32_t k = 0; k < LANES; k++) {
                as[k] = (as[k] < 0) ? -(as[k] + 1) : as[k];
            }
            EACH(32, qrnn_lanes_at_most_32767(qrnn_lanes_of(as)), plain_at_most(a, 32767));
        }
        {
            int32_t sums[LANES];
            int32_t multiplier[LANES];
            for (uint32_t k = 0; k < LANES; k++) {
                sums[k] = sized() / (1 << shifts[k]);
                multiplier[k] = (int32_t)(next() >> 1) & ~1;
            }
            requantized(sums, multiplier, shifts, found);
            for (uint32_t k = 0; k < LANES; k++) {
                EXPECT(40, found[k], plain_requantize(sums[k], multiplier[k], shifts[k]));
            }
            for (uint32_t k = 0; k < LANES; k++) {
                sums[k] = sized();
            }
            requantized(sums, multiplier, NULL, found);
            for (uint32_t k = 0; k < LANES; k++) {
                EXPECT(41, found[k], plain_requantize(sums[k], multiplier[k], 0));
            }
        }
    }
    return 0;
}

#if defined(QRNN_HAS_PIECEWISE_LINEAR16)
/* Every argument, with tables that leap from end to end and random ones. */
static int piecewise_linear(void)
{
    static int16_t table[257];
    for (uint32_t bits = 8; bits < 16U; bits++) {
        for (uint32_t k = 0; k < 257U; k++) {
            table[k] = (int16_t)(((bits & 1U) != 0U) ? ((int32_t)(next() % 65536U) - 32768) : (((k & 1U) != 0U) ? 32767 : -32767));
        }
        for (int32_t first = 0; first < 65536; first += (int32_t)LANES) {
            int32_t as[LANES];
            int32_t found[LANES];
            for (uint32_t k = 0; k < LANES; k++) {
                as[k] = first + (int32_t)k;
            }
            qrnn_lanes_write32(found, qrnn_piecewise_linear16(qrnn_lanes_of(as), table, bits), LANES);
            for (uint32_t k = 0; k < LANES; k++) {
                const int32_t from = table[as[k] >> bits];
                const int32_t rise = table[(as[k] >> bits) + 1] - from;
                const int32_t fraction = (int32_t)(((uint32_t)as[k] << (15U - bits)) & 32767U);
                EXPECT(70, found[k], from + plain_shift_right_round(rise * fraction, 15));
            }
        }
    }
    return 0;
}
#else
static int piecewise_linear(void)
{
    return 0;
}
#endif

#if defined(OPERANDS_OF_DSP)
#define SEGMENTS 1024

/* Functions of both kinds of tables, rising, leaping and random, with every offset, at every int16 and beyond. Entry -k is minus entry k. */
static int signed_tables(void)
{
    static int16_t table[SEGMENTS + 1];
    static int16_t of_both_signs[2 * SEGMENTS + 1];
    static const int32_t offsets[] = {0, 16384, -16384};
    for (uint32_t bits = 5; bits < 15U; bits++) {
        const int32_t segments = INT32_C(32768) >> bits;
        for (uint32_t n = 0; n < 9U; n++) {
            const int32_t offset = offsets[n % 3U];
            const int32_t most = (offset == 0) ? 32767 : 16384;
            const int32_t sign = (offset < 0) ? -1 : 1;
            qrnn_gate odd = {table, NULL, {0}, QRNN_ODD};
            qrnn_gate both = {&of_both_signs[segments], NULL, {0}, QRNN_SIGNED};
            for (int32_t k = 0; k <= segments; k++) {
                const int32_t leaping = ((k & 1) != 0) ? most : -most;
                const int32_t drawn = (int32_t)(next() % (2U * (uint32_t)most + 1U)) - most;
                table[k] = (int16_t)((k == 0) ? 0 : ((n < 3U) ? (most * k / segments) : ((n < 6U) ? leaping : drawn)));
                of_both_signs[segments + k] = (int16_t)(sign * table[k]);
                of_both_signs[segments - k] = (int16_t)(-sign * table[k]);
            }
            odd.value[0] = offset;
            odd.value[1] = (int32_t)bits;
            both.value[0] = sign * offset * (1 << bits) + ((1 << bits) >> 1);
            both.value[1] = (int32_t)bits;
            both.value[2] = (offset < 0) ? -1 : 0;
            for (int32_t x = -32767; x < 40000; x++) {
                EXPECT(80, qrnn_evaluate(&both, x), qrnn_evaluate(&odd, x));
            }
            EXPECT(81, qrnn_evaluate(&both, INT32_MAX), qrnn_evaluate(&odd, INT32_MAX));
        }
    }
    return 0;
}
#else
static int signed_tables(void)
{
    return 0;
}
#endif

/* Every argument of the softmax's exp, with tables that leap and that fall. */
static int exp_weights(void)
{
    static uint16_t table[129];
    for (uint32_t round = 0; round < 2U; round++) {
        for (uint32_t k = 0; k < 129U; k++) {
            table[k] = (uint16_t)((round == 0U) ? (next() % 32769U) : (32768U - 256U * k));
        }
        for (uint32_t frac = 0; frac < 16U; frac++) {
            for (int32_t d = 0; d < 65536; d++) {
                EXPECT(60, qrnn_exp_weight(d, frac, table), plain_exp_weight(d, frac, table));
            }
        }
    }
    return 0;
}

/* Every int16 at every shift. */
static int operands(void)
{
    static const int32_t limits[] = {1, 127, 8191, 32767};
    for (uint32_t shift = 0; shift < 16U; shift++) {
        for (uint32_t n = 0; n < 4U; n++) {
            const int32_t limit = limits[n];
            for (int32_t first = -32768; first < 32768; first += 8) {
                int16_t values[8];
                int16_t found[8];
                for (int32_t k = 0; k < 8; k++) {
                    values[k] = (int16_t)(first + k);
                }
#if defined(OPERANDS_OF_HELIUM)
                {
                    const int16x8_t encoded = qrnn_operands(values, 8, shift, limit);
                    memcpy(found, &encoded, sizeof found);
                }
#elif defined(OPERANDS_OF_DSP)
                for (uint32_t k = 0; k < 8U; k += 2U) {
                    const uint32_t given = (uint32_t)(uint16_t)values[k] | ((uint32_t)(uint16_t)values[k + 1U] << 16);
                    const uint32_t pair = qrnn_operands(given, shift, limit);
                    memcpy(&found[k], &pair, sizeof pair);
                }
#elif defined(QRNN_HAS_VECTORS)
                for (uint32_t k = 0; k < 8U; k += QRNN_BLOCK_ROWS) {
                    qrnn_vector_write16_some(&found[k], qrnn_vector_operands(&values[k], 8U - k, shift, limit), 8U - k);
                }
#else
                {
                    uint32_t words[QRNN_WIDE_OPERAND_WORDS(8)];
                    qrnn_encode_wide(values, 8, shift, limit, words);
                    for (uint32_t k = 0; k < 8U; k++) {
                        found[k] = (int16_t)((int32_t)qrnn_wide_operand(qrnn_wide_operands(words), k) - 32768);
                    }
                }
#endif
                for (uint32_t k = 0; k < 8U; k++) {
                    EXPECT(50, found[k], plain_to_operand(values[k], shift, limit));
                }
            }
        }
    }
    return 0;
}

int main(void)
{
    int wrong = scalars();
    wrong = (wrong != 0) ? wrong : short_multipliers();
    wrong = (wrong != 0) ? wrong : lanes();
    wrong = (wrong != 0) ? wrong : piecewise_linear();
    wrong = (wrong != 0) ? wrong : signed_tables();
    wrong = (wrong != 0) ? wrong : exp_weights();
    return (wrong != 0) ? wrong : operands();
}
