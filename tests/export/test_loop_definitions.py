"""Every kind of layer, gate function and cell that has a definition gives the bits of that when it is translated to C."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backends.generators import Case
from models import Shape

from export.building import COMPILERS, check, quantized, replayed
from export.kinds import kind
from export.loop_models import (
    H,
    I,
    difference,
    fmt,
    model_of,
    output,
    pooled,
    want,
)
from qrnn import layers
from qrnn.export import flow
from qrnn.export.expected import first_difference, random_sequences
from qrnn.export.kinds import own_code
from qrnn.export.kinds.recurrent import layer as recurrent_code
from qrnn.export.layer_code import AnyCode
from qrnn.export.loops.translator import WIDE_HEADER
from qrnn.export.source import export_source
from qrnn.model.activation import Activation
from qrnn.model.kinds.add import QuantAdd
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Scratch, StateArray, Step, StepLoop
from qrnn.model.parts import QuantInitialState, pack_gates


@pytest.fixture
def translated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kind that is computed by rows has C of its own."""

    def found(kind: type[QuantLayer]) -> type[AnyCode] | None:
        return None if kind.by_rows is QuantLayer.by_rows else own_code(kind)

    monkeypatch.setattr(flow, "own_code", found)


ROWS = (
    "lstm",
    "gru after",
    "rnn",
    "stacked",
    "left shift",
    "steps",
    "four bits",
    "unbounded gates",
    "embedded",
    "shared",
)


@pytest.mark.wide(cover=False, keep=3)
@pytest.mark.usefixtures("translated")
@pytest.mark.parametrize("which", ROWS)
def test_definitions_of_all_kinds_give_the_same_bits(which: str, tmp_path: Path) -> None:
    """Dense, pointwise, softmax, sum, concatenation and embedding, by the loops that define them."""
    assert f'"{WIDE_HEADER}"' in export_source(kind(which), "net", "plain").source
    check(kind(which), tmp_path, "gcc")


@pytest.mark.usefixtures("translated")
def test_definitions_of_gate_functions(tmp_path: Path) -> None:
    """Every kind of gate function, by the contract's `evaluate` on packed gates."""
    rng = np.random.default_rng(1)
    x = layers.input("x", 5)
    names = ("sigmoid", "tanh", "relu", "hard_sigmoid", "softplus", "step", "hard_tanh", "softsign")
    rnn = layers.rnn(x, rng.normal(size=(5, 5)), rng.normal(size=(5, 5)))
    found = [layers.activation(layers.dense(rnn.output, rng.normal(size=(5, 5))), name) for name in names]
    check(quantized(layers.model("gates", dict(zip(names, found, strict=True)))), tmp_path, "clang")


def repeated_step(contract: Any) -> Step:
    """Every step, the largest input so far is added to the number of each row, whose sign a step in three changes."""
    saturate16 = contract.saturate16

    def step(n: int, t: int, k: int, x: Any, out: Any, peak: Any, table: Any, times: int) -> int:
        features = x.shape[2]
        if t < 0:
            return 0
        for j in range(features):
            peak[n, 0, j] = max(peak[n, 0, j], x[n, t, j])
        peak[n, 1, 0] = (peak[n, 1, 0] + 1) % 3
        sign = -1 if peak[n, 1, 0] == 0 and not features < 2 else 1
        for i in range(times):
            for j in range(features - 1, -1, -1):
                value = peak[n, 0, j] // 3 + (table[i, j] if j != 1 else -table[i, j])
                value *= sign
                out[n, k + i, j] = saturate16(value)
        return times

    return step


@dataclass(frozen=True)
class QuantRepeated(QuantLayer):
    """Every step gives ``times`` rows."""

    name: str
    input: str
    output: str
    times: int

    by_rows = False  # type: ignore[assignment]

    def check(self, checks: Any) -> None:
        checks.expect(self.output, I, True)

    def readings(self) -> tuple[Any, ...]:
        return ()

    def formats(self, tensors: Any) -> dict[str, Any]:
        return {}

    def rows_in(self, steps: int) -> int:
        return self.times * steps

    def states(self) -> tuple[StateArray, ...]:
        starts = tuple(QuantInitialState(np.full(I, v, np.int32)) for v in (-500, 1))
        return (StateArray("peak", (2, I), np.int16, 32767, starts=starts),)

    def step_loop(self) -> StepLoop:
        table = np.arange(self.times * I, dtype=np.int64).reshape(self.times, I) * 10000
        return StepLoop(repeated_step, (table, self.times))


@pytest.mark.wide(cover=False)
@pytest.mark.parametrize("cc", COMPILERS)
def test_several_rows_a_step(cc: str, tmp_path: Path) -> None:
    own = [QuantRepeated("three", "x", "r", 3), pooled("slow", "r", "p", 2, 1), difference("rows", "p", "y")]
    own[2] = replace(own[2], weight=np.array([1, -2, 300, 4], np.int16))  # type: ignore[type-var]
    model = model_of(own, {"r": fmt(I), "p": fmt(H), "y": fmt(H)}, [output("y", "y", H)])
    exported = export_source(model, "net", "plain")
    assert exported.step_rows == 3
    sequences = random_sequences(model, exported, (1, 2, 9, 20), 6)
    assert first_difference(want(model, exported, sequences), replayed(exported, sequences, tmp_path, cc)) is None


def leaky_step(contract: Any) -> Step:
    """Y = x less a quarter of the y before."""
    saturate16, shift_right_round = contract.saturate16, contract.shift_right_round

    def step(n: int, t: int, k: int, x: Any, out: Any, before: Any) -> int:
        for j in range(x.shape[2]):
            before[n, j] = saturate16(x[n, t, j] - shift_right_round(before[n, j], 2))
            out[n, k, j] = before[n, j]
        return 1

    return step


class QuantLeaky(QuantRepeated):
    """Every step gives a row."""

    def rows_in(self, steps: int) -> int:
        return steps

    def states(self) -> tuple[StateArray, ...]:
        return (StateArray("before", (I,), np.int16, 32767),)

    def step_loop(self) -> StepLoop:
        return StepLoop(leaky_step, ())


@pytest.mark.parametrize("cc", COMPILERS)
def test_a_row_for_each_step_keeps_the_usual_functions(cc: str, tmp_path: Path) -> None:
    """Nothing is counted, and the layer's output may be added to its input."""
    own = [QuantLeaky("leaky", "x", "p", 1), QuantAdd("sum", "x", "p", "y", 12, 12, 12)]
    model = model_of(own, {"p": fmt(I), "y": fmt(I)}, [output("y", "y", I), output("p", "p", I)])
    exported = export_source(model, "net", "plain")
    assert not exported.counts_rows
    assert "void net_step(net_state *state, const int16_t *x, int16_t *y, int16_t *p);" in exported.header
    sequences = random_sequences(model, exported, (1, 2, 20), 6)
    x = sequences[-1]["x"].astype(np.int64)
    found = want(model, exported, sequences)
    np.testing.assert_array_equal(found[-1].outputs["y"], np.clip(x + found[-1].outputs["p"], -32768, 32767))
    assert first_difference(found, replayed(exported, sequences, tmp_path, cc)) is None


def rnn_step(contract: Any) -> Step:
    """The plain RNN of docs/arithmetic.md, as the definition of a cell that C does not know."""
    dot, requantize, to_operand = contract.dot, contract.requantize, contract.to_operand
    preactivation, evaluate, rnn_hidden_state = contract.preactivation, contract.evaluate, contract.rnn_hidden_state

    def step(
        n: int, t: int, k: int, x: Any, out: Any, h: Any, c: Any,
        ih: Any, ih_bias: Any, ih_multiplier: Any, ih_left: Any, hh: Any, hh_bias: Any, hh_multiplier: Any, hh_left: Any,
        pre_shift: Any, params: Any, tables: Any, x_shift: int, x_limit: int, h_shift: int, h_limit: int, hidden: int,
        x_read: Any, h_read: Any,
    ) -> int:  # fmt: skip
        for j in range(x.shape[2]):
            x_read[n, j] = to_operand(x[n, t, j], x_shift, x_limit)
        for u in range(h.shape[1]):
            h_read[n, u] = to_operand(h[n, u], h_shift, h_limit)
        for u in range(h.shape[1]):
            x_part = requantize(dot(ih, u, x_read, n) + ih_bias[u], ih_multiplier[u], ih_left[u])
            h_part = requantize(dot(hh, u, h_read, n) + hh_bias[u], hh_multiplier[u], hh_left[u])
            h[n, u] = rnn_hidden_state(evaluate(preactivation(x_part, h_part, pre_shift[u]), params, tables, 0), hidden)
            out[n, k, u] = h[n, u]
        return 1

    return step


def rnn_loop(layer: QuantRecurrent, number: int) -> StepLoop:
    d = layer.directions[number]
    matrices = [v for m in (d.ih, d.hh) for v in (m.weight, m.bias, m.multiplier, m.left_shift)]
    operands = [v for o in (layer.x_operand, layer.h_operand) for v in (o.shift, o.limit)]
    parameters = (*matrices, d.pre_shift, *pack_gates(d.gates), *operands, layer.shifts(d).hidden)
    sizes = layer.input_size, layer.output_size
    return StepLoop(rnn_step, parameters, tuple(Scratch((size,), np.int16) for size in sizes))


@pytest.mark.wide
@pytest.mark.parametrize("reverse", [(False,), (False, True)])
@pytest.mark.parametrize("kernels", ["plain", "mve"])
def test_cells_without_a_header_are_translated(
    reverse: tuple[bool, ...], kernels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recurrent layer by the definition of its cell has the reference's bits: forward, and with a direction that runs backwards."""
    monkeypatch.setattr(recurrent_code, "RUNTIME", {})
    monkeypatch.setattr(QuantRecurrent, "direction_loop", rnn_loop, raising=False)
    shape = Shape("rnn", 3, 5, reverse, activations={"candidate": Activation("softsign")})
    model = Case(shape, "softmax", lengths=(5, 4)).quantized()
    assert "qrnn_rnn.h" not in export_source(model, "net", kernels).runtime
    check(model, tmp_path, "gcc", kernels)
