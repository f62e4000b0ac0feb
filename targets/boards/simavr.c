/* A program of this machine that runs a program for an AVR in simavr: simavr-run MCU HZ PROGRAM, with the input on stdin and the output on stdout.
 *
 * The board (avr.c) reaches it by three registers that an AVR keeps for any purpose: a write to the first ends the run with that status, bytes
 * pass through the second, and a write to the third holds the number of clock cycles for four reads of the first, the lowest byte first. A read
 * of the third tells whether input is left. */
#include <simavr/avr_ioport.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS 0x3E  /* GPIOR0, as an address of data */
#define DATA 0x4A    /* GPIOR1 */
#define CONTROL 0x4B /* GPIOR2 */
#define FAULT 250    /* BOARD_EXIT_FAULT */
#define OUTPUT 251   /* BOARD_EXIT_OUTPUT */

static int next; /* byte of the input, or EOF */
static int status = -1;
static uint32_t held;

static void end(avr_t *avr, avr_io_addr_t address, uint8_t value, void *unused) {
    (void)address, (void)unused;
    status = value;
    avr->state = cpu_Done;
}

static uint8_t count(avr_t *avr, avr_io_addr_t address, void *unused) {
    const uint8_t low = (uint8_t)held;
    (void)avr, (void)address, (void)unused;
    held >>= 8;
    return low;
}

static void hold(avr_t *avr, avr_io_addr_t address, uint8_t value, void *unused) {
    (void)address, (void)value, (void)unused;
    held = (uint32_t)avr->cycle;
}

static uint8_t left(avr_t *avr, avr_io_addr_t address, void *unused) {
    (void)avr, (void)address, (void)unused;
    return next != EOF;
}

static uint8_t take(avr_t *avr, avr_io_addr_t address, void *unused) {
    const int byte = next;
    (void)avr, (void)address, (void)unused;
    if (byte != EOF) next = getchar();
    return (uint8_t)byte;
}

static void give(avr_t *avr, avr_io_addr_t address, uint8_t value, void *unused) {
    if (putchar(value) == EOF) end(avr, address, OUTPUT, unused);
}

static void quiet(avr_t *avr, const int level, const char *format, va_list arguments) {
    (void)avr;
    if (level == LOG_ERROR) vfprintf(stderr, format, arguments);
}

int main(int argc, char **argv) {
    elf_firmware_t firmware;
    avr_t *avr;
    if (argc != 4) return 2;
    memset(&firmware, 0, sizeof firmware);
    avr_global_logger_set(quiet);
    if (elf_read_firmware(argv[3], &firmware) != 0) return 2;
    strncpy(firmware.mmcu, argv[1], sizeof firmware.mmcu - 1);
    firmware.frequency = (uint32_t)strtoul(argv[2], NULL, 10);
    avr = avr_make_mcu_by_name(firmware.mmcu);
    if (avr == NULL) return 2;
    avr_init(avr);
    avr_load_firmware(avr, &firmware);
    avr_register_io_write(avr, STATUS, end, NULL);
    avr_register_io_read(avr, STATUS, count, NULL);
    avr_register_io_write(avr, DATA, give, NULL);
    avr_register_io_read(avr, DATA, take, NULL);
    avr_register_io_write(avr, CONTROL, hold, NULL);
    avr_register_io_read(avr, CONTROL, left, NULL);
    next = getchar();
    while (status < 0) {
        const int state = avr_run(avr);
        if (status < 0 && (state == cpu_Crashed || state == cpu_Done || state == cpu_Sleeping)) status = FAULT;
    }
    if (fflush(stdout) != 0) status = OUTPUT;
    return status;
}
