"""The report of ``qrnn diff``: what two quantized models differ in, and what that does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from qrnn.system import tables
from qrnn.system.reports import Report
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Change:
    """One thing that is ``a`` in the first model and ``b`` in the second; None where a model does not have it."""

    what: str
    a: Any
    b: Any


@dataclass(frozen=True)
class MatrixChange:
    """How one matrix differs: how many ``weights``, by how many integers at most, how many biases and row scales (multipliers)."""

    name: str
    weights: int
    changed: int
    largest: int
    biases: int
    multipliers: int
    bits: tuple[int, int]


@dataclass(frozen=True)
class OutputChange:
    """How one output differs on data.

    ``sqnr_db`` is that of the second model's values against the first's. Of ``total`` decisions (argmax over features, or the sign of a
    single feature) ``differ`` are different. ``largest`` names the sequence with the largest difference.
    """

    name: str
    sqnr_db: float
    largest: float
    worst_sequence: int
    differ: int
    total: int


@dataclass(frozen=True)
class Difference(Report):
    """The whole report."""

    names: tuple[str, str]
    changes: tuple[Change, ...]
    matrices: tuple[MatrixChange, ...]
    outputs: tuple[OutputChange, ...] = ()
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Return whether nothing differs that a run or a reader could see."""
        return not self.changes and not self.matrices

    def describe_lines(self) -> Iterator[str]:
        """Yield how much differs between the two models, and what that does to the outputs."""
        left, right = self.names
        yield f"Difference of {left!r} and {right!r}: " + (
            "none" if self.identical else f"{len(self.changes)} facts and {len(self.matrices)} matrices"
        )
        for o in self.outputs:
            yield f"  output {o.name}: {_decibels(o.sqnr_db)}, {o.differ} of {o.total} decisions differ"
        yield "  str(report) has all of it as tables"

    def render(self, out: Console) -> None:
        """Print the facts, matrices, sizes and outputs that differ."""
        if self.identical:
            out.print("the models are identical")
        if self.changes:
            rows: list[tuple[str, ...]] = [(c.what, _text(c.a), _text(c.b)) for c in self.changes]
            out.print(tables.table([tables.text(title) for title in ("what", "A", "B")], rows, "Formats and scheme"))
        if self.matrices:
            rows = []
            for m in self.matrices:
                changed = f"{m.changed} of {m.weights}"
                bits = str(m.bits[0]) if m.bits[0] == m.bits[1] else f"{m.bits[0]} → {m.bits[1]}"
                rows.append((m.name, changed, str(m.largest), str(m.biases), str(m.multipliers), bits))
            counts = map(tables.number, ("weights changed", "by at most", "biases", "row scales", "bits"))
            out.print(tables.table((tables.name("matrix"), *counts), rows, "Integers"))
        for name, (left, right) in self.sizes.items():
            if left != right:
                out.print(f"{name}: {size_text(left)} → {size_text(right)}")
        if self.outputs:
            rows = [
                (o.name, _decibels(o.sqnr_db), f"{o.largest:.4g}", str(o.worst_sequence), f"{o.differ} of {o.total}")
                for o in self.outputs
            ]
            figures = map(tables.number, ("SQNR", "largest", "worst sequence", "decisions that differ"))
            out.print(tables.table((tables.name("output"), *figures), rows, "B against A"))

    def to_dict(self) -> dict[str, Any]:
        """Return what ``qrnn diff --json`` prints."""
        outputs = [asdict(o) for o in self.outputs]
        for output in outputs:
            output["sqnr_db"] = output["sqnr_db"] if math.isfinite(output["sqnr_db"]) else None
        return {
            "models": list(self.names),
            "identical": self.identical,
            "changes": [asdict(c) for c in self.changes],
            "matrices": [asdict(m) for m in self.matrices],
            "bytes": {name: list(pair) for name, pair in self.sizes.items()},
            "outputs": outputs,
        }


def _decibels(sqnr_db: float) -> str:
    return "same" if math.isinf(sqnr_db) else f"{sqnr_db:.1f} dB"


def _text(value: object) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
