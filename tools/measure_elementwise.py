"""Print the figures of elementwise layers that docs/arithmetic.md quotes (section 5): sizes of tables, and errors of logarithms.

It takes no arguments.
"""

from __future__ import annotations

import numpy as np

from qrnn.arithmetic.arrays import of_arrays
from qrnn.arithmetic.gates import exp_weight
from qrnn.arithmetic.logarithms import LOG_FRAC, natural_log
from qrnn.model.kinds.function import choose_table, integer_values
from qrnn.model.log_table import log_table
from qrnn.model.scalar_function import ScalarFunction, X, constant
from qrnn.quantization.gate_tables import exp_table

FUNCTIONS = {
    "sqrt": ScalarFunction("sqrt", (X,)),
    "ln": ScalarFunction("log", (X,)),
    "x^0.3": ScalarFunction("pow", (X, constant(0.3))),
    "1/x": ScalarFunction("reciprocal", (X,)),
    "e^x": ScalarFunction("exp", (X,)),
}
FRAC = 12
"""The fraction bits of the argument and of the result."""


def table_sizes() -> dict[str, tuple[int, float]]:
    """Return the entries of the table of each function over every positive int16, and its largest error in units."""
    found = {}
    for name, function in FUNCTIONS.items():
        wanted = integer_values(function, FRAC, FRAC, -8.0, 8.0)
        assert wanted is not None
        _, table, error = choose_table(function, FRAC, FRAC, wanted, (1, 32767))
        found[name] = (table.size, error)
    return found


def log_errors() -> tuple[float, float]:
    """Return the least and the greatest error of the logarithm, over numbers of every size."""
    rng = np.random.default_rng(0)
    v = np.concatenate([np.arange(1, 1 << 20), *(rng.integers(1 << b, 2 << b, 1 << 14) for b in range(20, 62))])
    error = of_arrays(natural_log)(v, log_table().astype(np.int64)) / 2.0**LOG_FRAC - np.log(v.astype(np.longdouble))
    return float(error.min()), float(error.max())


def total_error(features: int) -> float:
    """Return the largest relative error of a softmax's total, all elements but the largest being at the same worst distance from it."""
    d = np.arange(0, 1 << 15)
    table = exp_table().tolist()
    weight = np.array([exp_weight(int(x), 11, table) for x in d]) / 2.0**15
    real = np.exp(-d / 2.0**11)
    return float(np.abs((features - 1) * (weight - real) / (1 + (features - 1) * real)).max())


def main() -> None:
    """Print all figures."""
    for name, (size, error) in table_sizes().items():
        print(f"{name}, {FRAC} bits to {FRAC}: {size} entries, {error:.2f} units")
    low, high = log_errors()
    print(f"logarithm: {low:.2e} to {high:.2e}")
    for features in (10, 64, 1024):
        print(f"total of a softmax of {features} features: {total_error(features):.2e} of itself")


if __name__ == "__main__":
    main()
