/* Xtensa: the counter of instructions is CCOUNT, which passes in virtual time, and files are reached by calls of Tensilica's simulator.
 *
 * As on Arm's M-profile, more than two ticks pass with each instruction, so that rounding gives their exact number. */
#include "board.h"
#include "start.h"

#ifndef BOARD_INSTRUCTIONS_PER_TICK_Q32
#error "BOARD_INSTRUCTIONS_PER_TICK_Q32 is not defined: it comes from the target's [emulation]"
#endif

/* Operations of start.c, and those of the simulator that stand for them. */
enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20, MODE_READ_BINARY = 1 };
enum { SIM_EXIT = 1, SIM_READ = 3, SIM_WRITE = 4, SIM_OPEN = 5, SIM_CREATE = 0x241 /* write, create, truncate */ };

int32_t board_simulator(int32_t operation, uint32_t first, uint32_t second, uint32_t third);
uint32_t board_ticks(void);

int32_t board_semihosting(uint32_t operation, const void *arguments) {
    const uint32_t *a = arguments;
    int32_t done;
    switch (operation) {
        case SYS_OPEN: return board_simulator(SIM_OPEN, a[0], a[1] == MODE_READ_BINARY ? 0 : SIM_CREATE, 0644);
        case SYS_READ:
        case SYS_WRITE: /* what is left of the bytes, all of them after an error */
            done = board_simulator(operation == SYS_READ ? SIM_READ : SIM_WRITE, a[0], a[1], a[2]);
            return (int32_t)(a[2] - (done < 0 ? 0 : (uint32_t)done));
        default: return board_simulator(SIM_EXIT, a[1], 0, 0);
    }
}

/* Virtual time begins anywhere in an instruction: only what has passed since a reading is known to a part of a tick. */
static uint32_t first;

void board_counter_start(void) { first = board_ticks(); }

/* Without a carry, for which this core branches: a reading costs the same at any time. */
uint32_t board_counter(void) {
    const uint32_t ticks = board_ticks() - first;
    const uint32_t low = ticks & 0xFFFF, high = ticks >> 16;
    const uint32_t factor_low = BOARD_INSTRUCTIONS_PER_TICK_Q32 & 0xFFFF, factor_high = BOARD_INSTRUCTIONS_PER_TICK_Q32 >> 16;
    const uint32_t middle = high * factor_low + ((low * factor_low) >> 16);
    return high * factor_high + (middle >> 16) + ((low * factor_high + (middle & 0xFFFF) + 0x8000) >> 16);
}
