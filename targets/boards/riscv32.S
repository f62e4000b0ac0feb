/* What C cannot say of RV32: reset, traps, the semihosting sequence, and the stack's depth without using the stack. */
    .macro function name
    .section .text.\name, "ax", @progbits
    .balign 16
    .global \name
    .type \name, @function
\name:
    .endm

    .set PATTERN, 0x5AC3A53C

    .section .vectors, "ax", @progbits /* first in flash: reset starts here */
    .global board_reset
    .type board_reset, @function
board_reset:
    la sp, board_stack_top
    la t0, board_trap
    csrw mtvec, t0
    j board_start
    .size board_reset, . - board_reset

function board_trap
    la sp, board_stack_top /* the old stack may be what faulted */
    j board_fault
    .size board_trap, . - board_trap

function board_semihosting /* these three, uncompressed and in one page, are the request */
    .option push
    .option norvc
    slli zero, zero, 0x1f
    ebreak
    srai zero, zero, 7
    .option pop
    ret
    .size board_semihosting, . - board_semihosting

function board_stack_paint
    la t0, board_stack_mark
    sw sp, 0(t0)
    la t0, board_stack_limit
    li t1, PATTERN
    j 2f
1:  sw t1, 0(t0)
    addi t0, t0, 4
2:  bltu t0, sp, 1b
    ret
    .size board_stack_paint, . - board_stack_paint

function board_stack_used
    la t0, board_stack_mark
    lw a0, 0(t0)
    la t0, board_stack_limit
    li t1, PATTERN
    j 2f
1:  lw t2, 0(t0)
    bne t2, t1, 3f
    addi t0, t0, 4
2:  bltu t0, a0, 1b
3:  sub a0, a0, t0
    ret
    .size board_stack_used, . - board_stack_used

    .section .bss.board, "aw", @nobits
    .balign 4
    .type board_stack_mark, @object
board_stack_mark:
    .space 4
    .size board_stack_mark, 4

    .section .note.GNU-stack, "", @progbits
