"""Loops over rows place[FIRST] … place[LAST] - 1, compiled by Numba.

Each kind of layer has a module with its name, and a model's boundary has `boundary`. The arithmetic is the contract's. The modules of
`qrnn.backends.cpu.kinds` make the loops into calls and do not import them.
"""
