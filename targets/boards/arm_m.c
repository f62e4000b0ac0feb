/* Arm M-profile, from Armv6-M to Armv8.1-M: vector table, reset, and a counter of instructions made of SysTick.
 *
 * QEMU's `-icount shift=N` lets 2^N ns of virtual time pass with each instruction, and SysTick ticks in virtual time. With more than two ticks
 * to an instruction, rounding a number of ticks gives the exact number of instructions. The factor comes from the target's description:
 * BOARD_INSTRUCTIONS_PER_TICK_Q32 = 2^32 * 10^9 / (2^N * ticks a second). */
#include "board.h"
#include "start.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define SYST_CSR REGISTER(0xE000E010) /* control: enable, interrupt, the core's clock */
#define SYST_RVR REGISTER(0xE000E014) /* reload value */
#define SYST_CVR REGISTER(0xE000E018) /* counts down */
#define ICSR REGISTER(0xE000ED04)     /* interrupts' state; bit 26: SysTick is pending */
#define CPACR REGISTER(0xE000ED88)    /* access to coprocessors */
#define TICK_BITS 24
#define TICK_MASK ((UINT32_C(1) << TICK_BITS) - 1)

#ifndef BOARD_INSTRUCTIONS_PER_TICK_Q32
#error "BOARD_INSTRUCTIONS_PER_TICK_Q32 is not defined: it comes from the target's [emulation]"
#endif

void board_reset(void);
void board_fault_entry(void);
void board_tick(void);

extern uint32_t board_stack_top[];
extern volatile uint32_t board_periods; /* of 2^24 ticks, counted by board_tick */
#define TICK_INSTRUCTIONS 5             /* of board_tick, each time */

typedef union {
    void (*handler)(void);
    uint32_t *stack;
} vector;

__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    {.stack = board_stack_top},       {.handler = board_reset},
    {.handler = board_fault_entry}, /* NMI */
    {.handler = board_fault_entry}, /* HardFault */
    {.handler = board_fault_entry}, /* MemManage */
    {.handler = board_fault_entry}, /* BusFault */
    {.handler = board_fault_entry}, /* UsageFault */
    {.handler = board_fault_entry}, /* SecureFault */
    {.handler = board_fault_entry},   {.handler = board_fault_entry},
    {.handler = board_fault_entry},   {.handler = board_fault_entry}, /* SVCall */
    {.handler = board_fault_entry},   {.handler = board_fault_entry},
    {.handler = board_fault_entry}, /* PendSV */
    {.handler = board_tick},
};

void board_reset(void) {
#if (defined(__ARM_FP) && __ARM_FP != 0) || defined(__ARM_FEATURE_MVE)
    CPACR |= UINT32_C(0xF) << 20; /* CP10 and CP11: floating point and MVE */
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    board_start();
}

void board_counter_start(void) {
    SYST_RVR = TICK_MASK;
    SYST_CVR = 0;
    SYST_CSR = 7;
    while (SYST_CVR == 0) { /* until the first tick has loaded it */
    }
}

uint32_t board_counter(void) {
    uint32_t mask, periods, ticks, pending;
    __asm__ volatile("mrs %0, primask\n\tcpsid i" : "=r"(mask)::"memory");
    periods = board_periods;
    ticks = (0 - SYST_CVR) & TICK_MASK; /* the period ends as the register becomes 0, not as it is loaded again */
    pending = (ICSR >> 26) & 1;
    __asm__ volatile("msr primask, %0" ::"r"(mask) : "memory");
    /* A period that ended before the register was read but waits for its interrupt counts; one that ended just after does not.
     * No branch: a reading costs the same at any time. */
    const uint32_t ended = periods + (pending & (~ticks >> (TICK_BITS - 1)));
    const uint32_t high = ended >> (32 - TICK_BITS), low = (ended << TICK_BITS) | ticks;
    const uint64_t product = (uint64_t)low * BOARD_INSTRUCTIONS_PER_TICK_Q32 + (UINT64_C(1) << 31);
    return (uint32_t)(product >> 32) + high * BOARD_INSTRUCTIONS_PER_TICK_Q32 - periods * TICK_INSTRUCTIONS;
}
