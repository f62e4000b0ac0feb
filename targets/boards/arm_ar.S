/* What C cannot say of Arm's A and R profiles in Arm state: the exceptions' vectors, reset, the semihosting trap, the counter, and the stack's
 * depth without using the stack. Only instructions of Armv7. */
    .syntax unified
    .arm

    .macro function name
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
\name:
    .endm

    .set PATTERN, 0x5AC3A53C

    .section .vectors, "ax", %progbits /* at address 0 */
    b board_reset
    b board_fault_entry /* undefined instruction */
    b board_fault_entry /* SVC */
    b board_fault_entry /* prefetch abort */
    b board_fault_entry /* data abort */
    b board_fault_entry
    b board_fault_entry /* IRQ */
    b board_fault_entry /* FIQ */

function board_reset
    ldr sp, =board_stack_top
#ifdef __ARM_FP
    mrc p15, 0, r0, c1, c0, 2 /* CPACR: floating point and vectors may be used */
    orr r0, r0, #0xF00000
    mcr p15, 0, r0, c1, c0, 2
    isb
    mov r0, #0x40000000
    vmsr fpexc, r0
#endif
    b board_start
    .pool
    .size board_reset, . - board_reset

function board_fault_entry
    ldr sp, =board_stack_top /* the mode of the exception has a stack pointer of its own, and the old stack may be what faulted */
    b board_fault
    .pool
    .size board_fault_entry, . - board_fault_entry

function board_semihosting
    svc 0x123456
    bx lr
    .size board_semihosting, . - board_semihosting

function board_counter_start /* the cycle counter of the performance monitors, which stands for instructions in the emulator */
    mov r0, #5                 /* PMCR: enable, and reset the cycle counter */
    mcr p15, 0, r0, c9, c12, 0
    mov r0, #0x80000000        /* PMCNTENSET */
    mcr p15, 0, r0, c9, c12, 1
    isb
    bx lr
    .size board_counter_start, . - board_counter_start

function board_counter
    mrc p15, 0, r0, c9, c13, 0 /* PMCCNTR */
    bx lr
    .size board_counter, . - board_counter

function board_stack_paint
    ldr r0, =board_stack_mark
    str sp, [r0]
    ldr r0, =board_stack_limit
    ldr r2, =PATTERN
    b 2f
1:  str r2, [r0], #4
2:  cmp r0, sp
    blo 1b
    bx lr
    .pool
    .size board_stack_paint, . - board_stack_paint

function board_stack_used
    ldr r0, =board_stack_mark
    ldr r1, [r0]
    ldr r0, =board_stack_limit
    ldr r2, =PATTERN
    b 2f
1:  ldr r3, [r0]
    cmp r3, r2
    bne 3f
    add r0, r0, #4
2:  cmp r0, r1
    blo 1b
3:  sub r0, r1, r0
    bx lr
    .pool
    .size board_stack_used, . - board_stack_used

    .section .bss.board, "aw", %nobits
    .balign 4
    .type board_stack_mark, %object
board_stack_mark:
    .space 4
    .size board_stack_mark, 4

    .section .note.GNU-stack, "", %progbits
