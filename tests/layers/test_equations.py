"""`run_oracle` of what `qrnn.layers` builds, against the papers' equations unit by unit (`naive`), to 1e-12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qrnn import layers
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import FloatArray

from . import naive

I, H, P = 3, 4, 2
STEPS = 7
LENGTHS = np.array([7, 0, 4, 1])

Result = tuple[FloatArray, FloatArray, FloatArray | None]
Run = Callable[[list[Any], list[float], list[float]], tuple[Any, ...]]
"""The naive cell on (steps of one sequence, h_0, c_0)."""
Build = Callable[..., layers.Recurrent]
"""The layer, from x and reverse=, h_0= and, of an LSTM, c_0=."""
Case = tuple[Build, Run, int]
"""Also the size of what is fed back."""


def blocks(rng: np.random.Generator, gates: str, columns: int | None = None) -> dict[str, Any]:
    """A random block [H, columns], or [H], for each gate."""
    return {gate: 0.8 * rng.normal(size=(H, columns) if columns else H) for gate in gates}


def rows(by_gate: dict[str, Any]) -> FloatArray:
    return np.concatenate(list(by_gate.values()))


def plain(value: Any) -> Any:
    """Arrays as lists of floats, whatever holds them."""
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else np.asarray(value).tolist()


FUNCTIONS = {
    "two_sigmoid_minus_one": layers.TWO_SIGMOID_MINUS_ONE,
    "four_sigmoid_minus_two": layers.FOUR_SIGMOID_MINUS_TWO,
}


def lstm_case(
    rng: np.random.Generator, forget: Any = "gate", peephole: str = "", projection: bool = False, **options: Any
) -> Case:
    gates = "ifgo" if forget == "gate" else "igo"
    fed_back = P if projection else H
    W, U, b, b_hh = blocks(rng, gates, I), blocks(rng, gates, fed_back), blocks(rng, gates), blocks(rng, gates)
    p = {gate: rng.normal(size=H) if gate in peephole else np.zeros(H) for gate in "ifo"}
    V = rng.normal(size=(P, H))
    functions = {k: FUNCTIONS.get(v, v) for k, v in options.items()}

    def build(x: layers.Tensor, **initial: Any) -> layers.Recurrent:
        return layers.lstm(
            x,
            rows(W),
            rows(U),
            rows(b),
            rows(b_hh),
            forget=forget,
            peephole={gate: p[gate] for gate in peephole} if peephole else None,
            projection=V if projection else None,
            **functions,
            **initial,
        )

    def run(xs: list[Any], h: list[float], c: list[float]) -> tuple[Any, ...]:
        bias = {gate: b[gate] + b_hh[gate] for gate in gates}
        weights = (plain(W), plain(U), plain(bias))
        return naive.lstm(xs, h, c, *weights, forget=forget, p=plain(p), P=plain(V) if projection else None, **options)

    return build, run, fed_back


def gru_case(rng: np.random.Generator, after: bool, keeps: bool, bias: bool = True, **options: Any) -> Case:
    W, U, b, b_hh = blocks(rng, "rzn", I), blocks(rng, "rzn", H), blocks(rng, "rzn"), blocks(rng, "rzn")
    given = (rows(b), rows(b_hh)) if bias else ()
    zero = {gate: np.zeros(H) for gate in "rzn"}

    def build(x: layers.Tensor, **initial: Any) -> layers.Recurrent:
        return layers.gru(
            x, rows(W), rows(U), *given, linear_before_reset=after, update_keeps=keeps, **options, **initial
        )

    def run(xs: list[Any], h: list[float], _c: list[float]) -> tuple[Any, ...]:
        biases = (b, b_hh) if bias else (zero, zero)
        weights = [plain(w) for w in (W, U, *biases)]
        return naive.gru(xs, h, *weights, reset_after=after, keeps=keeps, **options)

    return build, run, H


def norm_of(rng: np.random.Generator, gates: str) -> dict[str, Any]:
    """Random gains and biases, "gain_i", "bias_i" and so on."""
    return {f"gain_{gate}": rng.uniform(0.5, 2, H) for gate in gates} | {
        f"bias_{gate}": rng.normal(size=H) for gate in gates
    }


def as_norm(norm: dict[str, Any], gates: str, epsilon: float, together: str | None = None) -> layers.Normalization:
    """The same as a caller gives it; ``together`` such as "ifgo" or "i f g o"."""
    gain, bias = (np.concatenate([norm[f"{what}_{gate}"] for gate in gates]) for what in ("gain", "bias"))
    groups = None if together is None else tuple(map(len, together.split()))
    return layers.normalization(gain, bias, epsilon=epsilon, together=groups)


def layer_norm_lstm_case(
    rng: np.random.Generator, norms: str, together: str, says: bool = True, epsilon: float = 1e-2, **options: Any
) -> Case:
    W, U, b, b_hh = blocks(rng, "ifgo", I), blocks(rng, "ifgo", H), blocks(rng, "ifgo"), blocks(rng, "ifgo")
    total = {gate: b[gate] + b_hh[gate] for gate in "ifgo"}
    found = {which: norm_of(rng, "ifgo") for which in norms.split() if which != "c"}
    of_c = norm_of(rng, "c") if "c" in norms.split() else None

    def build(x: layers.Tensor, **initial: Any) -> layers.Recurrent:
        given = {f"norm_{k}": as_norm(v, "ifgo", epsilon, together if says else None) for k, v in found.items()}
        norm_c = None if of_c is None else as_norm(of_c, "c", epsilon)
        return layers.layer_norm_lstm(
            x, rows(W), rows(U), rows(b), rows(b_hh), norm_c=norm_c, **given, **options, **initial
        )

    def run(xs: list[Any], h: list[float], c: list[float]) -> tuple[Any, ...]:
        own = plain(found) | ({} if of_c is None else {"c": plain({"gain": of_c["gain_c"], "bias": of_c["bias_c"]})})
        return naive.layer_norm_lstm(
            xs, h, c, plain(W), plain(U), plain(total), own, together=together.split(), epsilon=epsilon, **options
        )

    return build, run, H


def layer_norm_gru_case(
    rng: np.random.Generator, norms: str, together: str, after: bool, keeps: bool = True, says: bool = True
) -> Case:
    W, U, b, b_hh = blocks(rng, "rzn", I), blocks(rng, "rzn", H), blocks(rng, "rzn"), blocks(rng, "rzn")
    found, epsilon = {which: norm_of(rng, "rzn") for which in norms.split()}, 1e-2

    def build(x: layers.Tensor, **initial: Any) -> layers.Recurrent:
        given = {f"norm_{k}": as_norm(v, "rzn", epsilon, together if says else None) for k, v in found.items()}
        settings = {"linear_before_reset": after, "update_keeps": keeps}
        return layers.layer_norm_gru(x, rows(W), rows(U), rows(b), rows(b_hh), **given, **settings, **initial)

    def run(xs: list[Any], h: list[float], _: list[float]) -> tuple[Any, ...]:
        settings = {"epsilon": epsilon, "reset_after": after, "keeps": keeps}
        weights = plain(W), plain(U), plain(b), plain(b_hh), plain(found)
        return naive.layer_norm_gru(xs, h, *weights, together=together.split(), **settings)

    return build, run, H


def min_gru_case(rng: np.random.Generator, keeps: bool, **options: Any) -> Case:
    W, b = blocks(rng, "zn", I), blocks(rng, "zn")

    def build(x: layers.Tensor, **initial: Any) -> layers.Recurrent:
        return layers.min_gru(x, rows(W), rows(b), update_keeps=keeps, **options, **initial)

    def run(xs: list[Any], h: list[float], _c: list[float]) -> tuple[Any, ...]:
        return naive.min_gru(xs, h, plain(W), plain(b), keeps=keeps, **options)

    return build, run, H


def indrnn_case(rng: np.random.Generator, activation: str, **options: Any) -> Case:
    W, u, b = rng.normal(size=(H, I)), rng.uniform(-1, 1, H), rng.normal(size=H)

    def build(x: layers.Tensor, **initial: Any) -> layers.Recurrent:
        return layers.indrnn(x, W, u, b, activation=activation, **options, **initial)

    def run(xs: list[Any], h: list[float], _c: list[float]) -> tuple[Any, ...]:
        return naive.indrnn(xs, h, plain(W), plain(u), plain(b), activation, **options)

    return build, run, H


def rnn_case(rng: np.random.Generator, activation: str, **options: Any) -> Case:
    W, U, b, b_hh = rng.normal(size=(H, I)), 0.6 * rng.normal(size=(H, H)), rng.normal(size=H), rng.normal(size=H)

    def build(x: layers.Tensor, **initial: Any) -> layers.Recurrent:
        return layers.rnn(x, W, U, b, b_hh, activation=activation, **options, **initial)

    def run(xs: list[Any], h: list[float], _c: list[float]) -> tuple[Any, ...]:
        return naive.rnn(xs, h, plain(W), plain(U), plain(b + b_hh), activation, **options)

    return build, run, H


CASES: dict[str, Callable[[np.random.Generator], Case]] = {
    "lstm": lstm_case,
    "lstm 1997": lambda rng: lstm_case(rng, "one", candidate="four_sigmoid_minus_two", output="two_sigmoid_minus_one"),
    "lstm, step gates": lambda rng: lstm_case(rng, gate="step"),
    "lstm, 2σ-1": lambda rng: lstm_case(rng, candidate="two_sigmoid_minus_one"),
    "lstm, coupled": lambda rng: lstm_case(rng, "coupled"),
    "lstm, coupled step gates": lambda rng: lstm_case(rng, "coupled", gate="step"),
    "lstm, peepholes": lambda rng: lstm_case(rng, peephole="ifo"),
    "lstm, one peephole": lambda rng: lstm_case(rng, peephole="o"),
    "lstm, coupled, peepholes": lambda rng: lstm_case(rng, "coupled", peephole="io"),
    "lstm, projection": lambda rng: lstm_case(rng, projection=True),
    "lstm, projection, peepholes": lambda rng: lstm_case(rng, peephole="ifo", projection=True),
    "lstm, clip": lambda rng: lstm_case(rng, clip=0.7),
    "lstm, clip, peepholes": lambda rng: lstm_case(rng, peephole="ifo", clip=0.7),
    "gru": lambda rng: gru_case(rng, True, True),
    "gru, Cho": lambda rng: gru_case(rng, False, True, bias=False),
    "gru, Chung": lambda rng: gru_case(rng, False, False, bias=False),
    "gru, reset before, bias": lambda rng: gru_case(rng, False, True),
    "gru, exchanged": lambda rng: gru_case(rng, True, False),
    "gru, exchanged, step": lambda rng: gru_case(rng, True, False, gate="step"),
    "gru, clip": lambda rng: gru_case(rng, False, False, clip=0.5),
    "min_gru": lambda rng: min_gru_case(rng, False),
    "min_gru, tanh": lambda rng: min_gru_case(rng, False, candidate="tanh"),
    "min_gru, exchanged, clip": lambda rng: min_gru_case(rng, True, clip=0.5),
    "layer_norm_lstm": lambda rng: layer_norm_lstm_case(rng, "x h", "ifgo", says=False),
    "layer_norm_lstm, of c too": lambda rng: layer_norm_lstm_case(rng, "x h c", "i f go", clip=0.5),
    "layer_norm_lstm, sums": lambda rng: layer_norm_lstm_case(rng, "sum", "i f g o", says=False),
    "layer_norm_lstm, all sums": lambda rng: layer_norm_lstm_case(rng, "sum c", "ifgo", epsilon=0.0),
    "layer_norm_gru": lambda rng: layer_norm_gru_case(rng, "x h", "rz n", True, says=False),
    "layer_norm_gru, all gates": lambda rng: layer_norm_gru_case(rng, "x h", "rzn", True),
    "layer_norm_gru, before": lambda rng: layer_norm_gru_case(rng, "x h", "r z n", False),
    "layer_norm_gru, sums": lambda rng: layer_norm_gru_case(rng, "sum", "r z n", True, keeps=False, says=False),
    "layer_norm_gru, sums, before": lambda rng: layer_norm_gru_case(rng, "sum", "rz n", False),
    "indrnn, relu": lambda rng: indrnn_case(rng, "relu"),
    "indrnn, tanh": lambda rng: indrnn_case(rng, "tanh"),
    "indrnn, clip": lambda rng: indrnn_case(rng, "relu", clip=0.5),
    "rnn, tanh": lambda rng: rnn_case(rng, "tanh"),
    "rnn, relu": lambda rng: rnn_case(rng, "relu"),
    "rnn, sigmoid": lambda rng: rnn_case(rng, "sigmoid"),
    "rnn, step": lambda rng: rnn_case(rng, "step"),
    "rnn, clip": lambda rng: rnn_case(rng, "tanh", clip=0.5),
}


def naive_batch(
    run: Callable[..., tuple[Any, ...]], x: FloatArray, initial: list[FloatArray], reverse: bool
) -> tuple[FloatArray, list[FloatArray]]:
    """Compute every sequence by itself, cut to its length.

    Return outputs [N, T, F], zero beyond the length, and final states [N, ·], zero where there are no steps.
    """
    ys: list[Any] = []
    finals: list[list[Any]] = []
    for n, length in enumerate(LENGTHS):
        steps = x[n, :length].tolist()
        out, *last = run(steps[::-1] if reverse else steps, *(s[n].tolist() for s in initial))
        ys.append(out[::-1] if reverse else out)
        finals.append([np.array(v) if length else np.zeros(len(v)) for v in last])
    width = len(ys[0][0])
    y = np.zeros((len(LENGTHS), STEPS, width))
    for n, out in enumerate(ys):
        if out:
            y[n, : len(out)] = out
    return y, [np.array(column) for column in zip(*finals, strict=True)]


def oracle(model: FloatModel, x: FloatArray, **states: FloatArray) -> dict[str, FloatArray]:
    return run_oracle(model, {"x": x, **states}, LENGTHS).outputs


@pytest.mark.parametrize("initial", ["none", "constant", "graph input"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("name", CASES)
def test_cells(name: str, reverse: bool, initial: str) -> None:
    rng = np.random.default_rng(list(name.encode()))
    build, run, fed_back = CASES[name](rng)
    x = rng.normal(size=(len(LENGTHS), STEPS, I))
    is_lstm = "lstm" in name
    sizes = {"h_0": fed_back} | ({"c_0": H} if is_lstm else {})
    given: dict[str, Any] = {}
    values = {key: np.zeros((len(LENGTHS), size)) for key, size in sizes.items()}
    if initial == "constant":
        given = {key: rng.normal(size=size) for key, size in sizes.items()}
        values = {key: np.tile(value, (len(LENGTHS), 1)) for key, value in given.items()}
    elif initial == "graph input":
        given = {key: layers.state(f"state_{key}", size) for key, size in sizes.items()}
        values = {key: rng.normal(size=(len(LENGTHS), size)) for key, size in sizes.items()}
    handle = build(layers.input("x", I), reverse=reverse, **given)
    outputs = {"y": handle.output, "h": handle.h_n} | ({"c": handle.c_n} if handle.c_n else {})
    fed = {f"state_{key}": value for key, value in values.items()} if initial == "graph input" else {}
    got = oracle(layers.model("m", outputs), x, **fed)
    states = [values["h_0"], values.get("c_0", np.zeros((len(LENGTHS), H)))]
    y, finals = naive_batch(run, x, states, reverse)
    assert set(got) == ({"y", "h", "c"} if is_lstm else {"y", "h"})
    assert np.abs(y).max() > 0.1
    np.testing.assert_allclose(got["y"], y, rtol=0, atol=1e-12)
    for key, final in zip("hc", finals, strict=False):
        np.testing.assert_allclose(got[key], final, rtol=0, atol=1e-12)


@pytest.mark.parametrize("output", ["linear", "softmax", "sigmoid"])
@pytest.mark.parametrize("hidden", ["tanh", "sigmoid", "relu"])
@pytest.mark.parametrize("kind", ["elman", "jordan"])
@pytest.mark.parametrize("start", [False, True])
def test_networks(kind: str, hidden: str, output: str, start: bool) -> None:
    rng = np.random.default_rng(5)
    O = P
    fed_back = H if kind == "elman" else O
    W, U, b = rng.normal(size=(H, I)), 0.7 * rng.normal(size=(H, fed_back)), rng.normal(size=H)
    V, c = rng.normal(size=(O, H)), rng.normal(size=O)
    x = rng.normal(size=(len(LENGTHS), STEPS, I))
    initial = rng.normal(size=fed_back) if start else np.zeros(fed_back)
    make, state = (layers.elman, "h_0") if kind == "elman" else (layers.jordan, "y_0")
    options: dict[str, Any] = {state: initial} if start else {}
    net = make(layers.input("x", I), W, U, b, V, c, hidden=hidden, output=output, **options)
    got = oracle(layers.model("m", {"y": net.output, "last": net.last, "state": net.recurrent.h_n}), x)

    def run(xs: list[Any], s: list[float]) -> tuple[Any, ...]:
        weights = [plain(a) for a in (W, U, b, V, c)]
        return getattr(naive, kind)(xs, s, *weights, hidden, output)

    y, (state_n,) = naive_batch(run, x, [np.tile(initial, (len(LENGTHS), 1))], False)
    last = np.array([y[n, k - 1] if k else np.zeros(O) for n, k in enumerate(LENGTHS)])
    np.testing.assert_allclose(got["y"], y, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["last"], last, rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["state"], state_n, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_identity_rnn(scale: float) -> None:
    rng = np.random.default_rng(6)
    W, b, x = rng.normal(size=(H, I)), rng.normal(size=H), rng.normal(size=(len(LENGTHS), STEPS, I))
    got = oracle(layers.model("m", {"y": layers.identity_rnn(layers.input("x", I), W, b, scale=scale).output}), x)
    for n, length in enumerate(LENGTHS):
        h = [0.0] * H
        for t in range(length):
            h = [max(0.0, naive.dot(W[j].tolist(), x[n, t].tolist()) + scale * h[j] + b[j]) for j in range(H)]
            np.testing.assert_allclose(got["y"][n, t], h, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["lstm", "lstm, projection", "gru, Chung", "rnn, relu"])
def test_bidirectional(name: str) -> None:
    """A bidirectional layer gives what two layers of one direction give, side by side."""
    rng = np.random.default_rng(7)
    (ahead, run_ahead, fed_back), (back, run_back, _) = CASES[name](rng), CASES[name](rng)
    x = rng.normal(size=(len(LENGTHS), STEPS, I))
    handle = layers.input("x", I)
    h_0 = rng.normal(size=fed_back)
    both = layers.bidirectional(ahead(handle, h_0=h_0), back(handle, reverse=True))
    outputs = {"y": both.output, "h": both.h_n} | ({"c": both.c_n} if both.c_n else {})
    got = oracle(layers.model("m", outputs), x)
    zeros = np.zeros((len(LENGTHS), H))
    y_a, finals_a = naive_batch(run_ahead, x, [np.tile(h_0, (len(LENGTHS), 1)), zeros], False)
    y_b, finals_b = naive_batch(run_back, x, [np.zeros((len(LENGTHS), fed_back)), zeros], True)
    np.testing.assert_allclose(got["y"], np.concatenate([y_a, y_b], axis=-1), rtol=0, atol=1e-12)
    for key, a, b in zip("hc", finals_a, finals_b, strict=False):
        np.testing.assert_allclose(got[key], np.concatenate([a, b], axis=-1), rtol=0, atol=1e-12)


def test_a_graph_of_everything_else() -> None:
    """Embedding, residual stack of two recurrent layers, many-to-one, concat, softmax, two outputs side by side."""
    rng = np.random.default_rng(8)
    (first, run_first, _), (second, run_second, _) = gru_case(rng, False, True), rnn_case(rng, "tanh")
    table, V, v = rng.normal(size=(9, I)), rng.normal(size=(P, 2 * H)), rng.normal(size=P)
    W_in, b_in = rng.normal(size=(H, I)), rng.normal(size=H)
    ids = rng.integers(0, 9, size=(len(LENGTHS), STEPS))
    x = layers.embedding(layers.tokens("ids", 9), table)
    a = first(x)
    widened = layers.activation(layers.dense(x, W_in, b_in), "tanh")
    b = second(layers.dense(a.output, np.eye(I, H)))
    summed = layers.add(layers.add(widened, a.output), b.output)
    joined = layers.concat(a.h_n, layers.last_step(summed))
    outputs = {"y": summed, "p": layers.softmax(layers.dense(joined, V, v)), "states": (a.h_n, b.h_n)}
    model = layers.model("m", outputs)
    got = run_oracle(model, {"ids": ids}, LENGTHS).outputs
    zeros = np.zeros((len(LENGTHS), H))
    y_a, (h_a,) = naive_batch(run_first, table[ids], [zeros, zeros], False)
    y_b, (h_b,) = naive_batch(run_second, y_a[:, :, :I], [zeros, zeros], False)
    for n, length in enumerate(LENGTHS):
        total = np.tanh(table[ids[n]] @ W_in.T + b_in) + y_a[n] + y_b[n]
        np.testing.assert_allclose(got["y"][n, :length], total[:length], rtol=0, atol=1e-12)
        assert not got["y"][n, length:].any()
        end = total[length - 1] if length else np.zeros(H)
        logits = V @ np.concatenate([h_a[n], end]) + v
        np.testing.assert_allclose(got["p"][n], naive.softmax(logits.tolist()), rtol=0, atol=1e-12)
    np.testing.assert_allclose(got["states"], np.concatenate([h_a, h_b], axis=1), rtol=0, atol=1e-12)
