"""What ``qrnn convert`` and ``compare`` share about cut graphs and float parts: their files, their data and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrnn.cli.common import check_output, is_stdout
from qrnn.data_files.archive import array_shapes, read_arrays
from qrnn.errors import DataError
from qrnn.system.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rich.console import Console

    from qrnn.hybrid.model import HybridModel
    from qrnn.model.float_model import FloatModel
    from qrnn.model.quant_model import QuantModel
    from qrnn.onnx_import.parts.cut import Cut


def other_files(cut: Cut, output: Path, inputs: Iterable[Path]) -> dict[str, Path]:
    """Return the files for the graphs before and behind a cut, beside the .qrnn, by ``before`` and ``after``.

    Raises DataError where the .qrnn has no name beside which they could be.
    """
    if not cut.others:
        return {}
    if is_stdout(output):
        raise DataError(
            "--from and --to write ONNX files beside the .qrnn, which goes to stdout; give --output the name of a file"
        )
    files = {word: output.with_name(f"{output.stem}.{word}.onnx") for word in cut.others}
    return {word: check_output(path, inputs) for word, path in files.items()}


def write_others(cut: Cut, files: Mapping[str, Path], out: Console) -> None:
    """Write the graphs before and behind a cut, and say how they fit to the model."""
    from qrnn.system.atomic import write_atomically

    parts = {"before": cut.before, "after": cut.after}
    for word, path in files.items():
        part = parts[word]
        if part is None:
            continue
        write_atomically(path, part.model.SerializeToString())
        given, made = (", ".join(names) or "nothing" for names in (part.inputs, part.outputs))
        out.print(
            f"wrote {path} ({size_text(path.stat().st_size)}): takes {given}, gives {made}",
            markup=False,
            soft_wrap=True,
        )


def cut_of(path: Path, model: QuantModel, given: tuple[tuple[str, ...], tuple[str, ...]]) -> Cut | None:
    """Return the cut by which ``model`` was made of an .onnx file, None where it is the whole; DataError where other tensors are ``given``."""
    from qrnn.onnx_import.parts.cut import cut_onnx

    section = model.provenance.section
    own = ((), ()) if section is None else (section.cut_from, section.cut_to)
    if any(given) and given != own:
        made = f"was made {section}" if section is not None else "is the whole graph"
        raise DataError(f"the model {made}; leave out --from and --to, or give the same tensors")
    return None if section is None else cut_onnx(path, *own)


def cut_arrays(path: Path, cut: Cut, model: FloatModel, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of a file for a model that was cut out: those of its own inputs, or computed from those of the whole graph."""
    from qrnn.hybrid.cut_data import cut_data, takes

    if takes(cut, array_shapes(path)):
        return read_arrays(path, model.inputs)
    return cut_data(cut, model, read_arrays(path), values)


def shares_text(model: HybridModel) -> list[str]:
    """Return which share of a model is integers, part by part, and why the rest is not."""
    products, weights = (100 * share for share in model.shares)
    lines = [
        f"integers: {products:.1f} % of the multiply-adds, {weights:.1f} % of the bytes of weights; the float parts leave the contract and run "
        "by ONNX Runtime on the host"
    ]
    for part in model.parts:
        lines.append(
            f"  {part.name}: {', '.join(i.name for i in part.inputs)} → {', '.join(o.name for o in part.outputs)}; "
            f"{part.multiply_adds:,.0f} multiply-adds a step, weights {size_text(part.weight_bytes)}"
        )
        lines += [f"    {why}" for why in getattr(part, "why", ())]
    why = model.not_streamed
    lines.append("streams: yes, step by step" if why is None else f"streams: no, {why}")
    return lines
