/* One program for every board: the first byte of its input says what it does. */
#include "board.h"

/* Known numbers of instructions: 2 * turns + 1, and 1. The numeric label keeps branches short on RISC-V. */
void count_down(uint32_t turns);
void nothing(uint32_t turns);
/* Write one word `bytes` below the stack pointer. */
void touch_stack(uint32_t bytes);

#if defined(__arm__)
__asm__(".syntax unified\n.text\n.balign 4\n.thumb\n"
        ".global count_down\n.type count_down, %function\n.thumb_func\n"
        "count_down:\n1: subs r0, #1\n bne 1b\n bx lr\n"
        ".global nothing\n.type nothing, %function\n.thumb_func\nnothing:\n bx lr\n"
        ".global touch_stack\n.type touch_stack, %function\n.thumb_func\n"
        "touch_stack:\n mov r1, sp\n subs r1, r1, r0\n str r0, [r1]\n bx lr\n");
#elif defined(__AVR__)
__asm__(".text\n.global count_down\n.type count_down, @function\ncount_down:\n1: subi r22, 1\n sbci r23, 0\n sbci r24, 0\n sbci r25, 0\n brne 1b\n ret\n"
        ".global nothing\n.type nothing, @function\nnothing:\n ret\n"
        ".global touch_stack\n.type touch_stack, @function\ntouch_stack:\n in r30, 0x3d\n in r31, 0x3e\n"
        " sub r30, r22\n sbc r31, r23\n std Z + 3, r22\n ret\n"); /* of a core whose return address has two bytes */
#elif defined(__XTENSA__)
__asm__(".text\n.balign 4\n.global count_down\n.type count_down, @function\ncount_down:\n1: addi a2, a2, -1\n bnez a2, 1b\n ret\n"
        ".global nothing\n.type nothing, @function\n.balign 4\nnothing:\n ret\n"
        ".global touch_stack\n.type touch_stack, @function\n.balign 4\ntouch_stack:\n sub a3, a1, a2\n s32i a2, a3, 0\n ret\n");
#elif defined(__riscv)
__asm__(".text\n.balign 4\n.global count_down\ncount_down:\n1: addi a0, a0, -1\n bnez a0, 1b\n ret\n"
        ".global nothing\nnothing:\n ret\n"
        ".global touch_stack\ntouch_stack:\n sub t0, sp, a0\n sw a0, 0(t0)\n ret\n");
#else
void count_down(uint32_t turns) { (void)turns; }
void nothing(uint32_t turns) { (void)turns; }
void touch_stack(uint32_t bytes) { (void)bytes; }
#endif

#define TABLE_BYTES 1000
#define START_BYTES 200
#define LATER_BYTES 3000
extern const uint8_t table[TABLE_BYTES];
extern uint8_t initial[START_BYTES], later[LATER_BYTES];
const uint8_t table[TABLE_BYTES] = {1, 2, 3};
uint8_t initial[START_BYTES] = {4, 5, 6};
uint8_t later[LATER_BYTES];

static uint32_t read_word(void) {
    uint32_t word = 0;
    board_read(&word, sizeof word);
    return word;
}

static void write_word(uint32_t word) { board_write(&word, sizeof word); }

static void echo(void) {
    uint8_t buffer[509]; /* no divisor of anything */
    for (;;) {
        const uint32_t bytes = board_read(buffer, sizeof buffer);
        if (bytes == 0) return;
        board_write(buffer, bytes);
    }
}

/* Instructions from one reading to the next around a call of `function`; one code for all functions. */
__attribute__((noinline)) static uint32_t instructions(void (*function)(uint32_t), uint32_t turns) {
    const uint32_t before = board_instructions();
    function(turns);
    return board_instructions() - before;
}

static uint32_t back_to_back(void) {
    uint32_t worst = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        const uint32_t first = board_instructions(), second = board_instructions();
        const uint32_t gap = second - first;
        if (gap > worst) worst = gap; /* a negative gap is a very large one */
    }
    return worst;
}

static void vectors(void) {
    uint32_t sum = 10;
#if defined(__ARM_FEATURE_MVE)
    __asm__ volatile("vmov.i32 q0, #3\n\tvaddv.u32 %0, q0" : "=Te"(sum)::"q0");
#elif defined(__ARM_FEATURE_DSP)
    __asm__ volatile("smuad %0, %1, %2" : "=r"(sum) : "r"(UINT32_C(0x20003)), "r"(UINT32_C(0x30002)));
#endif
    write_word(sum);
}

/* One of the memory functions on a buffer of 64 bytes, whatever the compiler makes of the call. */
static void memory(void) {
    static uint8_t buffer[64];
    uint8_t order[4] = {0}; /* which, to, from or the value, bytes */
    board_read(order, sizeof order);
    board_read(buffer, sizeof buffer);
    int32_t result = 0;
    switch (order[0]) {
        case 0: __builtin_memcpy(buffer + order[1], buffer + order[2], order[3]); break;
        case 1: __builtin_memmove(buffer + order[1], buffer + order[2], order[3]); break;
        case 2: __builtin_memset(buffer + order[1], order[2], order[3]); break;
        case 3: __builtin_memset(buffer + order[1], 0, order[3]); break;
        default: result = __builtin_memcmp(buffer + order[1], buffer + order[2], order[3]); break;
    }
    board_write(buffer, sizeof buffer);
    write_word(result == 0 ? 0 : result < 0 ? 1 : 2);
}

int main(void) {
    uint8_t what = 0;
    board_read(&what, 1);
    switch (what) {
        case 'e': echo(); break;
        case 'c': {
            const uint32_t turns = read_word();
            write_word(instructions(count_down, turns) - instructions(nothing, turns));
            break;
        }
        case 'b': write_word(back_to_back()); break;
        case 's': {
            const uint32_t bytes = read_word();
            board_stack_paint();
            touch_stack(bytes);
            write_word(board_stack_used());
            break;
        }
        case 'p': { /* a count across painting */
            const uint32_t turns = read_word();
            const uint32_t before = instructions(nothing, turns);
            board_stack_paint();
            const uint32_t count = instructions(count_down, turns);
            (void)board_stack_used();
            write_word(count - before);
            break;
        }
        case 'a': memory(); break;
        case 'v': vectors(); break;
        case 'm': /* what start-up has made of memory */
            board_write(table, sizeof table);
            board_write(initial, sizeof initial);
            board_write(later, sizeof later);
            break;
#if !defined(__x86_64__) && !defined(__aarch64__)
        case 'f': { /* never executable, and too far for a direct call of some cores */
            volatile uintptr_t nowhere = (uintptr_t)UINT32_C(0xE0000000); /* 0 on an AVR, where a program starts anew */
            ((void (*)(void))nowhere)();
            break;
        }
#endif
        case 'l': for (volatile uint32_t on = 1; on != 0;) { } break;
        case 'x': board_exit((int)read_word()); break;
        default: return 1;
    }
    return 0;
}
