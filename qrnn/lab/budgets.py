"""Budgets: what a model may cost and must reach, and by how much a model misses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Literal

from qrnn.errors import DataError

Cheapest = Literal["instructions", "flash", "ram", "latency"]

ORDER: Mapping[Cheapest, tuple[str, ...]] = {
    "instructions": ("instructions", "flash_bytes", "ram_bytes"),
    "flash": ("flash_bytes", "ram_bytes", "instructions"),
    "ram": ("ram_bytes", "flash_bytes", "instructions"),
    "latency": ("latency_us", "instructions", "flash_bytes", "ram_bytes"),
}
"""What "cheapest" compares, in this order; of equals, the one with the higher SQNR."""

_UNITS = {"bytes": {"": 1, "k": 1024, "m": 1024**2}, "instructions": {"": 1, "k": 1000, "m": 1_000_000}}


@dataclass(frozen=True)
class Bound:
    """One budget: a figure of a record, its limit, whether it is a least or a most, and the shortfall that counts as one."""

    name: str
    key: str
    limit: float
    at_least: bool
    unit: str
    scale: float

    def shortfall(self, figures: Mapping[str, Any]) -> float:
        """Return by how much ``figures`` miss the limit, in its unit: 0 where it is met, infinite where the figure is not known."""
        found = figures.get(self.key)
        if found is None:
            return 0.0 if self.key == "sqnr_about_mean_db" and figures.get("exact") else float("inf")
        return max(0.0, self.limit - float(found) if self.at_least else float(found) - self.limit)


@dataclass(frozen=True)
class Budgets:
    """The limits of a search; None stands for no limit.

    ``max_accuracy_drop`` is in percentage points below float's accuracy, and needs labels; ``min_sqnr`` is in dB about the mean;
    ``min_agreement`` is in percent of decisions as in float; ``flash`` and ``ram`` are in bytes; ``instructions`` are per step. At least one
    of the first three must be given. Raises DataError for a value that is not a number of its kind.
    """

    max_accuracy_drop: float | None = None
    min_sqnr: float | None = None
    min_agreement: float | None = None
    flash: int | None = None
    ram: int | None = None
    instructions: float | None = None

    def __post_init__(self) -> None:
        if self.max_accuracy_drop is None and self.min_sqnr is None and self.min_agreement is None:
            raise DataError(
                "no budget of accuracy; expected at least one of --max-accuracy-drop, --min-sqnr and --min-agreement"
            )
        for name, value in vars(self).items():
            option = f"--{name.replace('_', '-')}"
            if value is not None and (isinstance(value, bool) or not isinstance(value, Real)):
                raise DataError(f"{option}={value!r}, expected a number")
            if value is not None and not isfinite(value):
                raise DataError(f"{option}={value}, expected a finite number")
            if name in ("flash", "ram", "instructions") and value is not None and value <= 0:
                raise DataError(f"{option}={value}, expected more than 0")
        if self.min_agreement is not None and not 0 <= self.min_agreement <= 100:
            raise DataError(f"--min-agreement={self.min_agreement:g}, expected 0 to 100 percent")

    def bounds(self) -> list[Bound]:
        """Return the limits that are set, those of accuracy first."""
        found: list[Bound] = []

        def least(name: str, key: str, limit: float | None, unit: str, scale: float) -> None:
            if limit is not None:
                found.append(Bound(name, key, limit, at_least=True, unit=unit, scale=scale))

        def most(name: str, key: str, limit: float | None, unit: str, scale: float | None = None) -> None:
            if limit is not None:
                found.append(Bound(name, key, limit, at_least=False, unit=unit, scale=scale or float(limit or 1)))

        most("accuracy drop", "accuracy_drop", self.max_accuracy_drop, "points", scale=1.0)
        least("SQNR about the mean", "sqnr_about_mean_db", self.min_sqnr, "dB", scale=6.0)
        least("agreement", "agreement", self.min_agreement, "%", scale=1.0)
        most("flash", "flash_bytes", self.flash, "bytes")
        most("RAM", "ram_bytes", self.ram, "bytes")
        most("instructions a step", "instructions", self.instructions, "")
        return found


def parse_amount(option: str, text: str | None, kind: Literal["bytes", "instructions"]) -> int | None:
    """Parse bytes such as 65536, 64K or 1M (of 1024), or instructions such as 200000, 200k or 1.5M (of 1000).

    DataError for anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kKmM]?)(?:i?[bB])?", text.strip(), re.ASCII)
    if match is None or (kind == "instructions" and text.strip()[-1:] in "bB"):
        example = "65536, 64K or 1M" if kind == "bytes" else "200000, 200k or 1.5M"
        raise DataError(f"{option}={text!r}, expected {kind} such as {example}")
    amount = float(match[1]) * _UNITS[kind][match[2].lower()]
    if amount < 1:
        raise DataError(f"{option}={text!r}, expected at least 1")
    return int(amount)
