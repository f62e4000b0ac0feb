/* RV32: the counter of instructions is the architecture's own, and the rest is in riscv32.S. */
#include "board.h"
#include "start.h"

void board_counter_start(void) {}

uint32_t board_counter(void) {
    uint32_t count;
    __asm__ volatile("csrr %0, minstret" : "=r"(count)::"memory");
    return count;
}
