"""The command ``qrnn targets``."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.common import console, print_json
from qrnn.system import tables
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from qrnn.targets import Target

_TITLES = {
    "core": "core",
    "memory": "typical device",
    "build": "C is built",
    "emulation": "emulated",
    "host": "operating system",
    "timing": "cycles",
    "energy": "energy",
    "cost": "estimates of time",
    "scheme": "defaults of qrnn convert",
}


def targets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE.toml", help="Explain this target; list all when left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List the known hardware, or explain one target."""
    from qrnn.targets import chip_names, load_target, target_names

    if name is not None:
        target = load_target(name)
        print_json(target.to_dict()) if json else _explain(target)
        return
    known = [load_target(known_name) for known_name in target_names()]
    if json:
        print_json([t.to_dict() for t in (*known, *map(load_target, chip_names()))])
    else:
        _list(known)


def _list(known: list[Target]) -> None:
    from qrnn.hardware.chips import chips

    rows = []
    for t in known:
        memory = [size_text(m) if m is not None else "-" for m in (t.memory.flash_bytes, t.memory.ram_bytes)]
        rows.append((t.name, t.description, t.core.kernels, *memory))
    out = console()
    columns = (tables.exact("target"), tables.text("description"), tables.exact("kernels"))
    out.print(tables.table((*columns, *map(tables.number, ("flash", "RAM"))), rows))
    out.print("Chips and boards, each with its own flash, RAM and clock:")
    for t in known:
        own = [" = ".join((chip, *chips()[chip].also)) for chip in chips() if chips()[chip].target == t.name]
        if own:
            text = f"{t.name}: {'; '.join(own)}"
            out.print(fill(text, 80, subsequent_indent="  ", break_on_hyphens=False), soft_wrap=True)
    out.print("qrnn targets NAME explains one: its typical device, how it is built and emulated, defaults")


def _explain(target: Target) -> None:
    """Print everything that is known of one target, section by section; what is not known is left out."""
    out = console()
    out.print(f"{target.name}: {target.description}", soft_wrap=True)
    if target.note:
        out.print(target.note, soft_wrap=True)
    parts = target.to_dict()
    width = max(len(key) for title in _TITLES for key in parts[title] or {})
    for section, title in _TITLES.items():
        lines = {key: _text(key, value) for key, value in (parts[section] or {}).items() if value not in (None, ())}
        if lines:
            out.print(f"\n{title}")
        for key, text in lines.items():
            out.print(f"  {key:{width}}  {text}", soft_wrap=True)
    if target.emulation is None and target.host is None and target.build.board != "host":
        out.print("\nemulated\n  not at all: what is built for it is verified on the device itself")


def _text(key: str, value: Any) -> str:
    """Return a value with its unit, as the key's ending gives it."""
    if isinstance(value, tuple):
        return " ".join(value)
    if key.endswith("_bytes"):
        return size_text(value)
    if key.endswith("_hz"):
        return f"{value / 1e6:g} MHz"
    if key.endswith("_origin"):
        return f"0x{value:08x}"
    return str(value)
