/* SPDX-License-Identifier: Apache-2.0 */
/* The golden sequences of the model, a line for each. */
#include <stdio.h>
#include "${name}_selftest.h"

static void print(const char *line)
{
    (void)puts(line);
}

void app_main(void)
{
    (void)printf("$name: %s\n", (${name}_golden(print) == 0) ? "every bit is right" : "WRONG");
}
