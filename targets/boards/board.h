/* What a program may ask of the board it runs on: bytes in and out, executed instructions, stack depth, an exit.
 *
 * The same program runs on an emulated Arm M-profile core (arm_m.*), an emulated RV32 core (riscv32.*) and the host (host.c).
 * `int main(void)` is the program's own; what it returns is the run's exit status. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Read up to `bytes` bytes of the run's input into `to`. Returns how many were read; fewer than asked for means the end. */
uint32_t board_read(void *to, uint32_t bytes);

/* Append `bytes` bytes to the run's output. A write that fails ends the run with BOARD_EXIT_OUTPUT. */
void board_write(const void *from, uint32_t bytes);

/* Instructions executed so far, modulo 2^32; only differences mean anything. The cost of a reading itself is taken out: what is left between
 * two readings are the caller's own instructions. 0 on the host.
 * Arm: to the instruction, under QEMU's `-icount` and with the shift of the target's description; between board_stack_paint and
 * board_stack_used only up to one period of the timer (2^24 ticks, some millions of instructions), as the timer's interrupt waits there.
 * RV32: to the instruction. */
uint32_t board_instructions(void);

/* Fill the unused stack with a pattern. Interrupts wait until board_stack_used, so that no exception frame is measured. */
void board_stack_paint(void);

/* Bytes of stack used below the stack pointer of board_stack_paint's caller since then, to the word, by what is left of the pattern.
 * 0 on the host, where it is not measured. */
uint32_t board_stack_used(void);

/* End the run with an exit status from 0 to 255; does not return. */
void board_exit(int status);

#define BOARD_EXIT_FAULT 250  /* the core took a fault or a trap */
#define BOARD_EXIT_OUTPUT 251 /* the output could not be written */

#endif
