"""The contract's functions on int64, which translated loops call, give the values of the contract."""

from __future__ import annotations

import inspect
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from installed import compiler

from export.building import SANITIZED, compile_program
from qrnn.arithmetic import CONTRACT, fixedpoint
from qrnn.export.loops.source import signature
from qrnn.export.loops.translator import WIDE_HEADER
from qrnn.export.loops.values import Array
from qrnn.targets import targets_folder


class Int64(int):
    """An integer whose sums, products and shifts are Int64, and an OverflowError where C has no such value."""

    def _made(self, value: int) -> Int64:
        if not -(1 << 63) <= value < 1 << 63:
            raise OverflowError
        return Int64(value)

    def __add__(self, other: int) -> Int64:
        return self._made(int(self) + int(other))

    def __sub__(self, other: int) -> Int64:
        return self._made(int(self) - int(other))

    def __rsub__(self, other: int) -> Int64:
        return self._made(int(other) - int(self))

    def __mul__(self, other: int) -> Int64:
        return self._made(int(self) * int(other))

    def __lshift__(self, other: int) -> Int64:
        if not 0 <= other <= 62:
            raise OverflowError
        return self._made(int(self) << int(other))

    def __rlshift__(self, other: int) -> Int64:
        return Int64(other) << self

    def __rshift__(self, other: int) -> Int64:
        if not 0 <= other <= 62:
            raise OverflowError
        return self._made(int(self) >> int(other))

    __radd__, __rmul__ = __add__, __mul__


def arguments(function: Callable[..., Any], rng: np.random.Generator) -> tuple[list[Int64], int]:
    """Arguments, small and large, with which every value of a function fits 64 bits, and what it returns."""
    for _ in range(10000):
        given = []
        for name in inspect.signature(function).parameters:
            small = any(word in name for word in ("shift", "frac", "bits", "exponent"))
            size = 1 << int(rng.integers(1, 5 if small else 33))
            low = 0 if small or name in ("total", "limit", "weight") else -size
            given.append(Int64(int(rng.integers(low, size))))
        try:
            return given, int(function(*given))
        except (OverflowError, ZeroDivisionError):
            continue
    raise AssertionError(f"no arguments of {function.__name__} fit 64 bits")


def scalars() -> Iterator[Callable[..., Any]]:
    for function in CONTRACT:
        if function is not fixedpoint.choose and not any(isinstance(a, Array) for a in signature(function).values()):
            yield function


def test_the_wide_contract_is_the_contract(tmp_path: Path) -> None:
    """Each function of qrnn_contract_wide.h that reads no table, on random arguments, under sanitizers."""
    rng = np.random.default_rng(7)
    lines, expected = [], []
    for function in scalars():
        for _ in range(40):
            given, value = arguments(function, rng)
            expected.append(value)
            texts = ", ".join(f"INT64_C({g})" for g in given)
            lines.append(f'    printf("%lld\\n", (long long)qrnn_wide_{function.__name__}({texts}));')
    for a in (-(1 << 40), -7, -1, 0, 1, 8, (1 << 31) - 1, 1 << 31, (1 << 31) + 7):
        for b in (-3, -1, 2, 8, (1 << 31) - 1, 1 << 31):
            for name, value in (
                ("floor_divide", a // b),
                ("floor_modulo", a % b),
                ("max", max(a, b)),
                ("min", min(a, b)),
            ):
                expected.append(value)
                lines.append(f'    printf("%lld\\n", (long long)qrnn_wide_{name}(INT64_C({a}), INT64_C({b})));')
    compiler("gcc", "-fsanitize=address,undefined")
    source = tmp_path / "wide.c"
    body = "\n".join(lines)
    source.write_text(f'#include "{WIDE_HEADER}"\n#include <stdio.h>\nint main(void)\n{{\n{body}\n    return 0;\n}}\n')
    compile_program(["gcc", *SANITIZED, f"-I{targets_folder() / 'runtime'}", source, "-o", tmp_path / "wide"])
    done = subprocess.run([tmp_path / "wide"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [int(line) for line in done.stdout.split()] == expected
