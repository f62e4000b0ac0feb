"""Time LSTMs with weights of eight and of four bits side by side, on one core, beside the limit that reading their bytes sets.

    python tools/bench_weights.py [--sizes 512,1024,2048] [--rounds 15]

Each model is one layer with as many inputs as units. ``sequence`` is µs per step of `Session.run` on one sequence of 64 steps, which reads
the weights of h at every step; ``step`` is µs of a `Session.step`, which reads all weights. The limit is the time to read them as they are
stored, at the rate that this core loads as many bytes over and over. Both sessions are checked against each other's model before they are
timed: the weights of four bits expanded to int8 give the same bits. Rounds are interleaved; figures are medians.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from bench_limits import read_rate

import qrnn
from qrnn import layers
from qrnn.model.parts import AnyMatrix, QuantMatrix
from qrnn.model.quant_model import QuantModel
from qrnn.running.bench import Timed, interleaved, processor

STEPS = 64
SAMPLE_SECONDS = 0.05


def lstm(hidden: int) -> Any:
    """Return a float LSTM with random weights of the usual size, and calibration data."""
    rng = np.random.default_rng(hidden)
    weight = [rng.uniform(-1, 1, (4 * hidden, hidden)) / np.sqrt(hidden) for _ in range(2)]
    x = layers.input("x", features=hidden)
    y = layers.lstm(x, *weight).output
    return layers.model("lstm", outputs={"y": y}), {"x": rng.normal(size=(1, 8, hidden)).astype(np.float32)}


def expanded(model: QuantModel) -> QuantModel:
    """Return the same integers with every weight stored as int8."""

    def bytes_of(m: AnyMatrix) -> QuantMatrix:
        return QuantMatrix(m.weight, m.bias, m.multiplier, m.left_shift, m.operand_limit)

    layer = model.recurrent_layers[0]
    d = layer.directions[0]
    plain = replace(layer, directions=(replace(d, ih=bytes_of(d.ih), hh=bytes_of(d.matrix_hh)),))
    return replace(model, layers=(plain,))


def measure(hidden: int, rounds: int) -> list[str]:
    """Return the table's rows for one size."""
    float_model, data = lstm(hidden)
    four = qrnn.quantize(float_model, data, qrnn.Scheme(input="8", weights=4))
    models = {8: expanded(four), 4: four}
    sessions = {bits: qrnn.Session(model, "cpu", 1) for bits, model in models.items()}
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, STEPS, hidden)).astype(np.float32)
    frame = x[:, 0]
    timed, states = {}, {}
    for bits, session in sessions.items():
        states[bits] = session.step({"x": frame}).state
        timed[f"sequence {bits}"] = Timed(partial(session.run, {"x": x}))
        timed[f"step {bits}"] = Timed(partial(session.step, {"x": frame}, states[bits]))
    results = [[s.run({"x": x}).outputs["y"], s.step({"x": frame}).outputs["y"]] for s in sessions.values()]
    if not all(np.array_equal(a, b) for a, b in zip(*results, strict=True)):
        raise SystemExit(f"weights of four bits give other results at H = {hidden}: not timed")
    samples = interleaved(timed, rounds, SAMPLE_SECONDS)
    rows = []
    for kind, steps in (("sequence", STEPS), ("step", 1)):
        took = {bits: median(samples[f"{kind} {bits}"]) / steps * 1e6 for bits in (8, 4)}
        cells = []
        for bits, model in models.items():
            d = model.recurrent_layers[0].directions[0]
            size = d.matrix_hh.weight_bytes + (d.ih.weight_bytes if kind == "step" else 0)
            limit = size / read_rate(size, 1) * 1e6
            cells.append(f"{size / 2**20:.2f} | {took[bits]:.1f} | {limit:.1f}")
        rows.append(f"| {hidden} | {kind} | {' | '.join(cells)} | {took[8] / took[4]:.2f} |")
    return rows


def main() -> None:
    """Run the tool; see the module."""
    parser = argparse.ArgumentParser(description="Time LSTMs with weights of eight and of four bits.")
    parser.add_argument("--sizes", default="512,1024,2048", help="hidden sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print(f"{processor()}, one core; bytes read a step in MiB, µs a step, its limit in µs\n")
    print("| H | | 8 bits: MiB | µs | limit | 4 bits: MiB | µs | limit | times as fast |")
    print("|---|---|---|---|---|---|---|---|---|")
    for hidden in map(int, arguments.sizes.split(",")):
        for line in measure(hidden, arguments.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
