"""The command ``qrnn inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qrnn.cli.common import (
    FromOption,
    SetOption,
    StateOption,
    StreamOption,
    ToOption,
    console,
    print_json,
    states_named,
    tensors_named,
    values_set,
)
from qrnn.cli.onnx_report import print_onnx
from qrnn.cli.parts import shares_text
from qrnn.errors import DataError
from qrnn.system import tables
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from qrnn.model.quant_model import QuantModel


def inspect(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="A .qrnn file, or an ONNX or Keras file, of which a conversion is foretold."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    stream: StreamOption = False,
    state: StateOption = None,
    fixed: SetOption = None,
    cut_from: FromOption = None,
    cut_to: ToOption = None,
) -> None:
    """Show every tensor of a model: width, scale, range, where it is rounded and saturated, bytes, proof.

    Of an ONNX or Keras file, also of one that is refused: what inputs, outputs and their axes were taken for, layers, what is refused,
    whether it can be streamed, and the calibration file to write.
    """
    from qrnn.trained_files import inspect_trained, is_trained

    if is_trained(model):
        cuts = (tensors_named(cut_from), tensors_named(cut_to))
        found = inspect_trained(model, stream, states_named(state), values_set(fixed), *cuts)
        if json:
            print_json(found)
        else:
            print_onnx(found)
        return
    if stream or state or fixed or cut_from or cut_to:
        raise DataError(
            f"{model}: --stream, --state, --set, --from and --to are about an ONNX or Keras file; a .qrnn file has its memory, its fixed "
            "values and its cuts in it"
        )
    from qrnn.hybrid.compare import shares
    from qrnn.hybrid.file import load
    from qrnn.hybrid.model import HybridModel

    loaded = load(model)
    if not isinstance(loaded, HybridModel):
        description = described(loaded)
        if json:
            print_json(description)
        else:
            _print(description)
        return
    parts = {part.name: described(part.model) for part in loaded.integer_parts}
    if json:
        print_json({"name": loaded.name, **shares(loaded), "integers": parts})
        return
    out = console()
    out.print(f"{loaded.name}: has parts in float, and so leaves the numeric contract", markup=False, style="bold red")
    for line in (*shares_text(loaded), f"source SHA-256 {loaded.source_sha256}"):
        out.print(line, markup=False, soft_wrap=True)
    for name, part in parts.items():
        out.print(f"Part {name}", markup=False, style="bold")
        _print(part)


def described(model: QuantModel) -> dict[str, Any]:
    """Return the description of a model, with how each matrix is stored in the C for the model's target."""
    from qrnn.export.stored import stored_in_c
    from qrnn.model.describe import describe

    found, in_c = describe(model), stored_in_c(model)
    for matrix in found["matrices"]:
        matrix["in_c"] = in_c.get(matrix["name"], "-")
    return found


def _print(d: dict[str, Any]) -> None:
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
    if p["section"] is not None:
        ends = ((w, p["section"][f"cut_{w}"]) for w in ("from", "to"))
        text = " ".join(f"{word} {', '.join(names)}" for word, names in ends if names)
        out.print(f"a part of the source, {text}", markup=False, soft_wrap=True)
    out.print(f"source SHA-256      {p['source_sha256']}", soft_wrap=True)
    out.print(f"calibration SHA-256 {p['calibration_sha256']}", soft_wrap=True)
    rows: list[tuple[str, ...]] = [(t["name"], t["shape"], t["format"], t["scale"], t["range"]) for t in d["tensors"]]
    columns = [tables.name("tensor"), *(tables.text(title) for title in ("shape", "format", "scale", "range"))]
    out.print(tables.table(columns, rows, "Tensors"))
    rows = [
        (w["name"], w["shape"], str(w["bits"]), str(w["bytes"]), w["row_scale"], f"{w['bound_bits']:.1f} of 31")
        for w in d["matrices"]
    ]
    columns = [tables.name("matrix"), *(tables.number(title) for title in ("shape", "bits", "bytes"))]
    columns += [tables.text("row scales"), tables.number("bits used")]
    out.print(tables.table(columns, rows, "Weights by row"))
    listed = [(w["name"], f"{w['density']:.0%}", w["in_c"]) for w in d["matrices"] if w["in_c"].startswith("lists")]
    if listed:
        columns = [tables.name("matrix"), tables.number("not 0"), tables.text("in C")]
        out.print(tables.table(columns, listed, "Block-sparse weights"))
    rows = [(r["where"], r["rounded"], r["saturated"]) for r in d["roundings"]]
    columns = [tables.name("where"), *(tables.text(title) for title in ("what is rounded", "what is saturated"))]
    out.print(tables.table(columns, rows, "Rounding and saturation"))
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
