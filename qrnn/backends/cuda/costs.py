"""The constants of `plan`'s estimate of a step's time are read from data/costs_sm_….json, one file for each family of devices.

`tools/gpu_check` measures steps on a device and fits the constants to them. Until then a file's ``source`` says that its constants are
estimates. They decide which kernel runs, and never a bit of its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from qrnn.backends.cuda.records import DATA, check_date, check_schema, checked, read_json, require
from qrnn.errors import BackendError

Term = tuple[str, float]
"""A constant's name, and how often a step pays it."""


@dataclass(frozen=True)
class Constants:
    """The cost of a step's parts, in cycles of a multiprocessor's clock where a name does not say otherwise."""

    shared_bytes_per_cycle: float
    """Bytes that a multiprocessor reads from its shared memory in a cycle."""
    cache_bytes_per_cycle: float
    """Bytes that a multiprocessor reads from the second-level cache in a cycle while all others do."""
    tensor_cycles: float
    """Cycles of one m16n8k32 (4096 multiply-adds) where a multiprocessor's tensor cores have nothing else to do."""
    dp4a_cycles: float
    """Cycles of one warp's `dp4a` where a multiprocessor does nothing else."""
    tensor_latency_cycles: float
    """Cycles from one product of a row by the tensor cores to the next, which adds to it."""
    dp4a_latency_cycles: float
    """Cycles from one pair of a row's `dp4a` to the next, which adds to it."""
    shuffle_latency_cycles: float
    """Cycles of the shuffles that end a row's `dp4a`."""
    update_cycles: float
    """Cycles of a warp's requantizations, gates and cell for one column of its units."""
    block_barrier_cycles: float
    """Cycles of a block's barrier."""
    grid_barrier_cycles: float
    """Cycles of a grid's barrier, with the latency of the read, after it, of what another block has written."""
    launch_cycles: float
    """Cycles of a launch in place of a grid's barrier, with the same latency."""

    def prices(self) -> dict[str, float]:
        """Return the cycles that one unit of each constant's work costs; for a rate, that is its inverse."""
        return {name: 1.0 / value if name in RATES else value for name, value in asdict(self).items()}

    @classmethod
    def of_prices(cls, prices: Mapping[str, float]) -> Constants:
        """Return the constants whose `prices` these are."""
        return cls(**{name: 1.0 / prices[name] if name in RATES else prices[name] for name in NAMES})


NAMES = tuple(field.name for field in fields(Constants))
RATES = ("shared_bytes_per_cycle", "cache_bytes_per_cycle")


@dataclass(frozen=True)
class Work:
    """What a step does: the longest of three things that overlap counts, ``rest`` is added, and all is done once for each wave of blocks."""

    waves: int
    reading: tuple[Term, ...]
    multiplying: tuple[Term, ...]
    waiting: tuple[Term, ...]
    rest: tuple[Term, ...]

    @property
    def overlapping(self) -> tuple[tuple[Term, ...], ...]:
        """Return the three things that overlap."""
        return self.reading, self.multiplying, self.waiting

    def cycles(self, prices: Mapping[str, float]) -> float:
        """Return the estimated cycles."""
        return self.waves * (max(_sum(terms, prices) for terms in self.overlapping) + _sum(self.rest, prices))

    def longest(self, prices: Mapping[str, float]) -> int:
        """Return which of the three overlapping things takes the longest."""
        return max(range(3), key=lambda k: _sum(self.overlapping[k], prices))


def _sum(terms: tuple[Term, ...], prices: Mapping[str, float]) -> float:
    return sum(count * prices[name] for name, count in terms)


@dataclass(frozen=True)
class Costs:
    """A family's constants and their origin: ``device`` and ``date`` of a measurement, None for an estimate."""

    constants: Constants
    source: str
    device: str | None = None
    date: str | None = None
    revision: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a data file."""
        found = asdict(self)
        constants = found.pop("constants")
        return {"schema": 1, **found, "constants": constants}


def family(capability: tuple[int, int]) -> str:
    """Return the name of a family of devices, such as sm_9x for compute capability 9.0."""
    return f"sm_{capability[0]}x"


def costs_path(capability: tuple[int, int], folder: Path = DATA) -> Path:
    """Return the path of a family's constants."""
    return folder / f"costs_{family(capability)}.json"


@cache
def costs_of(capability: tuple[int, int]) -> Costs:
    """Return the constants for a device: its family's, or the next older family's where it has none of its own."""
    for major in range(capability[0], 0, -1):
        path = costs_path((major, 0))
        if path.is_file():
            return load_costs(path)
    raise BackendError(f"{DATA}: no constants for compute capability {capability[0]}.{capability[1]} or an older one")


def load_costs(path: Path) -> Costs:
    """Read and check a file of constants; BackendError names what does not fit."""
    where = str(path)
    text = (str, type(None))
    found = checked(
        where,
        read_json(path),
        {"schema": int, "source": str, "device": text, "date": text, "revision": text, "constants": dict},
    )
    check_schema(where, found["schema"])
    if found["date"] is not None:
        check_date(where, found["date"])
    values = checked(f"{where}: constants", found["constants"], dict.fromkeys(NAMES, float))
    for name, value in values.items():
        require(0 < value < 1e9, f"{where}: constants", name, value, "a number above 0 and below 1e9")
    constants = Constants(**{name: float(value) for name, value in values.items()})
    return Costs(constants, found["source"], found["device"], found["date"], found["revision"])
