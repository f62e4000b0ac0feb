/* The corrected counter; in a file of its own, so that no compiler inlines it and every reading costs the same. */
#include "board.h"
#include "start.h"

static uint32_t readings, reading_cost;

void board_reading_cost(uint32_t instructions) { reading_cost = instructions; }

uint32_t board_instructions(void) {
    readings += 1;
    return board_counter() - readings * reading_cost;
}
