/* What C cannot say of Xtensa with the call0 convention: reset, exceptions, the call of the simulator, and the stack's depth without using the
 * stack. */
    .macro function name
    .section .text.\name, "ax", @progbits
    .balign 4
    .literal_position
    .global \name
    .type \name, @function
\name:
    .endm

    .macro fault_at offset
    .org \offset
    j board_trap
    .endm

    .set PATTERN, 0x5AC3A53C

    .section .vectors, "ax", @progbits /* first in flash, where reset starts; then at the offsets of exceptions from VECBASE */
board_vectors:
    j board_reset
    fault_at 0x10 /* debugging */
    fault_at 0x20 /* NMI */
    fault_at 0x30 /* kernel */
    fault_at 0x50 /* user */
    fault_at 0x70 /* in an exception */
    .org 0x80

function board_reset
    movi a0, board_vectors
    wsr a0, vecbase
    movi a1, board_stack_top
    j board_start
    .size board_reset, . - board_reset

function board_trap
    movi a1, board_stack_top /* the old stack may be what faulted */
    movi a0, 0x1f            /* no interrupts, and exceptions are no longer nested */
    wsr a0, ps
    rsync
    j board_fault
    .size board_trap, . - board_trap

function board_simulator /* the operation and up to three arguments in a2 to a5, the result in a2 */
    simcall
    ret
    .size board_simulator, . - board_simulator

function board_ticks
    rsr a2, ccount
    ret
    .size board_ticks, . - board_ticks

function board_stack_paint
    movi a2, board_stack_mark
    s32i a1, a2, 0
    movi a2, board_stack_limit
    movi a3, PATTERN
    j 2f
1:  s32i a3, a2, 0
    addi a2, a2, 4
2:  bltu a2, a1, 1b
    ret
    .size board_stack_paint, . - board_stack_paint

function board_stack_used
    movi a2, board_stack_mark
    l32i a4, a2, 0
    movi a2, board_stack_limit
    movi a3, PATTERN
    j 2f
1:  l32i a5, a2, 0
    bne a5, a3, 3f
    addi a2, a2, 4
2:  bltu a2, a4, 1b
3:  sub a2, a4, a2
    ret
    .size board_stack_used, . - board_stack_used

    .section .bss.board, "aw", @nobits
    .balign 4
    .type board_stack_mark, @object
board_stack_mark:
    .space 4
    .size board_stack_mark, 4

    .section .note.GNU-stack, "", @progbits
