"""What ``qrnn inspect`` prints of an .onnx file."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from qrnn.cli.common import console

if TYPE_CHECKING:
    from rich.console import Console


def print_onnx(d: dict[str, Any]) -> None:
    """Print the description of `qrnn.onnx_import.inspection.inspect_onnx`."""
    from qrnn.model.lateness import stream_text

    out = console()
    verdict = "can be converted" if d["supported"] else "is refused as it is"
    out.print(f"{d['name']}: {verdict}", markup=False, style="bold" if d["supported"] else "bold red")
    origin = f"by {d['producer']}, " if d["producer"] else ""
    out.print(f"{origin}opset {d['opset']}, SHA-256 {d['source_sha256']}", markup=False, soft_wrap=True)
    _title(out, "Inputs")
    for entry in d["inputs"]:
        _line(out, _input_text(entry))
    _title(out, "Outputs")
    for entry in d["outputs"]:
        _line(out, _output_text(entry))
    if "cut" in d:
        _print_cut(out, d["cut"])
    if d["supported"]:
        _print_layers(out, d)
        _title(out, "Notes")
        for note in d["notes"] or ["none"]:
            _line(out, note)
        _title(out, "Streams")
        _line(out, stream_text(d["stream"]))
    else:
        _title(out, "Operators")
        _line(out, ", ".join(op if count == 1 else f"{op} ×{count}" for op, count in d["operators"].items()))
    _print_calibration(out, d["calibration"], d["supported"])
    if not d["supported"]:
        _title(out, "What is refused")
        for problem in d["refused"]:
            _line(out, problem)


def _title(out: Console, text: str) -> None:
    out.print(text, style="italic")


def _line(out: Console, text: str) -> None:
    """Print a paragraph behind a dash, with its further lines indented; a word that is longer than a line stays whole."""
    width = max(out.width, 40)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    for line in textwrap.wrap(
        text, width, initial_indent="  - ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    ):
        out.print(line, markup=False, soft_wrap=True)


def _shape_text(declared: list[Any] | None, axes: list[str] | None) -> str:
    """Return a declared shape with what each axis stands for."""
    if declared is None:
        return "of a shape that the file does not declare"
    if not axes:
        return "[" + ", ".join(map(str, declared)) + "]"
    named = (axis if size == axis else f"{size} {axis}" for size, axis in zip(declared, axes, strict=True))
    return "[" + ", ".join(named) + "]"


def _input_text(entry: dict[str, Any]) -> str:
    kind = entry["kind"]
    text = f"{entry['name']}: {kind if kind != '?' else 'unknown'}, {entry['type']} {_shape_text(entry['declared'], entry['axes'])}"
    if kind in ("state", "cache") and entry.get("carried_by"):
        text += f", given on to the next call by output {entry['carried_by']}"
    elif kind == "state" and "carried_by" in entry:
        text += ", which no output gives on to the next call"
    if entry.get("vocabulary"):
        text += f", below {entry['vocabulary']}"
    return text


def _output_text(entry: dict[str, Any]) -> str:
    axes = entry.get("axes")
    declared = (
        entry["declared"] if entry["declared"] is None or not axes or len(axes) == len(entry["declared"]) else None
    )
    shape = _shape_text(declared, axes) if declared is not None or not axes else "[" + ", ".join(axes) + "]"
    text = f"{entry['name']}: {entry.get('kind', 'output')}, {shape}"
    if entry.get("carries"):
        text += f", the next call's {entry['carries']}"
    if entry.get("steps") not in (None, "T"):
        text += f", {entry['steps']} steps"
    return text


def _print_cut(out: Console, cut: dict[str, Any]) -> None:
    _title(out, "Cut")
    for option in ("from", "to"):
        for name in cut[option]:
            if name in cut["data"]:
                shape = ", ".join(map(str, cut["data"][name]))
                _line(
                    out,
                    f"--{option} {name}: [{shape}] in files of data and for the .qrnn, batch first; above is its layout in the graph",
                )
            else:
                _line(out, f"--{option} {name}")
    for word, part in cut["others"].items():
        given, made = (
            ", ".join(f"{i['name']} {_shape_text(i['declared'], None)}" for i in part[k]) or "none"
            for k in ("inputs", "outputs")
        )
        _line(out, f"the file {word} it takes {given} and gives {made}, in the graph's own layout")


def _print_layers(out: Console, d: dict[str, Any]) -> None:
    _title(out, "Layers")
    for layer in d["layers"]:
        sizes = f"{' + '.join(map(str, layer['features_in']))} → {layer['features_out']} features"
        steps = f", {layer['steps']} steps" if layer["steps"] not in (None, "T") else ""
        cost = f", {layer['parameters']} parameters" if layer["parameters"] else ""
        cost += f", {layer['multiply_adds']} multiply-adds a step" if layer["multiply_adds"] else ""
        _line(out, f"{layer['name']}: {layer['kind']}, {sizes}{steps}{cost}")
    out.print(
        f"{d['parameters']} parameters, {d['multiply_adds_of_a_step']:.12g} multiply-adds of matrices in a step of the inputs",
        markup=False,
    )


def _print_calibration(out: Console, calibration: dict[str, Any], supported: bool) -> None:
    _title(
        out, f"Calibration file ({calibration['file']}), batch first" + ("" if supported else ", as far as it is known")
    )
    for array in calibration["arrays"]:
        shape = ", ".join(map(str, array["shape"]))
        optional = "" if array["required"] else " (may be left out)"
        _line(out, f"{array['key']}: {array['dtype']} [{shape}]{optional}, {array['what']}")
    if calibration["numpy"] is not None:
        out.print(f"    {calibration['numpy']}", markup=False, soft_wrap=True)
    else:
        _line(out, "nothing is known of the inputs")
