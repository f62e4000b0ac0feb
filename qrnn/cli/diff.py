"""The command ``qrnn diff``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.common import console, print_json, read_arrays
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from qrnn.accuracy.diff import Difference


def diff(
    a: Annotated[Path, typer.Argument(metavar="A.qrnn", help="A .qrnn file.")],
    b: Annotated[Path, typer.Argument(metavar="B.qrnn", help="Another.")],
    data: Annotated[Path | None, typer.Option(help="DATA.npz to run through both.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what two models differ in (scheme, formats, gates, weights, sizes), and on data what that does."""
    from qrnn.accuracy.diff import diff as measure
    from qrnn.model.file import load

    first, second = load(a), load(b)
    same = first.inputs if first.inputs == second.inputs else None  # `measure` says what differs
    found = measure(first, second, None if data is None else read_arrays(data, same))
    if json:
        print_json(found.as_dict())
    else:
        _print(found)


def _print(found: Difference) -> None:
    from rich.table import Table

    out = console()
    if found.identical:
        out.print("the models are identical")
    if found.changes:
        table = Table("what", "A", "B", title="Formats and scheme", title_justify="left")
        for c in found.changes:
            table.add_row(c.what, _text(c.a), _text(c.b))
        out.print(table)
    if found.matrices:
        table = Table("matrix", "weights changed", "by at most", "biases", "row scales", "bits", title="Integers")
        for m in found.matrices:
            changed = f"{m.changed} of {m.weights}"
            bits = str(m.bits[0]) if m.bits[0] == m.bits[1] else f"{m.bits[0]} → {m.bits[1]}"
            table.add_row(m.name, changed, str(m.largest), str(m.biases), str(m.multipliers), bits)
        out.print(table)
    for name, (left, right) in found.sizes.items():
        if left != right:
            out.print(f"{name}: {size_text(left)} → {size_text(right)}")
    if found.outputs:
        table = Table("output", "SQNR of B against A", "largest", "worst sequence", "decisions that differ")
        for o in found.outputs:
            db = "same" if math.isinf(o.sqnr_db) else f"{o.sqnr_db:.1f} dB"
            table.add_row(o.name, db, f"{o.largest:.4g}", str(o.worst_sequence), f"{o.differ} of {o.total}")
        out.print(table)


def _text(value: object) -> str:
    if value is None:
        return "-"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
