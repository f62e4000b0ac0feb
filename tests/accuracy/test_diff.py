"""Differences of two models: none, of scheme and weights, of what comes out, and of models that do not go together."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

from qrnn.accuracy.diff import diff
from qrnn.conversion import quantize
from qrnn.errors import DataError
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

SHAPE = Shape("lstm", 4, 6, head=3)
DATA: dict[str, Any] = {
    "x": np.random.default_rng(0).normal(size=(70, 9, 4)),
    "lengths": np.random.default_rng(1).integers(1, 9, 70),
}


def made(shape: Shape = SHAPE, **scheme: Any) -> QuantModel:
    return quantize(make_model(shape, np.random.default_rng(1)), DATA, Scheme(input="8", **scheme))


def test_identical() -> None:
    found = diff(made(), made(), DATA)
    assert found.identical
    assert {o.name for o in found.outputs} == {"y", "h", "c"}
    assert all(math.isinf(o.sqnr_db) and o.differ == 0 and o.largest == 0 for o in found.outputs)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["identical"] is True


def test_rounding_only() -> None:
    a, b = made(), made(refine="rounding")
    found = diff(a, b, DATA)
    assert not found.identical
    changes = {c.what: (c.a, c.b) for c in found.changes}
    assert changes == {"scheme refine": (None, "rounding")}
    moved = {m.name: m for m in found.matrices}
    for name, m in moved.items():
        assert 0 < m.changed <= m.weights, name
        assert (m.biases, m.multipliers, m.bits) == (0, 0, (8, 8))
    results = [Session(m).run({"x": DATA["x"]}, DATA["lengths"]).outputs["y"] for m in (a, b)]
    y = next(o for o in found.outputs if o.name == "y")
    worst = np.abs(results[0] - results[1]).reshape(70, -1).max(axis=1)
    assert y.worst_sequence == worst.argmax()
    assert y.largest == worst.max()
    assert y.total == DATA["lengths"].sum()
    decided = [r.argmax(axis=2)[np.arange(9) < DATA["lengths"][:, None]] for r in results]
    assert y.differ == (decided[0] != decided[1]).sum()


def test_widths_and_gates() -> None:
    found = diff(made(), made(weights=4, activations=16, gates="forget=pwl:32"))
    what = {c.what for c in found.changes}
    assert {"scheme weights", "scheme activations", "scheme gates", "layer0: formats", "layer0[0]: gate f"} <= what
    assert "layer0[0]: gate i" not in what
    assert next(m.bits for m in found.matrices if m.name.endswith("weight_hh")) == (8, 4)
    assert found.sizes["weights"][1] < found.sizes["weights"][0]
    assert found.outputs == ()


def test_other_models() -> None:
    other = made(Shape("gru", 4, 6, head=3))
    found = diff(made(), other)
    assert any(m.changed == m.weights for m in found.matrices)
    with pytest.raises(DataError, match="leave --data out"):
        diff(made(), other, DATA)


def test_nothing_is_overlooked() -> None:
    """Any integer and any text: identical is what files with the same bytes are."""
    a = made()
    layer = a.recurrent_layers[0]
    h_0 = layer.directions[0].h_0
    moved = replace(layer.directions[0], h_0=replace(h_0, value=h_0.value + 9000))
    layers = tuple(replace(layer, directions=(moved,)) if p is layer else p for p in a.layers)
    found = diff(a, replace(a, layers=layers), DATA)
    (change,) = found.changes
    assert change.what.endswith("h_0.value")
    assert next(o for o in found.outputs if o.name == "y").largest > 0
    renamed = diff(a, replace(a, name="other"))
    assert [c.what for c in renamed.changes] == ["names, decisions or notes"]
