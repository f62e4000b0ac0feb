/* What the parts of a bare board share; not for programs. */
#ifndef BOARD_START_H
#define BOARD_START_H

#include <stdint.h>

/* A semihosting request; in assembly, once for each architecture. */
int32_t board_semihosting(uint32_t operation, const void *arguments);

/* Prepare memory, start the counter, run main and end the run; the reset code jumps here with a valid stack pointer. */
void board_start(void);

/* Start what board_counter reads. */
void board_counter_start(void);

/* Executed instructions modulo 2^32, with the cost of reading still in, the same at every call. */
uint32_t board_counter(void);

/* From now on, take this many instructions out for each reading. */
void board_reading_cost(uint32_t instructions);

/* End the run as BOARD_EXIT_FAULT; faults and unexpected exceptions end here with a fresh stack. */
void board_fault(void);

/* The program's. */
int main(void);

#endif
