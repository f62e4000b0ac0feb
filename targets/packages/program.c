/* SPDX-License-Identifier: Apache-2.0 */
/* The golden sequences of the model, a line for each. Returns 0 where every bit is right. */
#include <stdio.h>
#include "${name}_selftest.h"

static void print(const char *line)
{
    (void)puts(line);
}

int main(void)
{
    return ${name}_golden(print);
}
