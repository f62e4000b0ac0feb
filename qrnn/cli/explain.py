"""The command ``qrnn explain``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qrnn.cli.common import SetOption, StateOption, console, load_source, print_json, progress, read_arrays

if TYPE_CHECKING:
    from qrnn.accuracy.explain import Explanation


def explain(
    onnx: Annotated[
        Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX file that the model was converted from.")
    ],
    model: Annotated[Path, typer.Argument(metavar="MODEL.qrnn", help="The .qrnn file.")],
    data: Annotated[
        Path | None, typer.Option(help="DATA.npz: inputs, optionally lengths [N]; random numbers when left out.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Show this many parts, those that cost most.")] = 12,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON, all parts.")] = False,
    state: StateOption = None,
    fixed: SetOption = None,
) -> None:
    """Say which layer, gate and tensor costs how much of the error, what to change, and what that costs."""
    from qrnn.accuracy.explain import explain as measure
    from qrnn.conversion import random_inputs
    from qrnn.model.file import load

    quantized = load(model)
    float_model = load_source(onnx, quantized, state, fixed)
    arrays = random_inputs(float_model) if data is None else read_arrays(data, float_model.inputs)
    with progress("ablating") as report:
        found = measure(float_model, quantized, arrays, random_data=data is None, progress=report)
    if json:
        print_json(found.as_dict())
        return
    if data is None:
        typer.echo("warning: measured on random numbers; give --data for figures that mean something", err=True)
    _print(found, top)


def _print(found: Explanation, top: int) -> None:
    from rich.table import Table

    from qrnn.accuracy.explain import part_text

    out = console()
    out.print(
        f"{found.model}: output {found.output}, {found.sequences} sequences, {found.steps} steps, SQNR {found.sqnr_db:.1f} dB, "
        f"{found.sqnr_about_mean_db:.1f} dB about the mean "
        f"(all parts below together: {found.sqnr_db_all_parts:.1f} dB; the floor, with the weights alone rounded: {found.floor_db:.1f} dB)",
        soft_wrap=True,
    )
    table = Table("layer", "part", "share", "without it", "change", "which costs")
    for cost in found.costs[:top]:
        without = "" if cost.without_db is None else f"{cost.without_db:.1f} dB"
        table.add_row(
            cost.part.where, part_text(cost.part), f"{100 * cost.share:.1f} %", without, cost.advice, cost.costs
        )
    out.print(table)
    for clipped in found.clipped:
        out.print(f"clipped: {clipped}", markup=False, soft_wrap=True)
    if len(found.costs) > top:
        rest = sum(cost.share for cost in found.costs[top:])
        out.print(f"{len(found.costs) - top} more parts: {100 * rest:.1f} % together")
    out.print(
        "share: noise energy of the part alone over that of the whole; shares need not add up to 100 %. "
        "without it: SQNR of the quantized model with that part exact.",
        soft_wrap=True,
    )
