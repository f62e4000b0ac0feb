"""Time every kind of gate function in every cell, relative to the same model with tables of 128 segments.

    python tools/gate_paths.py [--cells lstm,gru] [--gates step,hard] [--hidden 64] [--rounds 9] [--output docs/benchmarks/gate-paths.md]

The gate functions are the choices of ``--gates`` and every activation of the float model, in each role that takes it. Three uses of a
model are timed: one sequence, 32 sequences at once, and a step of one stream. A session is compared with the reference before it is timed.
Rounds are interleaved, and every call is timed for itself: a figure is the ratio of two minima over all calls, which other users of the machine
disturb least, the time with the gate function over that with tables of 128 segments.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
from provenance import when

import qrnn
from qrnn import layers
from qrnn.backends.cpu.isa import choose_isa
from qrnn.errors import QrnnError
from qrnn.model.activation import Activation, ActivationKind
from qrnn.running.bench import processor, seconds

STEPS = 32
BATCH = 32
CHECKED_SEQUENCES, CHECKED_STEPS = 2, 4
"""So much of every run is compared with the reference, which takes long."""

SAMPLE_SECONDS = 0.01
BASE = "pwl:128"
USES = ("one sequence", f"{BATCH} sequences", "stream step")

PARAMETERS: dict[ActivationKind, tuple[float, float]] = {
    "affine": (0.25, 0.5),
    "scaled_tanh": (1.7159, 2 / 3),
    "elu": (1.0, 0.0),
    "leaky_relu": (0.01, 0.0),
    "thresholded_relu": (0.1, 0.0),
}
"""alpha and beta of the activations, where they are not `Activation`'s."""

CHOICES = (
    "pwl:8", "pwl:64", BASE, "pwl:256", "pwl:512", "pwl:1024", "hard", "hard:0.25,0.4", "step", "sigmoid=step,tanh=pwl:1024",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A recurrent layer of a shape: ``kind`` is a function of `qrnn.layers`, and ``roles`` are its activations."""

    kind: str
    gates: int
    roles: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...] = ()
    projected: bool = False
    peephole: bool = False


LSTM, GRU = ("gate", "candidate", "output"), ("gate", "candidate")
CELLS = {
    "lstm": Cell("lstm", 4, LSTM),
    "lstm forget=one": Cell("lstm", 3, LSTM, (("forget", "one"),)),
    "lstm coupled": Cell("lstm", 3, LSTM, (("forget", "coupled"),)),
    "lstm peephole": Cell("lstm", 4, LSTM, peephole=True),
    "lstm projection": Cell("lstm", 4, LSTM, projected=True),
    "lstm clip": Cell("lstm", 4, LSTM, (("clip", 1.5),)),
    "gru": Cell("gru", 3, GRU),
    "gru reset before": Cell("gru", 3, GRU, (("linear_before_reset", False),)),
    "rnn": Cell("rnn", 1, ("activation",)),
    "jordan": Cell("rnn", 1, ("activation",), projected=True),
}


@dataclass(frozen=True)
class Gate:
    """A gate function: the text of ``Scheme(gates=…)``, and an activation in one role of the cell."""

    choice: str = BASE
    role: str = ""
    activation: Activation | None = None

    @property
    def name(self) -> str:
        """The gate function in words."""
        return self.choice if self.activation is None else f"{self.role} {self.activation}"


def gates_of(cell: Cell) -> Iterator[Gate]:
    """Yield every gate function that may be put into a cell; some of them are refused when the model is made or quantized."""
    for choice in CHOICES:
        yield Gate(choice)
    for role in cell.roles:
        for kind in get_args(ActivationKind):
            yield Gate(role=role, activation=Activation(kind, *PARAMETERS.get(kind, ())))


def float_model(cell: Cell, gate: Gate, hidden: int) -> Any:
    """Return the cell with random weights, small enough that no activation grows without bound."""
    rng = np.random.default_rng(hidden)
    fed_back = hidden // 2 if cell.projected else hidden
    rows = cell.gates * hidden
    weights = [rng.uniform(-1, 1, (rows, columns)) * 0.5 / np.sqrt(columns) for columns in (hidden, fed_back)]
    settings: dict[str, Any] = dict(cell.settings)
    if cell.projected:
        settings["projection"] = rng.uniform(-1, 1, (fed_back, hidden)) / np.sqrt(hidden)
    if cell.peephole:
        settings["peephole"] = {name: rng.uniform(-0.3, 0.3, hidden) for name in "ifo"}
    if gate.activation is not None:
        settings[gate.role] = gate.activation
    x = layers.input("x", features=hidden)
    return layers.model("timed", outputs={"y": getattr(layers, cell.kind)(x, *weights, **settings).output})


def calibration(hidden: int) -> Any:
    """Return sequences to calibrate with and to time."""
    return np.random.default_rng(1).normal(size=(BATCH, STEPS, hidden)).astype(np.float32)


def quantized(cell: Cell, gate: Gate, hidden: int, x: Any) -> Any:
    """Return the quantized model, or None where the activation is refused in this role."""
    try:
        return qrnn.quantize(float_model(cell, gate, hidden), {"x": x[:4]}, qrnn.Scheme(input="8", gates=gate.choice))
    except QrnnError:
        return None


def check(name: str, model: Any, session: Any, x: Any) -> None:
    """Raise SystemExit where the session's results are not those of the reference."""
    few = x[:CHECKED_SEQUENCES, :CHECKED_STEPS]
    want = qrnn.Session(model, "reference").run({"x": few}).outputs["y"]
    stream = session.stream(1)
    stepped = [stream.step({"x": few[:1, t]})["y"].copy() for t in range(CHECKED_STEPS)]
    results = {
        USES[0]: (want[:1], session.run({"x": x[:1]}).outputs["y"][:1, :CHECKED_STEPS]),
        USES[1]: (want, session.run({"x": x}).outputs["y"][:CHECKED_SEQUENCES, :CHECKED_STEPS]),
        USES[2]: (want[:1], np.stack(stepped, axis=1)),
    }
    for use, (expected, got) in results.items():
        if not np.array_equal(expected, got):
            raise SystemExit(f"{name}, {use}: other results than the reference: not timed")


def uses_of(session: Any, x: Any) -> dict[str, Callable[[], Any]]:
    """Return the calls of a session that are timed."""
    stream, frame = session.stream(1), x[:1, 0]
    return {
        USES[0]: partial(session.run, {"x": x[:1]}),
        USES[1]: partial(session.run, {"x": x}),
        USES[2]: partial(stream.step, {"x": frame}),
    }


def minima(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the least seconds of each call."""
    least = {name: min(seconds(call) for _ in range(2)) for name, call in calls.items()}
    for _ in range(rounds):
        for name, call in calls.items():
            repeats = max(1, round(SAMPLE_SECONDS / least[name]))
            least[name] = min(least[name], *(seconds(call) for _ in range(repeats)))
    return least


def measure(name: str, wanted: set[str], hidden: int, rounds: int, isa: str | None) -> Iterator[str]:
    """Yield the table's rows for one cell."""
    cell = CELLS[name]
    x = calibration(hidden)
    calls: dict[str, Callable[[], Any]] = {}
    gates = []
    for gate in gates_of(cell):
        chosen = (
            gate.name == BASE
            or not wanted
            or wanted & {gate.choice if gate.activation is None else gate.activation.kind}
        )
        model = quantized(cell, gate, hidden, x) if chosen else None
        if model is None:
            continue
        session = qrnn.Session(model, "cpu", 1, isa)
        check(f"{name}, {gate.name}", model, session, x)
        gates.append(gate.name)
        calls |= {f"{gate.name}: {use}": call for use, call in uses_of(session, x).items()}
    least = minima(calls, rounds)
    for gate_name in gates:
        ratios = [f"{least[f'{gate_name}: {use}'] / least[f'{BASE}: {use}']:.2f}" for use in USES]
        if gate_name == BASE:
            ratios = [f"{1e6 * least[f'{BASE}: {use}']:.1f} µs" for use in USES]
        yield f"| {name} | {gate_name} | {' | '.join(ratios)} |"


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Time every kind of gate function relative to tables of 128 segments.")
    parser.add_argument("--cells", default=",".join(CELLS), help="of the cells' names, separated by commas")
    parser.add_argument(
        "--gates", default="", help="choices and kinds of activations, separated by ';'; all where empty"
    )
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--isa", default=None, help="the instruction set; the best one where it is left out")
    parser.add_argument("--output", type=Path, default=None, help="a page to write; else the table is printed")
    arguments = parser.parse_args()
    isa = choose_isa(arguments.isa)
    command = shlex.join(["python", "tools/gate_paths.py", *sys.argv[1:]])
    lines = [
        "# Gate functions on the CPU",
        "",
        f"Made by `{command}` on {when()}: {processor()}, one core, instruction set {isa.name if isa else 'plain'}, "
        f"H = inputs = {arguments.hidden}, {STEPS} steps.",
        "",
        f"A figure is the time with the gate function over the time of the same cell with {BASE} (whose own rows show times). Every "
        "session was compared with the reference before it was timed.",
        "",
        f"| cell | gate function | {' | '.join(USES)} |",
        "|---|---|" + "---|" * len(USES),
    ]
    if arguments.output is None:
        print("\n".join(lines), flush=True)
    for name in arguments.cells.split(","):
        for line in measure(
            name, set(filter(None, arguments.gates.split(";"))), arguments.hidden, arguments.rounds, arguments.isa
        ):
            lines.append(line)
            if arguments.output is None:
                print(line, flush=True)
    if arguments.output is not None:
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
