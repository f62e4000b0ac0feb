"""The command ``qrnn diff``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.common import console, print_json, read_arrays

if TYPE_CHECKING:
    pass


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
        print_json(found.to_dict())
    else:
        found.render(console())
