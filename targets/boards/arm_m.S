/* What C cannot say of Arm M-profile: the semihosting trap, the timer's interrupt in a known number of instructions, and the stack's depth
 * without using the stack. Only instructions of Armv6-M. */
    .syntax unified
    .thumb

    .macro function name
    .section .text.\name, "ax", %progbits
    .balign 4
    .global \name
    .type \name, %function
    .thumb_func
\name:
    .endm

    .set PATTERN, 0x5AC3A53C

function board_semihosting
    bkpt 0xab
    bx lr
    .size board_semihosting, . - board_semihosting

function board_tick /* TICK_INSTRUCTIONS of arm_m.c is this many */
    ldr r0, =board_periods
    ldr r1, [r0]
    adds r1, #1
    str r1, [r0]
    bx lr
    .pool
    .size board_tick, . - board_tick

function board_fault_entry
    ldr r0, =board_stack_top /* the old stack may be what faulted */
    mov sp, r0
    bl board_fault
    .pool
    .size board_fault_entry, . - board_fault_entry

function board_stack_paint
    cpsid i
    mov r1, sp
    ldr r0, =board_stack_mark
    str r1, [r0]
    ldr r0, =board_stack_limit
    ldr r2, =PATTERN
    b 2f
1:  stm r0!, {r2}
2:  cmp r0, r1
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
    adds r0, #4
2:  cmp r0, r1
    blo 1b
3:  subs r0, r1, r0
    cpsie i
    bx lr
    .pool
    .size board_stack_used, . - board_stack_used

    .section .bss.board, "aw", %nobits
    .balign 4
    .global board_periods
    .type board_periods, %object
board_periods:
    .space 4
    .size board_periods, 4
    .type board_stack_mark, %object
board_stack_mark:
    .space 4
    .size board_stack_mark, 4

    .section .note.GNU-stack, "", %progbits
