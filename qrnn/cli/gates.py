"""The command ``qrnn gates``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from qrnn.cli.common import check_json, check_output, print_json, report_console
from qrnn.system import tables

if TYPE_CHECKING:
    from rich.console import Console

    from qrnn.accuracy.gate_errors import GateError
    from qrnn.model.activation import Activation
    from qrnn.quantization.gate_choice import GateChoices

_IN_FRAC = 11
"""Fraction bits for functions whose input format a model takes from calibration."""


def gates(
    gates: Annotated[
        str | None,
        typer.Option(help="Gate functions as for convert; without it pwl:128, hard and step side by side."),
    ] = None,
    function: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:ALPHA[,BETA]]",
            help="A function in place of sigmoid and tanh, for example elu:1; repeatable. Unbounded ones read Q4.11.",
        ),
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Clip the argument to ±CLIP, as ONNX does.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw each function and its error, a PNG.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show the integer gate functions: formats, tables, and errors over all inputs."""
    from qrnn.accuracy.gate_errors import draw, measure
    from qrnn.quantization.gate_tables import gate_function, needs_input_range
    from qrnn.system.atomic import write_atomically

    if plot is not None:
        plot = check_output(plot)
        check_json(json, plot, "--plot")
    found = []
    for label, activation, gate, choices in _wanted(gates, [_parse_function(text) for text in function or ()]):
        chosen, choice = choices.resolve(gate, activation)
        in_frac = _IN_FRAC if needs_input_range(chosen) else None
        made = gate_function(chosen, choice, in_frac=in_frac, clip=clip)
        found.append(measure(label, activation, made, clip))
    if json:
        print_json([one.to_dict() for one in found])
    else:
        _print(found, report_console(plot))
    if plot is not None:
        write_atomically(plot, draw(found))


class _Wanted(NamedTuple):
    """A function to show: its label, the real function, and the gate that the choices are resolved for."""

    label: str
    activation: Activation
    gate: str
    choices: GateChoices


def _wanted(text: str | None, functions: list[Activation]) -> list[_Wanted]:
    """Return the functions to show, by the text of ``--gates`` and those of ``--function``."""
    from qrnn.model.activation import Activation
    from qrnn.quantization.gate_choice import GATE_KEYS, KIND_KEYS, GateChoices, parse_gates

    sigmoid, tanh = Activation("sigmoid"), Activation("tanh")
    if text is None and not functions:
        shown = [(f, parse_gates(choice)) for choice in ("pwl:128", "hard") for f in (sigmoid, tanh)]
        shown.append((sigmoid, parse_gates("step")))
        return [_Wanted(f"{f} {choices}", f, "i", choices) for f, choices in shown]
    given = parse_gates(text) if text is not None else GateChoices()
    of_all = GateChoices(given.general, tuple(item for item in given.keyed if item[0] in KIND_KEYS))
    rows = [_Wanted(str(f) if text is None else f"{f} {of_all}", f, "i", of_all) for f in functions or (sigmoid, tanh)]
    first = {key: gate for gate, key in reversed(list(GATE_KEYS.items()))}
    for key, choice in given.keyed:
        if key not in KIND_KEYS:
            f = tanh if key in ("candidate", "cell") else sigmoid
            rows.append(_Wanted(f"{key}={choice}", f, first[key], given))
    return rows


def _parse_function(text: str) -> Activation:
    """Return an activation from NAME[:ALPHA[,BETA]]; parameters that are left out are those of ONNX, where it has any."""
    from qrnn.errors import QuantizationError
    from qrnn.model.activation import ACTIVATION_PARAMETERS, Activation
    from qrnn.onnx_import.operators.recurrent_attributes import PARAMETER_DEFAULTS

    known = {str(name): (name, parameters) for name, parameters in ACTIVATION_PARAMETERS.items()}
    name, _, numbers = text.partition(":")
    if name not in known:
        raise QuantizationError(f"--function {text!r}: {name!r} is unknown; expected one of {', '.join(known)}")
    kind, parameters = known[name]
    usual = tuple(PARAMETER_DEFAULTS.get(kind, {}).values())
    expected = f"expected {name}{':' + ','.join(parameters).upper() if parameters else ''}"
    try:
        values = tuple(float(number) for number in numbers.split(",")) if numbers else ()
    except ValueError:
        raise QuantizationError(f"--function {text!r}: not numbers; {expected}") from None
    values += usual[len(values) :]
    if len(values) != len(parameters):
        raise QuantizationError(f"--function {text!r}: {len(parameters)} parameters needed; {expected}")
    return Activation(kind, **dict(zip(parameters, values, strict=True)))


def _print(found: list[GateError], out: Console) -> None:
    rows = []
    for one in found:
        d = one.to_dict()
        formats = [f"Q{15 - d[name]}.{d[name]}" for name in ("in_frac", "out_frac")]
        answers = ["yes" if d[name] else "no" for name in ("monotone", "odd_symmetric")]
        error = (f"{d['max_error']:.2e}", f"{d['max_error_lsb']:.2f}", f"{d['max_error_at']:.4g}")
        rows.append((d["label"], *formats, str(d["table_bytes"]), *error, *answers))
    columns = [tables.exact(title) for title in ("function", "input", "output")]
    columns += [tables.number(title) for title in ("bytes", "error", "LSB", "at x", "monotone", "odd")]
    out.print(tables.table(columns, rows, gap=1))
    out.print("error: the largest over all 65536 inputs, against the true function, in real units and in output LSB")
