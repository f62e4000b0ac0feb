/* SPDX-License-Identifier: Apache-2.0 */
/* The licence is that of the code. The numbers in it come from a trained model, whose owner keeps all rights to them. */
#if defined(${NAME}_TRACE) /* nothing is timed */
#elif defined(QRNN_COUNTER_HEADER)
#include QRNN_COUNTER_HEADER
#else
#include "qrnn_counter.h" /* before all others: it may ask the system's headers for more than C99 has */
#endif
#include <stddef.h>
#include "${name}_bench.h"
#include "${name}_selftest.h"
#include "${include}${name}.h"
#include "${include}${name}_info.h"

#if defined(__GNUC__)
#define APART __attribute__((noinline))
#else
#define APART
#endif

#if defined(__clang__)
#define COMPILER __VERSION__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#elif defined(__ICCARM__)
#define COMPILER "IAR"
#elif defined(_MSC_VER)
#define COMPILER "MSVC"
#else
#define COMPILER "unknown"
#endif

/* Text */

typedef int (*putter)(int character);

static void put_text(putter put, const char *text)
{
    for (; *text != '\0'; text++) {
        (void)put((int)(unsigned char)*text);
    }
}

static void put_string(putter put, const char *text)
{
    (void)put('"');
    for (; *text != '\0'; text++) {
        const unsigned char character = (unsigned char)*text;

        if ((character == (unsigned char)'"') || (character == (unsigned char)'\\')) {
            (void)put('\\');
        }
        (void)put((character < 0x20U) ? (int)'?' : (int)character);
    }
    (void)put('"');
}

static void put_number(putter put, uint32_t number)
{
    char digits[10];
    uint32_t count = 0U;

    do {
        digits[count] = (char)('0' + (int)(number % 10U));
        count++;
        number /= 10U;
    } while (number != 0U);
    while (count > 0U) {
        count--;
        (void)put((int)digits[count]);
    }
}

static void put_signed(putter put, int32_t number)
{
    if (number < 0) {
        (void)put('-');
    }
    put_number(put, (number < 0) ? (0U - (uint32_t)number) : (uint32_t)number);
}

static void put_key(putter put, const char *key)
{
    (void)put(',');
    put_string(put, key);
    (void)put(':');
}

/* A number, or null where it is not `known`. */
static void put_known(putter put, const char *key, int known, uint32_t number)
{
    put_key(put, key);
    if (known != 0) {
        put_number(put, number);
    } else {
        put_text(put, "null");
    }
}

static void put_difference(putter put, const char *key, const ${name}_difference *first)
{
    put_key(put, key);
    if (first->what == NULL) {
        put_text(put, "null");
        return;
    }
    put_text(put, "{\"what\":");
    put_string(put, first->what);
    put_key(put, "layer");
    if (first->layer == NULL) {
        put_text(put, "null");
    } else {
        put_string(put, first->layer);
    }
    put_known(put, "sequence", 1, first->sequence);
    put_known(put, "step", 1, first->step);
    put_known(put, "unit", 1, first->unit);
    put_key(put, "got");
    put_signed(put, first->got);
    put_key(put, "expected");
    put_signed(put, first->expected);
    (void)put('}');
}

/* The call that is timed */

$buffers

static uint32_t draw(void)
{
    static uint32_t drawn = 20U;

    drawn = (drawn * 1664525U) + 1013904223U;
    return drawn >> 8;
}

static void fill(void)
{
$fill
}

static APART void call(void)
{
    $call
}

/* The stack: what a call leaves of a pattern */

#define PATTERN 0xC5U
#define FRAME 64U /* bytes below a variable that a function without calls may have for itself */

/* The address of a variable of the function that calls this one; by way of memory, so that no compiler knows what it is. */
static uintptr_t address_of(const volatile uint8_t *variable)
{
    volatile uintptr_t address = (uintptr_t)variable;

    return address;
}

static APART void paint(uintptr_t limit)
{
    volatile uint8_t here = 0U;
    const uintptr_t end = address_of(&here) - FRAME;

    for (uintptr_t at = limit; at < end; at++) {
        *(volatile uint8_t *)at = PATTERN;
    }
}

static APART uint32_t stack_of_a_call(uintptr_t limit)
{
    volatile uint8_t here = 0U;
    const uintptr_t top = address_of(&here);
    uintptr_t at = limit;

    paint(limit);
    call();
    while ((at < top) && (*(volatile uint8_t *)at == PATTERN)) {
        at++;
    }
    return (limit < top) ? (uint32_t)(top - at) : 0U;
}

#if !defined(${NAME}_TRACE)

/* Time */

#if !defined(QRNN_COUNTER_SPANS)
static uint32_t begun;

static void qrnn_counter_begin(void)
{
    begun = qrnn_counter_now();
}

static uint32_t qrnn_counter_end(void)
{
    return qrnn_counter_now() - begun;
}
#endif

static uint32_t times[${NAME}_BENCH_CALLS];

/* Put the times of all calls into order, and return whether the counter counts and has counted each of them to its end. */
static int time_calls(void)
{
    uint32_t cost = UINT32_MAX;
    int known;

    qrnn_counter_start();
    for (uint32_t k = 0U; k < 8U; k++) { /* what reading costs by itself */
        uint32_t empty;

        qrnn_counter_begin();
        empty = qrnn_counter_end();
        cost = (empty < cost) ? empty : cost;
    }
    qrnn_counter_begin();
    for (volatile uint32_t k = 0U; k < 1000U; k++) {
    }
    known = (qrnn_counter_end() > cost) ? 1 : 0;
    for (uint32_t k = 0U; k < ${NAME}_BENCH_CALLS; k++) {
        uint32_t taken, at;

        fill();
        qrnn_counter_begin();
        call();
        taken = qrnn_counter_end();
        known = (taken == UINT32_MAX) ? 0 : known;
        taken = (taken > cost) ? (taken - cost) : 0U;
        for (at = k; (at > 0U) && (times[at - 1U] > taken); at--) {
            times[at] = times[at - 1U];
        }
        times[at] = taken;
    }
    qrnn_counter_stop();
    return known;
}

static uint32_t mean_time(void)
{
    uint64_t sum = 0U;

    for (uint32_t k = 0U; k < ${NAME}_BENCH_CALLS; k++) {
        sum += times[k];
    }
    return (uint32_t)((sum + (${NAME}_BENCH_CALLS / 2U)) / ${NAME}_BENCH_CALLS);
}

static void put_times(putter put)
{
    const int known = time_calls();

    put_key(put, "counter");
    put_string(put, QRNN_COUNTER);
    put_key(put, "unit");
    put_string(put, QRNN_COUNTER_UNIT);
    put_known(put, "calls", 1, ${NAME}_BENCH_CALLS);
    put_known(put, "steps", 1, ${steps});
    put_known(put, "min", known, times[0]);
    put_known(put, "median", known, times[${NAME}_BENCH_CALLS / 2U]);
    put_known(put, "mean", known, mean_time());
    put_known(put, "max", known, times[${NAME}_BENCH_CALLS - 1U]);
}

#else

$rows

static uint32_t sequence, came[TENSORS];
static ${name}_difference at_end[TENSORS], first_layer; /* rows of tensors that are not over time count at the end of a sequence */
static int tracing;

static int32_t element(const void *values, uint32_t size, uint32_t k)
{
    return (size == 4U) ? ((const int32_t *)values)[k] : (int32_t)((const int16_t *)values)[k];
}

static ${name}_difference compared(const traced_tensor *tensor, const void *values, uint32_t size, uint32_t row)
{
    ${name}_difference found = {NULL, NULL, 0U, 0U, 0U, 0, 0};
    const uint32_t begin = (tensor->first[sequence] + row) * tensor->count;

    for (uint32_t k = 0U; (found.what == NULL) && (k < tensor->count); k++) {
        const int32_t got = element(values, size, k);
        const int32_t expected = element(tensor->rows, tensor->size, begin + k);

        if (got != expected) {
            found.what = tensor->what;
            found.layer = tensor->layer;
            found.sequence = sequence;
            found.step = row;
            found.unit = k;
            found.got = got;
            found.expected = expected;
        }
    }
    return found;
}

void ${name}_traced(uint32_t tensor, const void *values, uint32_t size, uint32_t count, uint32_t stride, uint32_t rows)
{
    const traced_tensor *const own = &tensors[tensor];
    const uint8_t *at = (const uint8_t *)values;

    if ((tracing == 0) || ((sequence + 1U) > SEQUENCES) || (count != own->count)) {
        return;
    }
    for (uint32_t k = 0U; k < rows; k++) {
        const uint32_t row = (own->timed != 0U) ? came[tensor] : 0U;

        if (row < (own->first[sequence + 1U] - own->first[sequence])) {
            const ${name}_difference found = compared(own, (const void *)at, size, row);

            if (own->timed == 0U) {
                at_end[tensor] = found;
            } else if (first_layer.what == NULL) {
                first_layer = found;
            }
        }
        came[tensor]++;
        at += size * stride;
    }
}

void ${name}_sequence(uint32_t n)
{
    for (uint32_t k = 0U; k < TENSORS; k++) {
        if ((first_layer.what == NULL) && (at_end[k].what != NULL)) {
            first_layer = at_end[k];
        }
        came[k] = 0U;
        at_end[k].what = NULL;
    }
    sequence = n;
}

#endif

int ${name}_bench(int (*put)(int character), uint32_t clock_hz, void *stack_limit)
{
    ${name}_difference first;
    uint32_t stack = 0U;
    int wrong;

#if defined(${NAME}_TRACE)
    first_layer.what = NULL;
    ${name}_sequence(0U);
    tracing = 1;
    wrong = ${name}_compare(&first);
    tracing = 0;
    ${name}_sequence(SEQUENCES);
#else
    wrong = ${name}_compare(&first);
#endif
    ${name}_init(&state);
    fill();
    if (stack_limit != NULL) {
        stack = stack_of_a_call((uintptr_t)stack_limit);
    } else {
        call(); /* what a first call makes ready is not timed */
    }
    put_text(put, "{\"qrnn_bench\":1");
    put_key(put, "name");
    put_string(put, ${name}_info.name);
    put_key(put, "qrnn");
    put_string(put, ${name}_info.qrnn_version);
    put_key(put, "contract");
    put_string(put, ${name}_info.contract);
    put_key(put, "model_sha256");
    put_string(put, ${name}_info.model_sha256);
    put_key(put, "target");
    put_string(put, ${name}_info.target);
    put_key(put, "compiler");
    put_string(put, COMPILER);
    put_key(put, "selftest");
    put_string(put, (wrong == 0) ? "right" : "wrong");
    put_difference(put, "difference", &first);
#if defined(${NAME}_TRACE)
    put_difference(put, "first_layer", &first_layer);
#else
    put_times(put);
#endif
    put_known(put, "stack_bytes", (stack_limit != NULL) ? 1 : 0, stack);
    put_known(put, "clock_hz", (clock_hz != 0U) ? 1 : 0, clock_hz);
    put_text(put, "}\n");
    return wrong;
}
