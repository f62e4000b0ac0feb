// SPDX-License-Identifier: Apache-2.0
// Replays the golden sequences of the model and prints what comes of each on the serial monitor, at 115200 baud.
#include <$name.h>
#include "${name}_selftest.h"

static void printLine(const char *line) {
  Serial.println(line);
}

void setup() {
  Serial.begin(115200);
  int wrong = ${name}_golden(printLine);
  Serial.println(wrong == 0 ? "done" : "WRONG");
}

void loop() {
}
