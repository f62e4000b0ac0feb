/* SPDX-License-Identifier: Apache-2.0 */
/* Prints the line of ${name}_bench to the standard output. */
#include <stdio.h>
#include "${name}_bench.h"

int main(void)
{
    return ${name}_bench(putchar, 0U, NULL);
}
