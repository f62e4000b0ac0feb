/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the self-test of $name on a board, times calls of it, and prints what came of both as one line of JSON, which `qrnn verify` reads. */
#ifndef ${NAME}_BENCH_H
#define ${NAME}_BENCH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The timed calls, each of which keeps four bytes. */
#ifndef ${NAME}_BENCH_CALLS
#define ${NAME}_BENCH_CALLS 32U
#endif

/* Returns 0 where every bit of the self-test is right, else 1.
 *
 * `put` prints a character, as putchar does; what it returns is not looked at. `clock_hz` is the clock of the core that is printed, 0 where it is
 * not known. `stack_limit` is the lowest address of the stack: from there to the stack's present end, memory is painted and looked at after a
 * call. NULL leaves the stack as it is. Time is read from the target's own counter; with QRNN_COUNTER_HEADER defined as the name of a header,
 * from what that header has in the place of qrnn_counter.h.
 *
 * Where the model, the self-test and this are built with ${NAME}_TRACE defined, the rows of every layer are compared too, so that the line names
 * the first layer that differs; calls are then not timed. */
int ${name}_bench(int (*put)(int character), uint32_t clock_hz, void *stack_limit);

#ifdef __cplusplus
}
#endif

#endif
