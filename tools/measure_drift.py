"""Measure how errors behave over time: every cell of the catalogue over 10,000 steps, quantized against its oracle; write docs/drift.md.

    python tools/measure_drift.py [--steps 10000] [--cells NAME ...] [--kept FOLDER] [--output docs/drift.md]

Each cell is converted with default settings, and with single widths changed, to see which one an error that grows comes from. Layers that
are no cells stand between or before cells, in models of `STACKS`.

With ``--kept`` each cell's figures are a file of FOLDER, and those that this revision has put there are not measured again: a run that was
cut off goes on, and several may share the cells.
"""

from __future__ import annotations

import argparse
import json
import platform
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from cell_catalogue import Cell, Draw, catalogue
from provenance import revision, when

import qrnn
from qrnn import layers
from qrnn.accuracy.metrics import sqnr_db
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.conv import Conv
from qrnn.model.kinds.dense import Dense
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import Direction
from qrnn.model.parts import FloatArray
from qrnn.system.atomic import write_atomically

SEQUENCES = 4
FALL_DB = 3.0
"""An error counts as falling with time, and a width as its cause or remedy, from this many decibels on: half the noise power."""


def _norm_between_grus(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build a GRU, a layer normalization with a gain and a bias drawn about 1 and 0, and a second GRU."""
    first = layers.gru(x, *d.gru()).output
    return layers.gru(layers.layer_norm(first, d.vector(d.H, 1.0), d.vector(d.H)), *d.gru(inputs=d.H)).output


def _rms_norm_between_grus(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build the same with an RMS normalization, which has no bias."""
    first = layers.gru(x, *d.gru()).output
    return layers.gru(layers.rms_norm(first, d.vector(d.H, 1.0)), *d.gru(inputs=d.H)).output


def _conv_before_gru(d: Draw, x: layers.Tensor) -> layers.Tensor:
    """Build a causal convolution of three taps that gives every second step, and a GRU on it."""
    weight = d.matrix(d.H, 3 * d.I).reshape(d.H, d.I, 3)
    return layers.gru(layers.conv(x, weight, d.vector(d.H), stride=2), *d.gru(inputs=d.H)).output


STACKS: dict[str, Cell] = {
    "layer_norm_between_grus": _norm_between_grus,
    "rms_norm_between_grus": _rms_norm_between_grus,
    "strided_conv_before_gru": _conv_before_gru,
}
"""Models of layers that are no cells, of the same sizes and inputs as the catalogue's."""


def stack(name: str, hidden_size: int = 32, input_size: int = 8) -> FloatModel:
    """Return the model of one of `STACKS`."""
    draw = Draw(hidden_size, input_size, np.random.default_rng([0, *name.encode()]))
    return layers.model(name, {"y": STACKS[name](draw, layers.input("x", input_size))})


def windows(steps: int) -> list[tuple[int, int]]:
    """Return (first, last] steps: 0…1, 1…10, 10…100, up to ``steps``."""
    ends = [1]
    while ends[-1] < steps:
        ends.append(min(10 * ends[-1], steps))
    return list(zip([0, *ends[:-1]], ends, strict=True))


def share(steps: int, given: int) -> list[slice]:
    """Return the windows of ``steps`` in an output of ``given`` steps: those that come out in the same time."""
    return [slice(-(-a * given // steps), -(-b * given // steps)) for a, b in windows(steps)]


def rounded(matrix: FloatArray, bits: int) -> FloatArray:
    """Round every row to ``bits`` bits with one scale per row, as the contract's weights are."""
    limit = 2.0 ** (bits - 1) - 1
    scale = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), 1e-30) / limit
    result: FloatArray = np.round(matrix / scale) * scale
    return result


def rounded_taps(weight: FloatArray, bits: int) -> FloatArray:
    """Round the weights [O, F, K] of a convolution, all of an output with one scale."""
    return rounded(weight.reshape(len(weight), -1), bits).reshape(weight.shape)


def with_weights(model: FloatModel, bits: int) -> FloatModel:
    """Return the float model with nothing but its weights rounded."""

    def direction(d: Direction) -> Direction:
        projection = d.projection and replace(d.projection, weight=rounded(d.projection.weight, bits))
        ih = rounded(d.weight_ih, bits)
        hh = None if d.weight_hh is None else rounded(d.weight_hh, bits)
        return replace(d, weight_ih=ih, weight_hh=hh, projection=projection)

    layers = []
    for layer in model.layers:
        if isinstance(layer, Recurrent):
            layer = replace(layer, directions=tuple(direction(d) for d in layer.directions))
        elif isinstance(layer, Dense):
            layer = replace(layer, weight=rounded(layer.weight, bits))
        elif isinstance(layer, Conv):
            layer = replace(layer, weight=rounded_taps(layer.weight, bits))
        layers.append(layer)
    return replace(model, layers=tuple(layers))


@dataclass(frozen=True)
class Measured:
    """SQNR in dB by window: the default conversion, and variants that change one width."""

    default: list[float]
    variants: dict[str, list[float]]

    @property
    def fall(self) -> float:
        """How many dB are lost from steps 2…10 to the last window."""
        return self.default[1] - self.default[-1]

    def why(self) -> str:
        """Return what the last window's error comes from, and what mends it, by the variants."""
        got, last = self.default[-1], {name: values[-1] for name, values in self.variants.items()}
        wide = last["weights16"]
        if wide - got < FALL_DB:
            return (
                f"No width mends it: in float, 16-bit weights keep {wide:.1f} dB. A function that jumps turns the smallest\n"
                "  difference into a whole one, and the recurrence carries it on"
            )
        if last["weights"] - got < FALL_DB:
            return (
                "The 8-bit weights: their error is the same at every step, and a state that forgets nothing adds it up.\n"
                f"  16-bit weights would keep {wide:.1f} dB; the contract has none, so this is the distance"
            )
        if last["operands"] - got >= FALL_DB:
            return f"The 8-bit operand of the state: 16-bit activations (`--activations 16`) keep {last['operands']:.1f} dB"
        return (
            f"Not the operands ({last['operands']:.1f} dB with 16 bits) and not the weights ({last['weights']:.1f} dB alone): "
            "the state and its gates"
        )


def measure(model: FloatModel, steps: int) -> Measured:
    """Measure a cell, calibrated on sequences of the same length as those that are measured."""
    rng = np.random.default_rng(1)
    name = model.inputs[0].name
    shape = (SEQUENCES, steps, model.inputs[0].features)
    calibration, data = ({name: rng.normal(size=shape)} for _ in range(2))
    want = qrnn.run_oracle(model, data).outputs

    def error(got: Mapping[str, Any]) -> list[float]:
        parts = {k: share(steps, v.shape[1]) for k, v in want.items()}
        return [
            min(sqnr_db(v[:, parts[k][w]], got[k][:, parts[k][w]]) for k, v in want.items())
            for w in range(len(windows(steps)))
        ]

    def integers(scheme: qrnn.Scheme) -> list[float]:
        return error(qrnn.Session(qrnn.quantize(model, calibration, scheme)).run(data, real="float64").outputs)

    return Measured(
        integers(qrnn.Scheme()),
        {
            "operands": integers(qrnn.Scheme(activations=16)),
            "gates": integers(qrnn.Scheme(activations=16, gates="pwl:1024")),
            "weights": error(qrnn.run_oracle(with_weights(model, 8), data).outputs),
            "weights16": error(qrnn.run_oracle(with_weights(model, 16), data).outputs),
        },
    )


def kept_measure(name: str, model: FloatModel, steps: int, folder: Path | None) -> Measured:
    """Return `measure`'s figures, or those that ``folder`` has of the same cell, steps and revision."""
    if folder is None:
        return measure(model, steps)
    path, of = folder / f"{name}.json", {"revision": revision(), "steps": steps}
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["of"] == of:
            return Measured(**kept["figures"])
    found = measure(model, steps)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"of": of, "figures": asdict(found)}).encode())
    return found


PAGE = """# Errors over time

Made by `python tools/measure_drift.py` on {date} ({machine}, Python {python}, NumPy {numpy}).

Every cell of `tools/cell_catalogue.py` ({hidden} hidden units, {inputs} inputs, weights drawn so that the cells behave like trained ones)
runs over {sequences} sequences of {steps} standard normal inputs. SQNR in dB of its output against the float64 oracle, by step, converted
with default settings after calibration on {sequences} other sequences of the same length. A cell without an output over
time (`many_to_one`) is left out. The last rows are layers that are no cells, with GRUs of the same size: a normalization between two, and a
convolution of three taps before one, which gives every second step (its windows are those of its input).

The last four columns are the last window again, with one thing changed: 16-bit activations (`--activations 16`); finer gates as well
(`--gates pwl:1024`); then the float network with nothing but its weights rounded to 8 bits per row, and to 16.

| cell | {heads} | fall | A16 | A16, pwl:1024 | float, 8-bit weights | float, 16-bit weights |
|---|{rules}
{rows}

*fall*: from steps 2 to 10 to the last window. Where it is {least:g} dB or more, the next section says why, by the last columns: a width is
the cause where changing it alone changes the last window by as much.

## Where it falls with time, why, and which width mends it

{reasons}

## Where 16-bit activations are worth their cost, whatever the time

Cells that gain {least:g} dB or more in the last window: the 8-bit operands, not the weights, are what
limits them. An unbounded state (relu, irnn) needs its whole int16, of which an 8-bit operand keeps the upper part.

{wider}
"""


def page(results: Mapping[str, Measured], steps: int, models: Mapping[str, FloatModel]) -> str:
    """Return the whole page."""
    heads = ["step 1"] + [f"{a + 1:,} to {b:,}" for a, b in windows(steps)[1:]]
    rows, reasons = [], []
    for name, m in results.items():
        last = [m.variants[v][-1] for v in ("operands", "gates", "weights", "weights16")]
        figures = [*m.default, m.fall, *last]
        rows.append(f"| {name} | " + " | ".join(f"{v:.1f}" for v in figures) + " |")
        if m.fall >= FALL_DB:
            reasons.append(f"- **{name}**: falls by {m.fall:.1f} dB. {m.why()}.")
    steady = [name for name, m in results.items() if m.fall < FALL_DB]
    if steady:
        reasons.append(
            f"- The other {len(steady)} of {len(results)} keep what they have: their states forget old errors as fast as new ones come."
        )
    gains = {name: m.variants["operands"][-1] - m.default[-1] for name, m in results.items()}
    wider = [f"{name} {gain:+.1f}" for name, gain in gains.items() if gain >= FALL_DB]
    first = next(iter(models.values()))
    layer = next(layer for layer in first.layers if isinstance(layer, Recurrent))
    return PAGE.format(
        date=when(),
        machine=platform.machine(),
        python=platform.python_version(),
        numpy=np.__version__,
        hidden=layer.hidden_size,
        inputs=layer.input_size,
        sequences=SEQUENCES,
        steps=f"{steps:,}",
        heads=" | ".join(heads),
        rules="---|" * (len(heads) + 5),
        rows="\n".join(rows),
        least=FALL_DB,
        reasons="\n".join(reasons),
        wider=textwrap.fill(", ".join(wider), 140) or "none",
    )


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Measure errors over time and write docs/drift.md.")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--cells", nargs="*", help="only these cells, printed and not written")
    parser.add_argument("--kept", type=Path, help="a folder for each cell's figures")
    parser.add_argument("--output", type=Path, default=Path("docs/drift.md"))
    arguments = parser.parse_args()
    models = {name: m for name, m in catalogue().items() if all(o.has_time for o in m.outputs)}
    models |= {name: stack(name) for name in STACKS}
    if arguments.cells:
        models = {name: models[name] for name in arguments.cells}
    results = {}
    for name, model in models.items():
        results[name] = kept_measure(name, model, arguments.steps, arguments.kept)
        figures = {"default": results[name].default, **results[name].variants}
        print(name, {key: [round(v, 1) for v in values] for key, values in figures.items()}, flush=True)
    if not arguments.cells:
        write_atomically(arguments.output, page(results, arguments.steps, models).encode())


if __name__ == "__main__":
    main()
