// SPDX-License-Identifier: Apache-2.0
// Runs the self-test of the model, times its steps, and prints a line of JSON at 115200 baud: at the start, and for every byte that comes.
// qrnn verify --serial PORT reads it.
#include <$name.h>
#include "${name}_bench.h"

static int put(int character) {
  return (int)Serial.write((uint8_t)character);
}

static void bench() {
  ${name}_bench(put, F_CPU, NULL);
}

void setup() {
  Serial.begin(115200);
  bench();
}

void loop() {
  if (Serial.read() >= 0) {
    bench();
  }
}
