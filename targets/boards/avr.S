/* What C cannot say of an AVR: its unused stack is painted without using it. */
#include <avr/io.h>

    .section .text.board_stack_paint, "ax", @progbits
    .global board_stack_paint
    .type board_stack_paint, @function
board_stack_paint: /* the stack pointer points below the last byte; the return address has two bytes, or three */
    in r26, _SFR_IO_ADDR(SPL)
    in r27, _SFR_IO_ADDR(SPH)
    movw r24, r26
#ifdef __AVR_3_BYTE_PC__
    adiw r24, 3
#else
    adiw r24, 2
#endif
    sts board_stack_mark, r24
    sts board_stack_mark + 1, r25
    ldi r30, lo8(_end)
    ldi r31, hi8(_end)
    ldi r24, 0xC5
    rjmp 2f
1:  st Z+, r24
2:  cp r30, r26
    cpc r31, r27
    brlo 1b
    st Z, r24
    ret
    .size board_stack_paint, . - board_stack_paint

    .section .bss.board, "aw", @nobits
    .global board_stack_mark
    .type board_stack_mark, @object
board_stack_mark:
    .space 2
    .size board_stack_mark, 2
