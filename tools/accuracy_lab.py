"""Measure the refinement methods, each on and off, for tools/measure_accuracy.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from accuracy_outcome import Arrays, Outcome, Truth
from accuracy_peers import AbsentError, onnxruntime_int8, pytorch_int8

import qrnn
from qrnn.model.kinds.recurrent import Recurrent

EIGHT = {
    "8 bits": qrnn.Scheme(),
    "input 8": qrnn.Scheme(input="8"),
    "input 8-per-feature": qrnn.Scheme(input="8-per-feature"),
    "rounding": qrnn.Scheme(refine="rounding"),
    "bias": qrnn.Scheme(refine="bias"),
    "equalize": qrnn.Scheme(refine="equalize"),
    "rounding, bias": qrnn.Scheme(refine="rounding,bias"),
}
FOUR = {
    "4 bits alone": qrnn.Scheme(weights=4),
    "refine none": qrnn.Scheme(weights=4, refine="none"),
    "input 8": qrnn.Scheme(weights=4, input="8", refine="none"),
    "input 8-per-feature": qrnn.Scheme(weights=4, input="8-per-feature", refine="none"),
    "rounding": qrnn.Scheme(weights=4, refine="rounding"),
    "bias": qrnn.Scheme(weights=4, refine="bias"),
    "rounding, bias": qrnn.Scheme(weights=4, refine="rounding,bias"),
}
HARD = {
    "hard gates": qrnn.Scheme(gates="hard"),
    "gates": qrnn.Scheme(gates="hard", refine="gates"),
    "rounding, bias": qrnn.Scheme(gates="hard", refine="rounding,bias"),
    "gates, rounding, bias": qrnn.Scheme(gates="hard", refine="gates,rounding,bias"),
    "the same, 4 bits": qrnn.Scheme(gates="hard", weights=4, refine="gates,rounding,bias"),
}
PEERS: Mapping[str, Callable[[Truth], Outcome]] = {
    "ONNX Runtime int8": onnxruntime_int8,
    "PyTorch int8": pytorch_int8,
}


@dataclass(frozen=True)
class Results:
    """One model's outcomes, by table and by column; a text stands where there is no outcome."""

    name: str
    tables: Mapping[str, Mapping[str, Outcome | str]]


def results(truth: Truth, calibration: Arrays) -> Results:
    """Run every conversion of one model, and the peers."""
    smooth = any(
        a.kind in ("sigmoid", "tanh")
        for layer in truth.model.layers
        if isinstance(layer, Recurrent)
        for d in layer.directions
        for a in d.activations.values()
    )
    tables: dict[str, dict[str, Outcome | str]] = {"eight": {}, "four": {}, "hard": {}}
    for table, schemes in (("eight", EIGHT), ("four", FOUR), ("hard", HARD if smooth else {})):
        for name, scheme in schemes.items():
            tables[table][name] = truth.quantized(qrnn.quantize(truth.model, calibration, scheme))
    for name, peer in PEERS.items():
        try:
            tables["eight"][name] = peer(truth)
        except AbsentError as absent:
            tables["eight"][name] = f"left out ({absent})"
    print(
        truth.path.stem,
        {t: {k: str(v if isinstance(v, str) else v.cell()) for k, v in c.items()} for t, c in tables.items()},
        flush=True,
    )
    return Results(truth.path.stem, tables)


def _table(found: list[Results], table: str) -> str:
    rows = [r for r in found if r.tables[table]]
    columns = list(rows[0].tables[table])
    lines = [f"| model | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for r in rows:
        cells = [v if isinstance(v, str) else v.cell() for v in r.tables[table].values()]
        lines.append(f"| {r.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _worst(found: list[Results], table: str, column: str) -> str:
    """Return the most accuracy that any labelled set loses, in words."""
    lost = [
        (v.points, r.name)
        for r in found
        if isinstance(v := r.tables[table].get(column), Outcome) and not math.isnan(v.points)
    ]
    points, name = max(lost)
    return f"{points:+.2f} ({name})"


SECTION = """
## Accuracy won back without training

`--refine` and `--input-scheme`, each on and off; docs/arithmetic.md, section 6, says what they do. A cell has the SQNR in dB and, on labelled
sets, the points of accuracy that are lost against float, with the 95 % interval of the difference of two that decide the same items.
A plus is a loss. The first column of each table is what the width alone means: none of the methods for eight bits; for four, `rounding,bias`
and eight bits for a W that is under 15 % of its layer's weights. The input's scheme is chosen by measured error, and the columns `input …`
force it, without methods. None of these models has a dense layer whose channels `equalize` may scale: that column shows that nothing else
changes. Beside them the dynamic int8 of ONNX Runtime (it leaves GRU and RNN cells in floats) and of PyTorch, both with float states and gates.

### Weights of eight bits

{eight}

### Weights of four bits

{four}

### Hard gates in models that were trained with smooth ones

`--gates hard`: max(0, min(1, 0.2·x + 0.5)) and max(-1, min(1, x)). `gates` stretches and moves each row's argument, and fits the dense layers
behind.

{hard}

### Against what was aimed at

The most that any labelled set loses, in points: 8 bits by default {eight_worst}, aimed at 0.35; `--weights 4` alone
{four_worst}, aimed at 0.35, and {four_plain} with `--refine none`; hard gates {hard_plain} without and
{hard_worst} with `--refine gates,rounding,bias`, aimed at 1.0.
Sets of 300 clips tell differences of a point from none only where many decisions differ: see the intervals.
"""


def section(found: list[Results]) -> str:
    """Return the section of the page."""
    return SECTION.format(
        eight=_table(found, "eight"),
        four=_table(found, "four"),
        hard=_table(found, "hard"),
        eight_worst=_worst(found, "eight", "8 bits"),
        four_plain=_worst(found, "four", "refine none"),
        four_worst=_worst(found, "four", "4 bits alone"),
        hard_plain=_worst(found, "hard", "hard gates"),
        hard_worst=_worst(found, "hard", "gates, rounding, bias"),
    )
