"""sequence_lens, initial states and missing inputs and outputs of recurrent nodes."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qrnn.accuracy.onnxruntime_run import RuntimeRefusedError, run_onnxruntime
from qrnn.equations.oracle import run_oracle
from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.model.batch import make_batch
from qrnn.onnx_import import import_model

from .builders import Graph, outputs_of, single
from .running import Arrays, agree, data, refused_with

OPS = ["LSTM", "GRU", "RNN"]
X = data(6, 3, 4)  # [T, N, I]


refused = partial(refused_with, UnsupportedError)


@pytest.mark.parametrize("lengths", [[0, 6, 2], [1, 0, 0], [3, 5, 6]])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", OPS)
def test_lengths(op: str, direction: str, lengths: list[int]) -> None:
    """Y, Y_h and Y_c of a sequence of no steps are zero, whatever its initial state."""
    count = 2 if direction == "bidirectional" else 1
    feeds: Arrays = {"X": X, "lens": np.array(lengths, np.int32), "initial_h": data(count, 3, 5)}
    if op == "LSTM":
        feeds["initial_c"] = data(count, 3, 5, seed=2)
    agree(single(op, direction=direction, lengths=True, states=True), feeds)


@pytest.mark.parametrize("op", OPS)
def test_lengths_in_groups(op: str, tmp_path: Path) -> None:
    """`run_onnxruntime` runs sequences of equal length together, those of no steps too."""
    pytest.importorskip("onnxruntime")
    proto = single(op, direction="bidirectional", lengths=True, states=True)
    onnx.save(proto, tmp_path / "model.onnx")
    model = import_model(proto, "model")
    inputs = {"X": data(4, 6, 4), "lens": np.array([2, 0, 6, 0]), "initial_h": data(4, 2, 5)}
    expected = run_oracle(model, inputs).outputs
    batch = make_batch(model.inputs, inputs)
    for name, value in run_onnxruntime(model, tmp_path / "model.onnx", batch).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-4, rtol=1e-4)


def test_no_steps_without_lengths(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    onnx.save(single("GRU"), tmp_path / "model.onnx")
    model = import_model(single("GRU"), "model")
    batch = make_batch(model.inputs, {"X": data(2, 6, 4), "lengths": np.array([6, 0])})
    with pytest.raises(RuntimeRefusedError, match="a sequence of no steps, in a graph without sequence_lens"):
        run_onnxruntime(model, tmp_path / "model.onnx", batch)


def constant_lengths(lengths: list[int], time: Any = 6) -> onnx.ModelProto:
    g = Graph(14)
    lens = g.const(np.array(lengths, np.int32), "lens")
    g.recurrent("GRU", g.input("X", [time, "n", 4]), 4, 5, name="node", lengths=lens, outputs=["Y", "Y_h"])
    g.output("Y", 4)
    g.output("Y_h")
    return g.model()


def test_constant_lengths_of_all_steps_are_no_lengths() -> None:
    agree(constant_lengths([6, 6, 6]), {"X": X})


@pytest.mark.parametrize(
    ("lengths", "time", "says"),
    [
        ([6, 2, 6], 6, "the constant [2, 6] where X has 6 steps"),
        ([5, 5, 5], 6, "the constant [5] where X has 6 steps"),
        ([6, 6, 6], "t", "the constant [6] where X has any number of steps"),
        ([0, 0, 0], 6, "the constant [0] where X has 6 steps"),
    ],
)
def test_other_constant_lengths(lengths: list[int], time: Any, says: str) -> None:
    refused(
        constant_lengths(lengths, time),
        f"node 'node' (GRU, opset 14): sequence_lens 'lens' is {says}, which binds the model to one batch; re-export with "
        "sequence_lens as a graph input [N] or without it",
    )


def constant_state(array: np.ndarray[Any, Any], op: str = "GRU", layout: int = 0) -> onnx.ModelProto:
    g = Graph(14)
    state = g.const(array.astype(np.float32), "start")
    more = {"h": state} if op == "GRU" else {"c": state}
    if layout:
        more["layout"] = layout
    g.recurrent(op, g.input("X", ["t", "n", 4]), 4, 5, name="node", outputs=outputs_of(op), directions=2, **more)
    g.output("Y_h")
    return g.model()


@pytest.mark.parametrize("op", ["GRU", "LSTM"])
def test_constant_states_equal_for_all(op: str) -> None:
    start = np.repeat(data(2, 1, 5), 3, axis=1)
    model = agree(constant_state(start, op), {"X": X})
    direction = model.layers[0].directions[1]
    np.testing.assert_array_equal((direction.h_0 if op == "GRU" else direction.c_0).value, start[1, 0])


def test_constant_states_batch_first() -> None:
    start = np.repeat(data(1, 2, 5), 3, axis=0)
    model = import_model(constant_state(start, layout=1), "test")
    assert [d.h_0.value.tolist() for d in model.layers[0].directions] == start[0].tolist()


def test_constant_states_that_differ() -> None:
    refused(
        constant_state(data(2, 3, 5)),
        "node 'node' (GRU, opset 14): initial_h 'start' holds other constants for each of 3 sequences",
        "re-export with it as a graph input or equal for all",
    )


@pytest.mark.parametrize("shape", [(1, 1, 5), (2, 1, 4), (2, 5), (2, 0, 5)])
def test_constant_states_of_another_shape(shape: tuple[int, ...]) -> None:
    refused_with(
        ModelFileError,
        constant_state(np.zeros(shape)),
        f"initial_h has shape {list(shape)}, expected [2, N, 5]",
    )


@pytest.mark.parametrize("op", OPS)
def test_every_choice_of_outputs(op: str) -> None:
    names = outputs_of(op)
    for present in product([False, True], repeat=len(names)):
        if not any(present):
            continue
        outputs = [name if given else "" for name, given in zip(names, present, strict=True)]
        agree(single(op, outputs=outputs, direction="bidirectional"), {"X": X})
        while not outputs[-1]:
            outputs.pop()
        agree(single(op, outputs=outputs), {"X": X})


@pytest.mark.parametrize("given", [*product([False, True], repeat=5)])
def test_every_choice_of_inputs(given: tuple[bool, ...]) -> None:
    """B, sequence_lens, initial_h, initial_c and P of an LSTM; trailing empty names are left out, others stay empty."""
    bias, lengths, h, c, peepholes = given
    g = Graph(14)
    x, feeds = g.input("X", ["t", "n", 4]), {"X": X}
    names = {"lengths": "", "h": "", "c": ""}
    if lengths:
        names["lengths"] = g.input("lens", ["n"], onnx.TensorProto.INT32)
        feeds["lens"] = np.array([2, 6, 0], np.int32)
    for key, wanted in (("h", h), ("c", c)):
        if wanted:
            names[key] = g.input(key, [1, "n", 5])
            feeds[key] = data(1, 3, 5, seed=len(feeds))
    g.recurrent("LSTM", x, 4, 5, outputs=outputs_of("LSTM"), bias=bias, peepholes=peepholes, **names)
    for name in outputs_of("LSTM"):
        g.output(name, 4 if name == "Y" else 3)
    agree(g.model(), feeds)


def test_a_final_cell_state_that_no_input_starts() -> None:
    """Y_c has the shape of initial_h, which Y_h is carried to; with Y_h away Y_c cannot be taken for it either."""
    feeds = {"X": X, "h": data(1, 3, 5)}
    for outputs in (["Y", "Y_h", "Y_c"], ["", "", "Y_c"]):
        g = Graph(14)
        g.recurrent("LSTM", g.input("X", ["t", "n", 4]), 4, 5, h=g.input("h", [1, "n", 5]), outputs=outputs)
        for name in filter(None, outputs):
            g.output(name, 4 if name == "Y" else 3)
        agree(g.model(), feeds)
