"""Products of matrices within a step, and softmax by groups: by their equations, and in integers everywhere."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from export.building import check
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reductions import everywhere

import qrnn
from qrnn import DataError, ModelFileError, Session, layers
from qrnn.arithmetic.gates import exp_weight, softmax_divide
from qrnn.backends import available_backends
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.group_softmax import QuantGroupSoftmax
from qrnn.model.kinds.matmul import QuantMatMul
from qrnn.model.quant_model import QuantModel

pytestmark = pytest.mark.usefixtures("loops")

Array = npt.NDArray[Any]


def network(groups: int, rows: int, inner: int, columns: int, seed: int = 0) -> FloatModel:
    """The products of matrices of a GRU's steps, their softmax by rows, and the last step of it."""
    rng, x = np.random.default_rng(seed), layers.input("x", 3)
    h = layers.gru(x, rng.normal(size=(15, 3)), 0.4 * rng.normal(size=(15, 5))).output
    left = layers.dense(h, 2 * rng.normal(size=(groups * rows * inner, 5)))
    right = layers.dense(h, rng.normal(size=(groups * inner * columns, 5)), rng.normal(size=groups * inner * columns))
    product = layers.matmul(left, right, rows, columns, groups=groups, name="product")
    shares = layers.group_softmax(product, groups * rows, name="shares")
    outputs = {"left": left, "right": right, "product": product, "shares": shares, "last": layers.last_step(shares)}
    return layers.model("m", outputs)


@cache
def made_of(*sizes: int) -> QuantModel:
    x = np.random.default_rng(1).normal(size=(6, 12, 3))
    return quantize(network(*sizes), {"x": x}, qrnn.Scheme(input="8"))


def layer_of(model: QuantModel, kind: type) -> Any:
    (layer,) = (layer for layer in model.layers if isinstance(layer, kind))
    return layer


SIZES = [(1, 1, 1, 1), (1, 3, 2, 4), (3, 2, 4, 2), (2, 1, 5, 3)]


@pytest.mark.parametrize("sizes", SIZES)
def test_equations(sizes: tuple[int, int, int, int]) -> None:
    groups, rows, inner, columns = sizes
    found = run_oracle(network(*sizes), {"x": np.random.default_rng(2).normal(size=(2, 5, 3))}).outputs
    for n, t in np.ndindex(2, 5):
        a = found["left"][n, t].reshape(groups, rows, inner)
        b = found["right"][n, t].reshape(groups, inner, columns)
        want = np.stack([a[g] @ b[g] for g in range(groups)])
        np.testing.assert_allclose(found["product"][n, t], want.reshape(-1), atol=1e-12)
        shares = np.exp(want) / np.exp(want).sum(axis=2, keepdims=True)
        np.testing.assert_allclose(found["shares"][n, t], shares.reshape(-1), atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES)
def test_integers_are_exact_and_rounded_once(sizes: tuple[int, int, int, int]) -> None:
    """From the integers of both factors to those of the product, and of these to their shares, by the contract's functions."""
    groups, rows, inner, columns = sizes
    made = made_of(*sizes)
    got = (
        Session(made, "reference", integers=True)
        .run({"x": np.random.default_rng(3).integers(-127, 128, (2, 5, 3))})
        .outputs
    )
    product, shares = layer_of(made, QuantMatMul), layer_of(made, QuantGroupSoftmax)
    shift = product.left_frac + product.right_frac - product.out_frac
    table = [int(v) for v in shares.table]
    for n, t in np.ndindex(2, 5):
        a = got["left"][n, t].astype(object).reshape(groups, rows, inner)
        b = got["right"][n, t].astype(object).reshape(groups, inner, columns)
        for g, i in np.ndindex(groups, rows):
            own = got["product"][n, t].reshape(groups, rows, columns)[g, i].tolist()
            for j in range(columns):
                total = sum(int(a[g, i, k]) * int(b[g, k, j]) for k in range(inner))
                assert own[j] == max(-32768, min(32767, (total + (1 << shift >> 1)) >> shift))
            weights = [exp_weight(max(own) - v, shares.in_frac, table) for v in own]
            want = [softmax_divide(w, sum(weights)) for w in weights]
            assert got["shares"][n, t].reshape(groups, rows, columns)[g, i].tolist() == want


@pytest.mark.parametrize("backend", available_backends())
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_backends_agree(backend: str, data: st.DataObject) -> None:
    made = made_of(*data.draw(st.sampled_from(SIZES)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    everywhere(backend, made, rng.normal(0, 3, (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 9)), 3)), data)


@pytest.mark.parametrize("cc", ["gcc", "clang"])
@pytest.mark.parametrize("sizes", SIZES[1:3])
def test_exported_c(sizes: tuple[int, int, int, int], cc: str, tmp_path: Any) -> None:
    check(made_of(*sizes), tmp_path, cc)


def test_file(tmp_path: Any) -> None:
    made, x = made_of(*SIZES[2]), np.random.default_rng(5).normal(size=(4, 10, 3))
    qrnn.save(made, tmp_path / "m.qrnn")
    again = qrnn.load(tmp_path / "m.qrnn")
    for name, values in Session(made, "reference").run({"x": x}).outputs.items():
        np.testing.assert_array_equal(Session(again).run({"x": x}).outputs[name], values)


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1), (1, 1, 1, 1 << 25), (1 << 12, 1 << 12, 1 << 12, 1)])
def test_a_layer_of_other_sizes_is_refused(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ModelFileError, match=r"products|groups, rows, inner, columns"):
        QuantMatMul("m", "a", "b", "y", 10, 10, 10, *sizes)


def test_refusals() -> None:
    x, v = layers.input("x", 6), layers.input("v", 6, has_time=False)
    for says, call in {
        "inputs of 6 and 6 features, expected groups · rows · K": lambda: layers.matmul(x, x, 4, 1),
        "one of its inputs has a time axis": lambda: layers.matmul(x, v, 2, 2),
        "groups=4, expected a divisor of its input's 6 features": lambda: layers.group_softmax(x, 4),
    }.items():
        with pytest.raises(DataError, match=says):
            call()
