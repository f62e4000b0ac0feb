/* SPDX-License-Identifier: Apache-2.0 */
/* The golden sequences of the model, a line for each, every few seconds. */
#include <stdio.h>
#include "pico/stdlib.h"
#include "${name}_selftest.h"

static void print(const char *line)
{
    (void)puts(line);
}

int main(void)
{
    (void)stdio_init_all();
    for (;;) {
        (void)printf("$name: %s\n", (${name}_golden(print) == 0) ? "every bit is right" : "WRONG");
        sleep_ms(3000);
    }
}
