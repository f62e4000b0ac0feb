"""The command ``qrnn inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from qrnn.cli.common import SetOption, StateOption, StreamOption, console, print_json, states_named, values_set
from qrnn.cli.onnx_report import print_onnx
from qrnn.errors import DataError
from qrnn.system.sizes import size_text


def inspect(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .qrnn file, or an .onnx file, of which a conversion is foretold.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    stream: StreamOption = False,
    state: StateOption = None,
    fixed: SetOption = None,
) -> None:
    """Show every tensor of a model: width, scale, range, where it is rounded and saturated, bytes, proof.

    Of an .onnx file, also of one that is refused: what inputs, outputs and their axes were taken for, layers, what is refused, whether it can
    be streamed, and the calibration file to write.
    """
    if model.suffix.lower() == ".onnx":
        from qrnn.onnx_import.inspection import inspect_onnx

        found = inspect_onnx(model, stream, states_named(state), values_set(fixed))
        if json:
            print_json(found)
        else:
            print_onnx(found)
        return
    if stream or state or fixed:
        raise DataError(
            f"{model}: --stream, --state and --set are about an .onnx file; a .qrnn file has its memory and its fixed values in it"
        )
    from qrnn.model.describe import describe
    from qrnn.model.file import load

    description = describe(load(model))
    if json:
        print_json(description)
        return
    _print(description)


def _print(d: dict[str, Any]) -> None:
    from rich.table import Table

    from qrnn.model.lateness import stream_text

    out = console()
    p = d["provenance"]
    out.print(f"{d['name']}  (contract {d['contract']}, target {p['target']})", markup=False, style="bold")
    if p["random_calibration"]:
        out.print("calibrated on random numbers: not for real use", style="bold red")
    out.print(
        f"calibrated on {p['calibration_sequences']} sequences, {p['calibration_steps']} steps, {p['calibrator']}",
        markup=False,
    )
    out.print(f"memory: {d['memory']}", markup=False, soft_wrap=True)
    out.print(f"streams: {stream_text(d['stream'])}", markup=False, soft_wrap=True)
    out.print(f"source SHA-256      {p['source_sha256']}", soft_wrap=True)
    out.print(f"calibration SHA-256 {p['calibration_sha256']}", soft_wrap=True)
    table = Table("tensor", "shape", "format", "scale", "range", title="Tensors", title_justify="left")
    for t in d["tensors"]:
        table.add_row(t["name"], t["shape"], t["format"], t["scale"], t["range"])
    out.print(table)
    table = Table(
        "matrix", "shape", "bits", "bytes", "row scales", "bits used", title="Weights by row", title_justify="left"
    )
    for w in d["matrices"]:
        table.add_row(
            w["name"], w["shape"], str(w["bits"]), str(w["bytes"]), w["row_scale"], f"{w['bound_bits']:.1f} of 31"
        )
    out.print(table)
    table = Table(
        "where", "what is rounded", "what is saturated", title="Rounding and saturation", title_justify="left"
    )
    for r in d["roundings"]:
        table.add_row(r["where"], r["rounded"], r["saturated"])
    out.print(table)
    out.print(f"gate functions: {', '.join(d['gates'])}", soft_wrap=True)
    out.print("Decisions", style="italic")
    for line in (*p["decisions"], *p["notes"]):
        out.print(f"  {line}", markup=False, soft_wrap=True)
    b = d["bytes"]
    out.print(
        f"weights {size_text(b['weights'])}, row parameters {size_text(b['rows'])}, gate tables {size_text(b['tables'])}, "
        f"state of a stream {size_text(b['state'])}",
        soft_wrap=True,
    )
