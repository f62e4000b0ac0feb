"""The command ``qrnn tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.arrays import array_shapes
from qrnn.cli.common import (
    SetOption,
    StreamOption,
    check_output,
    is_stdout,
    print_json,
    progress,
    read_arrays,
    report_console,
    target_file,
    values_set,
)

if TYPE_CHECKING:
    from rich.console import Console

    from qrnn.lab.tune import TuneResult

SHOWN = 12
"""The number of changes that the terminal lists."""


def tune(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="ONNX file with LSTM, GRU or RNN layers.")],
    calibration: Annotated[Path, typer.Option(metavar="DATA.npz", help="Typical inputs, as for convert.")],
    data: Annotated[
        Path, typer.Option(metavar="DATA.npz", help="What to measure on: inputs, optionally lengths, labels.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="BEST.qrnn", help="Write the model, where every budget is met."),
    ] = None,
    target: Annotated[
        str, typer.Option(help="Hardware that budgets are of, a name or a .toml file (see: qrnn targets).")
    ] = "cortex-m4",
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="Percentage points below float; needs labels.")
    ] = None,
    min_sqnr: Annotated[float | None, typer.Option(help="dB against the float64 oracle.")] = None,
    min_agreement: Annotated[float | None, typer.Option(help="Percent of decisions as in float.")] = None,
    flash: Annotated[str | None, typer.Option(help="Bytes, such as 64K.")] = None,
    ram: Annotated[str | None, typer.Option(help="Bytes, such as 8K: state, stack, inputs and outputs.")] = None,
    instructions: Annotated[str | None, typer.Option(help="A time step, such as 200k.")] = None,
    cheapest: Annotated[
        str,
        typer.Option(
            help="What is least: instructions (then flash, then RAM), flash, ram, or latency on this machine."
        ),
    ] = "instructions",
    most: Annotated[int, typer.Option("--most", help="Configurations to measure at most.")] = 150,
    stream: StreamOption = False,
    fixed: SetOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Find the cheapest configuration that meets every budget; exit status 1 where none does, and by how much."""
    from qrnn.errors import DataError
    from qrnn.lab.axes import convert_command
    from qrnn.lab.budgets import ORDER, Budgets, parse_amount
    from qrnn.lab.tune import tune as search
    from qrnn.model.file import save
    from qrnn.onnx_import import load_onnx
    from qrnn.targets import load_target

    least = next((name for name in ORDER if name == cheapest), None)
    if least is None:
        raise DataError(f"--cheapest={cheapest!r}, expected one of {', '.join(ORDER)}")
    if most < 1:
        raise DataError(f"--most={most}, expected at least 1")
    budgets = Budgets(
        max_accuracy_drop,
        min_sqnr,
        min_agreement,
        parse_amount("--flash", flash, "bytes"),
        parse_amount("--ram", ram, "bytes"),
        parse_amount("--instructions", instructions, "instructions"),
    )
    if output is not None:
        output = check_output(output, (model, calibration, data, *target_file(target)))
        if json and is_stdout(output):
            raise DataError(
                "--output and --json both go to stdout; leave out --json, or give --output the name of a file"
            )
    device = load_target(target)
    float_model = load_onnx(model, stream, values=values_set(fixed), shapes=array_shapes(calibration))
    graph_inputs = float_model.inputs
    arrays = read_arrays(calibration, graph_inputs), read_arrays(data, graph_inputs)
    with progress("searching") as report:
        result = search(float_model, *arrays, budgets, target=device, cheapest=least, most=most, progress=report)
    if output is not None and result.met:
        save(result.model, output)
    command = convert_command(
        result.scheme, str(model), str(calibration), device.name, str(output or "best.qrnn"), stream, float_model.values
    )
    if json:
        print_json({**result.as_dict(), "command": command})
    else:
        out = report_console(output)
        _print(result, device.name, command, out)
        if output is not None and result.met:
            out.print(f"wrote {output}", soft_wrap=True)
    if not result.met:
        raise typer.Exit(1)


def _print(result: TuneResult, target: str, command: str, out: Console) -> None:
    from rich.table import Table

    from qrnn.lab.axes import label

    changes = Table(
        "one change", box=None, padding=(0, 1, 0, 0), title="From the target's own scheme", title_justify="left"
    )
    for heading in ("dB", "acc. %", "flash", "RAM", "instr."):
        changes.add_column(heading, justify="right")
    for s in sorted(result.sensitivity, key=lambda s: s.differences["sqnr_db"] or 0.0)[:SHOWN]:
        d = s.differences
        digits = {"sqnr_db": 1, "accuracy": 2, "flash_bytes": 0, "ram_bytes": 0, "instructions": 0}
        changes.add_row(s.change, *("?" if d[k] is None else f"{d[k]:+,.{n}f}" for k, n in digits.items()))
    out.print(changes)
    if len(result.sensitivity) > SHOWN:
        out.print(f"and {len(result.sensitivity) - SHOWN} that cost less accuracy (--json has them all)")
    guess = "" if result.counted else "~"
    table = Table("", "start", "found", "budget", box=None, padding=(0, 2, 0, 0))
    limits = {b.key: f"{'at least' if b.at_least else 'at most'} {b.limit:,g}" for b in result.bounds}
    rows: list[tuple[str, str, int]] = [
        ("SQNR, dB", "sqnr_db", 1),
        ("SQNR about the mean, dB", "sqnr_about_mean_db", 1),
        ("floor of the weights' width, dB", "floor_db", 1),
        ("accuracy, %", "accuracy", 2),
        ("accuracy drop, points", "accuracy_drop", 2),
        ("agreement, %", "agreement", 2),
        ("flash, bytes", "flash_bytes", 0),
        ("RAM, bytes", "ram_bytes", 0),
        ("instructions a step", "instructions", 0),
        ("latency, µs a step", "latency_us", 2),
    ]
    for title, key, digits_of in rows:
        if result.figures.get(key) is not None:
            mark = guess if key in ("flash_bytes", "ram_bytes", "instructions") else ""
            cells = [_figure(figures.get(key), digits_of, mark) for figures in (result.start, result.figures)]
            table.add_row(title, *cells, limits.get(key, ""))
    out.print(f"\n{result.tried} configurations tried for {target}; found: {label(result.scheme)}", soft_wrap=True)
    out.print(table)
    if guess:
        out.print("~: by the cost model; nothing here can build and run for this target")
    for problem in result.problems:
        out.print(f"not met: {problem}", soft_wrap=True)
    out.print(f"{'made by' if result.met else 'the nearest is made by'}: {command}", soft_wrap=True)


def _figure(value: Any, digits: int, mark: str) -> str:
    return "?" if value is None else f"{mark}{value:,.{digits}f}"
