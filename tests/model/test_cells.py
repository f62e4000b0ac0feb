"""Declarations of cells: their step loops keep to the small language, and say of a layer what its arrays are."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from models import Shape, make_model

import qrnn
from qrnn import layers
from qrnn.arithmetic import CONTRACT
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.kinds.recurrent.cells import CELLS
from qrnn.model.kinds.recurrent.definition import GATE_ROLE
from qrnn.model.parts import CELL_MAX, STATE_MAX
from qrnn.model.quant_model import QuantModel

SHAPES = {
    "lstm": Shape("lstm", 4, 5, (False, True)),
    "lstm, projection": Shape("lstm", 4, 6, projection=3, peephole=0.3),
    "gru": Shape("gru", 4, 5),
    "rnn": Shape("rnn", 4, 5, (True,)),
}
H, I = 5, 4


def quantized(name: str) -> QuantModel:
    rng = np.random.default_rng(1)
    if name in SHAPES:
        model = make_model(SHAPES[name], rng)
    else:
        x, weight = layers.input("x", I), rng.normal(size=(2 * H, I))
        if name == "min_gru":
            h = layers.min_gru(x, weight)
        elif name == "indrnn":
            h = layers.indrnn(x, weight[:H], rng.uniform(-1, 1, H))
        else:
            h = normalized(name, x, rng)
        model = layers.model(name, {"y": h.output})
    return qrnn.quantize(model, {"x": rng.normal(size=(4, 9, I))}, qrnn.Scheme(input="8"))


def normalized(name: str, x: layers.Tensor, rng: np.random.Generator) -> layers.Recurrent:
    """A cell with layer normalization: of sums, or of x, h and c apart."""
    W, U, gain = rng.normal(size=(4 * H, I)), rng.normal(size=(4 * H, H)), rng.uniform(0.5, 1, 4 * H)
    if "gru" in name:
        G, after = 3 * H, "before" not in name
        norms = {"norm_sum": gain[:G]} if name.endswith("sum") else {"norm_x": gain[:G], "norm_h": gain[:G]}
        return layers.layer_norm_gru(x, W[:G], U[:G], **norms, linear_before_reset=after)
    if name.endswith("sum"):
        return layers.layer_norm_lstm(x, W, U, norm_sum=gain)
    return layers.layer_norm_lstm(x, W, U, norm_x=gain, norm_h=gain, norm_c=gain[:H])


def layer_of(name: str) -> QuantRecurrent:
    return quantized(name).recurrent_layers[0]


NAMES = [*SHAPES, "min_gru", "indrnn", "layer_norm_lstm", "layer_norm_lstm, sum"]
NAMES += [f"layer_norm_gru{form}{sums}" for form in ("", ", before") for sums in ("", ", sum")]


def test_every_cell_is_looked_at() -> None:
    assert {layer_of(name).cell for name in NAMES} == set(CELLS)


def test_a_letter_means_the_same_in_all_cells() -> None:
    for cell in CELLS.values():
        assert {gate.name: gate.role for gate in cell.functions}.items() <= GATE_ROLE.items()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_keeps_to_the_small_language(name: str) -> None:
    """What a `StepLoop` may be made of: whoever translates or compiles it knows no more."""
    make = layer_of(name).direction_loop(0).make
    (outer,) = ast.parse(textwrap.dedent(inspect.getsource(make))).body
    assert isinstance(outer, ast.FunctionDef)
    *bindings, step, back = (node for node in outer.body if not isinstance(node, ast.Expr))
    assert isinstance(step, ast.FunctionDef)
    assert isinstance(back, ast.Return)
    bound = {
        target.id: value.attr
        for assign in bindings
        for target, value in zip(*map(members, (assign.targets[0], assign.value)), strict=True)  # type: ignore[attr-defined]
    }
    assert all(name == of for name, of in bound.items())
    assert set(bound) <= {function.__name__ for function in CONTRACT} | {"dot"}
    axes = {a.arg: 3 if a.arg in ("x", "out") else 2 for a in step.args.args if a.arg in ("x", "out", "h", "c")}
    allowed = (
        *(
            ast.Assign,
            ast.For,
            ast.If,
            ast.Return,
            ast.BinOp,
            ast.operator,
            ast.UnaryOp,
            ast.unaryop,
            ast.BoolOp,
            ast.boolop,
        ),
        *(
            ast.Compare,
            ast.cmpop,
            ast.Call,
            ast.Name,
            ast.Constant,
            ast.Subscript,
            ast.Tuple,
            ast.Attribute,
            ast.expr_context,
        ),
    )
    for statement in step.body:
        for node in ast.walk(statement):
            assert isinstance(node, allowed), ast.dump(node)
            if isinstance(node, ast.Call):
                assert isinstance(node.func, ast.Name)
                assert node.func.id in {*bound, "range"}
                assert not node.keywords
            elif isinstance(node, ast.Attribute):
                assert node.attr == "shape"
            elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in axes:
                assert len(members(node.slice)) == axes[node.value.id]
            elif isinstance(node, ast.Constant):
                assert type(node.value) is int


def members(node: ast.AST) -> list[Any]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_loop_is_given(name: str) -> None:
    layer = layer_of(name)
    for number in range(len(layer.directions)):
        loop = layer.direction_loop(number)
        assert loop.scratch[0].shape == (len(layer.gates) * layer.hidden_size,)
        assert loop.scratch[0].dtype is np.int16
        assert len(inspect.signature(loop.make(Anything())).parameters) == 7 + len(loop.parameters) + len(loop.scratch)
        for parameter in loop.parameters:
            assert type(parameter) is int or parameter.dtype.kind == "i"


class Anything:
    def __getattr__(self, name: str) -> None:
        return None


@pytest.mark.parametrize("name", NAMES)
def test_states(name: str) -> None:
    layer = layer_of(name)
    h, c = layer.states()
    D = len(layer.directions)
    assert (h.name, h.shape, h.dtype, h.limit) == ("h", (D, layer.output_size), np.int16, STATE_MAX)
    assert (c.name, c.shape, c.dtype, c.limit) == ("c", (D, layer.cell_size), np.int32, CELL_MAX)
    assert h.starts == tuple(d.h_0 for d in layer.directions)
    assert len(c.starts) == (D if layer.has_cell_state else 0)
    assert (h.frac, c.frac) == (layer.h_frac, layer.c_frac)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_finds_an_accumulator_that_leaves_int32(name: str) -> None:
    model = quantized(name)
    (layer,) = model.layers
    assert isinstance(layer, QuantRecurrent)
    d = layer.directions[0]
    ih = replace(d.ih, bias=np.full_like(d.ih.bias, 1 << 30), left_shift=np.full_like(d.ih.left_shift, 1))
    wrong = replace(layer, directions=(replace(d, ih=ih), *layer.directions[1:]))
    engine, (h, c) = qrnn.Session(model, "reference").engine, layer.states()
    state = np.zeros((1, *h.shape), np.int16), np.zeros((1, *c.shape), np.int32)
    with pytest.raises(
        AssertionError, match="the overflow proof is wrong"
    ):  # a `QuantModel` of this layer is refused by the proof
        engine.recurrent(wrong, np.zeros((1, 2, I), np.int16), state, np.array([2]), None)
