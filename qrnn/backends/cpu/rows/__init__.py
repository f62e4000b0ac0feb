"""Loops over rows place[FIRST] … place[LAST] - 1, compiled by Numba: of each kind of layer, in a module with its name, and of a model's
boundary, in `boundary`. Their arithmetic is the contract's. `qrnn.backends.cpu.kinds` makes them into calls and does not import them."""
