/* SPDX-License-Identifier: Apache-2.0 */
/* The golden sequences of the model, a line for each. */
#include <zephyr/sys/printk.h>
#include "${name}_selftest.h"

static void print(const char *line)
{
	printk("%s\n", line);
}

int main(void)
{
	printk("$name: %s\n", (${name}_golden(print) == 0) ? "every bit is right" : "WRONG");
	return 0;
}
