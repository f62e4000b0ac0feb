/* An AVR with the registers GPIOR0 to GPIOR2, through which simavr.c takes input, output, cycles and the run's end. avr-libc's start-up prepares
 * memory and calls main. The counter is of clock cycles, which the emulator knows exactly. */
#include "board.h"
#include "start.h"

#define REGISTER(address) (*(volatile uint8_t *)(address))
#define STATUS REGISTER(0x3E)
#define DATA REGISTER(0x4A)
#define CONTROL REGISTER(0x4B)
#define PATTERN 0xC5
#define STARTED 0x57A7 /* memory begins as zeros in the emulator */

extern uint8_t _end[]; /* of variables; the stack grows down to it */
extern uint8_t *volatile board_stack_mark;
static uint16_t started __attribute__((section(".noinit")));

uint32_t board_read(void *to, uint32_t bytes) {
    uint8_t *next = to;
    uint32_t done = 0;
    for (; done < bytes && CONTROL != 0; done++) *next++ = DATA;
    return done;
}

void board_write(const void *from, uint32_t bytes) {
    const uint8_t *next = from;
    for (; bytes != 0; bytes--) DATA = *next++;
}

void board_exit(int status) {
    for (;;) STATUS = (uint8_t)status;
}

/* What avr-libc's start-up calls with main's result. */
void exit(int status);
void exit(int status) { board_exit(status); }

uint32_t board_counter(void) {
    uint32_t count;
    CONTROL = 0;
    count = STATUS;
    count |= (uint32_t)STATUS << 8;
    count |= (uint32_t)STATUS << 16;
    return count | (uint32_t)STATUS << 24;
}

uint32_t board_stack_used(void) {
    const uint8_t *free = _end;
    if (*free != PATTERN) board_exit(BOARD_EXIT_FAULT); /* the stack has reached the variables */
    while (free <= board_stack_mark && *free == PATTERN) free++;
    return (uint32_t)(board_stack_mark - free) + 1;
}

/* Before main. There is no fault on this core but a jump to address 0, as interrupts without a handler and null pointers do. */
__attribute__((constructor, used)) static void start(void) {
    if (started == STARTED) board_exit(BOARD_EXIT_FAULT);
    started = STARTED;
    const uint32_t first = board_instructions();
    board_reading_cost(board_instructions() - first);
}
