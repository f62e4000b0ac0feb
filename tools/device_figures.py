"""The figures beside which tools/bench_devices.py sets its own: CMSIS-NN's, which others measured, and lower bounds."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

KEYS = ("instructions", "qrnn_instructions", "flash_beyond_weights", "ram")
DATA = Path(__file__).parent / "data" / "cmsis_nn_99f736a.toml"


@dataclass(frozen=True)
class Reference:
    """An LSTM step of CMSIS-NN: instructions, and bytes of flash beyond the weights and of RAM with the stack, where they were measured.

    ``qrnn_instructions`` is the number that qrnn at 52895b5 took in the same run.
    """

    version: str
    instructions: int
    qrnn_instructions: int
    flash_beyond_weights: int | None = None
    ram: int | None = None


@dataclass(frozen=True)
class Traced:
    """Cycles of a step by the timings in the core's manual: the least, the middle and the most that the manual leaves open."""

    core: str
    code: str
    units: int
    instructions: int
    cycles: tuple[int, int, int]

    @property
    def per_instruction(self) -> float:
        """Cycles per instruction, by the middle figure."""
        return self.cycles[1] / self.instructions


@lru_cache
def data() -> dict[str, Any]:
    """Return the whole file, with its ``revision``, ``function`` and ``source``."""
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def references() -> dict[tuple[str, str, int], Reference]:
    """Return CMSIS-NN's figures by (compiler with optimization, target, units)."""
    found = {}
    for table in data()["measured"]:
        for k, units in enumerate(table["units"]):
            figures = {key: table[key][k] for key in KEYS if key in table}
            found[table["compiler"], table["core"], units] = Reference(table["version"], **figures)
    return found


def traced() -> list[Traced]:
    """Return all steps whose cycles are known, in the order of the file."""
    return [Traced(**{**entry, "cycles": tuple(entry["cycles"])}) for entry in data()["traced"]]


def reference_cycles_per_instruction(target: str, units: int) -> float | None:
    """Return CMSIS-NN's cycles per instruction; None where the core has none.

    They come from the traced step on that core with the nearest number of units.
    """
    known = [one for one in traced() if one.core == target and one.code == "CMSIS-NN"]
    return min(known, key=lambda one: abs(one.units - units)).per_instruction if known else None


LEAST = {
    "dsp": (
        Fraction(14, 16),
        "14 instructions for 16 products: one load of four words of weights, one of two words of operands, and three for four products",
    ),
    "mve": (
        Fraction(9, 64),
        "9 instructions for 64 products: a load of operands, and for each of four rows a load of weights and VMLADAVA",
    ),
    "mla": (
        Fraction(16, 8),
        "16 instructions for 8 products: two loads, two for the correction of the products, and three for each two products",
    ),
    "plain": (
        Fraction(13, 4),
        "13 instructions for four products: a load of the operand, and for each row a load, a product and a sum",
    ),
}
"""Kind of dot product → instructions a multiply-add, without the loop, and their count in words."""


def bound(kernels: str, macs: int) -> float:
    """Return the instructions that the multiply-adds of a step take at least."""
    return float(LEAST[kernels][0] * macs)
