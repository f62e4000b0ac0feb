"""A small model of every kind that exported C treats in a way of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from backends.generators import Case
from models import Shape
from pruned import network

from export.building import quantized
from qrnn import layers
from qrnn.model.activation import Activation
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.concat import Concat
from qrnn.model.quant_model import QuantModel
from qrnn.model.window import Window, causal
from qrnn.quantization.scheme import Scheme

WIDE = Scheme(16, input="16")
LINEAR = {"gate": Activation("affine", 0.5, 0.5), "candidate": Activation("elu", 1.0), "output": Activation("softplus")}

CASES = {
    "lstm": Case(Shape("lstm", 3, 7), "softmax"),
    "gru after": Case(Shape("gru", 3, 9), "sigmoid", last_step=True),
    "gru before": Case(Shape("gru", 3, 6, linear_before_reset=False), "dense"),
    "gru of 16 bits": Case(Shape("gru", 5, 9), "dense", scheme=WIDE),
    "gru before of 16 bits": Case(Shape("gru", 5, 6, linear_before_reset=False), "none", scheme=WIDE),
    "rnn": Case(Shape("rnn", 2, 5, activations={"candidate": Activation("relu")}), "tanh"),
    "bidirectional": Case(Shape("lstm", 3, 5, (False, True)), "softmax", last_step=True),
    "stacked": Case(Shape("gru", 3, 6, layers=2, residual=True), "dense", concat=True),
    "peepholes and projection": Case(Shape("lstm", 3, 7, forget="coupled", peephole=0.5, projection=3), "dense"),
    "softmax fed back": Case(Shape("lstm", 3, 4, projection=5, projected="softmax", clip=0.5), "none"),
    "left shift": Case(Shape("lstm", 3, 5, weight=1e-3, bias=0.0), "dense", amplitude=1e-3),
    "pre-shift": Case(Shape("lstm", 3, 5, weight=50.0, bias=1000.0), "none", amplitude=1e4),
    "steps": Case(Shape("gru", 3, 5, activations={"gate": Activation("step")}), "step"),
    "long rows": Case(Shape("rnn", 300, 3), "none"),
    "long rows of a gru": Case(Shape("gru", 257, 3, linear_before_reset=False), "none", scheme=Scheme(16)),
    "four bits": Case(Shape("lstm", 40, 33), "dense", scheme=Scheme(input="8", weights=4)),
    "four bits of 16": Case(Shape("gru", 70, 34), "dense", scheme=Scheme(16, input="16", weights=4)),
    "unbounded gates": Case(Shape("lstm", 5, 5, activations=LINEAR, weight=0.2), "softplus"),
}


def embedded(
    ports: tuple[str, str, str] = ("ids", "profile", "y"), own: tuple[str, str, str] = ("words", "cells", "logits")
) -> FloatModel:
    """Tokens into an LSTM, its last state beside an input without a time axis; outputs of states and of more than one tensor.

    ``ports``: names of the inputs and of an output; ``own``: of the layers.
    """
    rng = np.random.default_rng(3)
    tokens, profile = layers.tokens(ports[0], 11), layers.input(ports[1], 3, has_time=False)
    x = layers.embedding(tokens, rng.normal(size=(11, 4)), name=own[0])
    weights = rng.normal(size=(20, 4)), rng.normal(size=(20, 5))
    lstm = layers.lstm(x, *weights, h_0=rng.uniform(-1, 1, 5), name=own[1])
    y = layers.softmax(layers.dense(layers.concat(lstm.h_n, profile), rng.normal(size=(4, 8)), name=own[2]))
    return layers.model("embedded", {ports[2]: y, "states": (lstm.c_n, lstm.h_n), "several": (lstm.h_n, y)})


def direct() -> FloatModel:
    """An LSTM that reads an input of the model, and whose h is an output: kernels may read and write where the caller has them."""
    rng = np.random.default_rng(16)
    x = layers.input("x", 8)
    y = layers.lstm(x, rng.uniform(-0.3, 0.3, (48, 8)), rng.uniform(-0.3, 0.3, (48, 12))).output
    return layers.model("direct", {"y": y})


def shared() -> FloatModel:
    """Both directions, and layers that serve two outputs."""
    rng = np.random.default_rng(4)
    x = layers.input("x", 1)
    ways = [
        layers.gru(x, rng.normal(size=(3, 1)), rng.normal(size=(3, 1)), reverse=reverse) for reverse in (False, True)
    ]
    last = layers.last_step(layers.bidirectional(*ways).output)
    logits = layers.dense(last, rng.normal(size=(2, 2)))
    return layers.model(
        "shared", {"p": layers.softmax(logits), "logits": logits, "q": layers.softmax(last), "last": last}
    )


def moved() -> FloatModel:
    """Features that are moved, repeated and padded with zeros before a GRU."""
    rng = np.random.default_rng(6)
    x = layers.input("x", 3)
    gru = layers.gru(layers.concat(x, x), rng.normal(size=(15, 6)), rng.normal(size=(15, 5)))
    model = layers.model("moved", {"y": gru.output})
    concat, *others = model.layers
    assert isinstance(concat, Concat)
    parts = (("x", np.array([2, -1, 0, 0, -1, 1])),)
    return replace(model, layers=(replace(concat, parts=parts), *others))


def windows(bits: int, strides: bool = False) -> FloatModel:
    """Convolutions over time and bands: of all channels, of groups and of each channel alone; a pool over both; a GRU.

    The GRU is a larger one for ``bits`` 4, so that its weights stay four bits. With ``strides``, windows skip steps and look ahead, so that
    rows come out at some steps and at the end.
    """
    rng = np.random.default_rng(bits)
    over_time = {"stride": 2, "padding": (1, 1)} if strides else {"dilation": 2}
    band, half = Window(3, before=1, after=1), Window(2, 2)
    x = layers.input("x", 2 * 6)
    c = layers.conv(x, rng.normal(size=(9, 2, 3, 3)), rng.normal(size=9), band=band, bands=6, name="all", **over_time)  # type: ignore[arg-type]
    c = layers.max_pool(c, Window(2, 1, 1, 1, 1) if strides else causal(2), band=half, bands=6)
    c = layers.conv(c, 1e-3 * rng.normal(size=(9, 1, 2, 3)), band=band, bands=3, groups=9, name="each")
    c = layers.conv(c, 50 * rng.normal(size=(6, 3, 2, 1)), bands=3, groups=3, name="groups")
    units = 33 if bits == 4 else 5
    gru = layers.gru(c, rng.normal(size=(3 * units, 18)), rng.normal(size=(3 * units, units)))
    return layers.model("windows", {"y": gru.output})


def whole() -> FloatModel:
    """Fewer rows than steps, a sum of tensors of which one comes later, both directions, and what follows the last row."""
    rng = np.random.default_rng(11)
    x = layers.conv(layers.input("x", 5), rng.normal(size=(6, 5, 3)), stride=2, padding=(1, 1))
    x = layers.add(x, layers.conv(x, rng.normal(size=(6, 6, 5)), padding=(2, 2)))
    ways = [
        layers.lstm(x, rng.normal(size=(20, 6)), rng.normal(size=(20, 5)), reverse=reverse) for reverse in (False, True)
    ]
    both = layers.bidirectional(*ways)
    last = layers.dense(layers.last_step(both.output), rng.normal(size=(3, 10)))
    return layers.model("whole", {"y": both.output, "last": last, "c": both.c_n})


GRAPHS: dict[str, tuple[Callable[[], FloatModel], Scheme | None]] = {
    "embedded": (embedded, None),
    "direct": (direct, Scheme(activations=8, input="8")),
    "shared": (shared, None),
    "moved": (moved, None),
    "windows": (lambda: windows(8), None),
    "windows of 16 bits with strides": (lambda: windows(16, strides=True), WIDE),
    "whole": (whole, None),
    "windows beside four bits": (lambda: windows(4), Scheme(16, input="16", weights=4)),
    "lists of tiles": (lambda: network(1, "lstm", 37, 24, (8, 4), 0.15), Scheme(input="8")),
    "lists of rows of 16 bits": (lambda: network(2, "gru", 37, 24, (1, 8), 0.08), WIDE),
}
KINDS = (*CASES, *GRAPHS)


@cache
def kind(name: str) -> QuantModel:
    """The quantized model of one of `KINDS`."""
    if name in GRAPHS:
        made, scheme = GRAPHS[name]
        return quantized(made(), scheme)
    return replace(CASES[name], lengths=(5, 4)).quantized()
