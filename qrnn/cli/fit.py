"""The command ``qrnn fit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.common import console, print_json, progress
from qrnn.cli.cycles import energy_text, print_parts, range_text
from qrnn.system import tables

if TYPE_CHECKING:
    from qrnn.devices.fit import Fit


def fit(
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="A model that qrnn convert wrote.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help="Only this hardware, a name or the path of a .toml file; may be given again."),
    ] = None,
    step_ms: Annotated[float, typer.Option(min=1e-3, help="From one time step to the next, in ms.")] = 10.0,
    steps: Annotated[int, typer.Option(min=1, help="Of the longest sequence, for models that read whole ones.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the flash, RAM, instructions and time of a model on every known device: built, run in emulators, counted."""
    from qrnn.devices.cycles.record import WORDS
    from qrnn.devices.fit import fit as judge
    from qrnn.model.file import load
    from qrnn.targets import load_target, target_names

    known = [load_target(name) for name in target or target_names()]
    devices = [t for t in known if target or (t.host is None and t.build.board != "host")]
    with progress("building and counting") as report:
        found = judge(load(model), devices, steps, step_ms / 1000, report)
    if json:
        print_json([f.to_dict() for f in found])
        return
    figures = [tables.number(title) for title in ("flash, KiB", "RAM, KiB", "instr.", "cycles")]
    columns = [tables.exact("target"), *figures, tables.exact("kind")]
    columns += [tables.number(title) for title in ("ms", "fits")]
    out = console()
    out.print(tables.table(columns, [_row(f) for f in found], gap=1))
    for f in found:
        if f.lacks:
            what = f"{f.needs.target.name} lacks {', '.join(f.lacks)}"
            out.print(f"{what}{'; what would do: ' + '; or '.join(f.remedies) if f.remedies else ''}", soft_wrap=True)
    whole = f", for sequences of {steps} steps" if found and found[0].needs.steps > 1 else ""
    out.print(
        f"Flash and RAM (state, stack, inputs and outputs{whole}) are those of linked programs. Instructions of a step are counted in the "
        "emulator; ~ stands before what comes from a cost model, ? where there is none. Cycles are the middle of their range, and ms these "
        f"cycles over the board's clock (qrnn targets NAME), which fit where they are within the {step_ms:g} ms from step to step."
    )
    kinds = dict.fromkeys(f.needs.cycles_kind for f in found if f.needs.cycles_kind is not None)
    out.print(f"Kinds of cycles: {'; '.join(f'{kind}, {WORDS[kind]}' for kind in kinds)}.")
    for f in found:
        timing = f.needs.timing
        if timing is not None and (target or timing.problem is not None):
            out.print(
                f"{f.needs.target.name}: {range_text(timing.total)} cycles, {timing.kind}{_energy(f)}", soft_wrap=True
            )
            print_parts(out, timing)
    layers = found[0].multiply_adds if found else {}
    if layers:
        each = ", ".join(f"{name} {count:,.0f}" for name, count in layers.items())
        out.print(f"Multiply-adds of a step: {each}.", soft_wrap=True)
    for f in found:
        if f.needs.problem is not None:
            out.print(f"note: {f.needs.target.name}: {f.needs.problem[:200]}", soft_wrap=True)


def _row(f: Fit) -> list[str]:
    needs, memory = f.needs, f.needs.target.memory
    guess = "" if needs.counted else "~"
    instructions = "?" if needs.instructions is None else f"{guess}{needs.instructions:,.0f}"
    seconds = "?" if needs.seconds is None else f"{guess}{needs.seconds * 1e3:,.3f}"
    return [
        needs.target.name,
        f"{'' if needs.flash_bytes is not None else '~'}{_of(f.flash_bytes, memory.flash_bytes)}",
        f"{guess}{_of(needs.ram_bytes, memory.ram_bytes)}",
        "-" if needs.cycles_measured else instructions,
        "?" if needs.cycles is None else f"{guess}{needs.cycles:,.0f}",
        needs.cycles_kind or "",
        seconds,
        "yes" if f.fits else "no",
    ]


def _energy(f: Fit) -> str:
    """Return the energy of a step, where the target states its current."""
    return "" if f.needs.joules is None else f", {energy_text(f.needs.joules)} while it computes"


def _of(size: int, total: int | None) -> str:
    """Return bytes in KiB, with the total that there is; totals of many MiB are in these."""
    of = "" if total is None else f" of {total / 1024:.0f}" if total < 10 << 20 else f" of {total / (1 << 20):.0f} M"
    return f"{size / 1024:,.1f}{of}"
