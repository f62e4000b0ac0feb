/* A vector table and what must happen before main, for the boards of QEMU: all memory is RAM, and loaded. */
#include <stdint.h>

extern uint32_t stack_top;
extern int main(void);
extern void initialise_monitor_handles(void);
extern void _exit(int);
void _fini(void);

static void reset(void)
{
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* floating point and Helium, where there are any */
    __asm__ volatile("dsb\n\tisb");
    initialise_monitor_handles();
    _exit(main());
}

void _fini(void)
{
}

static void fault(void)
{
    _exit(99);
}

__attribute__((section(".vectors"), used)) void (*const vectors[16])(void) = {
    (void (*)(void)) & stack_top, reset, fault, fault, fault, fault, fault,
};
