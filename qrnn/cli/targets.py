"""``qrnn targets``."""

from __future__ import annotations

from typing import Annotated

import typer

from qrnn.cli.common import console, print_json, size_text


def targets(json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False) -> None:
    """List the known hardware."""
    from rich.table import Table

    from qrnn.targets import load_target, target_names

    known = [load_target(name) for name in target_names()]
    if json:
        print_json([t.as_dict() for t in known])
        return
    table = Table("target", "description", "word", "flash", "RAM", "scheme")
    for t in known:
        memory = [size_text(m) if m is not None else "-" for m in (t.flash_bytes, t.ram_bytes)]
        scheme = f"{t.scheme['activations']}-bit, {t.scheme['gates']}"
        table.add_row(t.name, t.description, f"{t.word_bits} bit", *memory, scheme)
    console().print(table)
