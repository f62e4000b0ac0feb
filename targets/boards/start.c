/* Everything of a bare board that does not depend on the architecture: memory at start, files by semihosting, the run's exit.
 *
 * Input and output are two files in the emulator's working directory rather than its console: the console passes through a
 * character device with small buffers, while files take megabytes of binary data in one request and need no memory here. */
#include "start.h"

#include "board.h"

/* Of the linker script. */
extern uint32_t board_data_start[], board_data_end[], board_bss_start[], board_bss_end[];
extern const uint32_t board_data_load[];

/* Operations and modes of Arm's "Semihosting for AArch32 and AArch64", which RISC-V's semihosting adopts. */
enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { MODE_READ_BINARY = 1, MODE_WRITE_BINARY = 5 };
#define APPLICATION_EXIT UINT32_C(0x20026)

static const char input_name[] = "board.in";
static const char output_name[] = "board.out";

static int32_t input, output; /* handles; 0 is not yet opened, as handles of semihosting are not zero */

static uint32_t address(const void *pointer) { return (uint32_t)(uintptr_t)pointer; }

static int32_t open_file(const char *name, uint32_t length, uint32_t mode) {
    const uint32_t arguments[3] = {address(name), mode, length};
    return board_semihosting(SYS_OPEN, arguments);
}

uint32_t board_read(void *to, uint32_t bytes) {
    if (input == 0) input = open_file(input_name, sizeof input_name - 1, MODE_READ_BINARY);
    if (input < 0) return 0;
    uint32_t done = 0;
    while (done < bytes) { /* a request may be served in part */
        const uint32_t arguments[3] = {(uint32_t)input, address(to) + done, bytes - done};
        const uint32_t left = (uint32_t)board_semihosting(SYS_READ, arguments);
        if (left >= bytes - done) break; /* all of it is left: the end; more than that: an error */
        done = bytes - left;
    }
    return done;
}

void board_write(const void *from, uint32_t bytes) {
    if (output == 0) output = open_file(output_name, sizeof output_name - 1, MODE_WRITE_BINARY);
    if (output < 0) board_exit(BOARD_EXIT_OUTPUT);
    while (bytes != 0) {
        const uint32_t arguments[3] = {(uint32_t)output, address(from), bytes};
        const uint32_t left = (uint32_t)board_semihosting(SYS_WRITE, arguments);
        if (left >= bytes) board_exit(BOARD_EXIT_OUTPUT);
        from = (const uint8_t *)from + (bytes - left);
        bytes = left;
    }
}

void board_exit(int status) {
    const uint32_t arguments[2] = {APPLICATION_EXIT, (uint32_t)status};
    for (;;) board_semihosting(SYS_EXIT_EXTENDED, arguments);
}

void board_fault(void) { board_exit(BOARD_EXIT_FAULT); }

void board_start(void) {
    const uint32_t *from = board_data_load;
    for (volatile uint32_t *to = board_data_start; to < board_data_end;) *to++ = *from++;
    for (volatile uint32_t *to = board_bss_start; to < board_bss_end;) *to++ = 0;
    board_counter_start();
    const uint32_t first = board_instructions(); /* one reading right after the other, as a program takes them */
    board_reading_cost(board_instructions() - first);
    board_exit(main());
}
