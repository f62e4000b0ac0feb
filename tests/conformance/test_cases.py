"""Every case of docs/conformance.md: float against ONNX Runtime or the stored outputs, integers against each other and against float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from conformance_cases import NODE_ATOL, NODE_RTOL, Case, golden_cases, node_cases, own_cases
from conformance_elementwise import elementwise_cases
from conformance_measure import NEAR, Result, measure, run_float
from conformance_moves import MOVES, UPSAMPLING, move_cases, upsampling_cases
from conformance_norms import norm_cases
from conformance_reductions import POOLS, REDUCTIONS, reduction_cases
from conformance_tool import GOLDEN_DIFFERENCE, OWN_DIFFERENCE, reason, within_bound

from qrnn.errors import DataError
from qrnn.onnx_backend import prepare

SHARED = Path(__file__).parents[3] / "shared"
HERE = (SHARED / "vectors").is_dir()
needs_vectors = pytest.mark.skipif(not HERE, reason="the shared vectors are not here")
GOLDEN = list(golden_cases(SHARED)) if HERE else []
NODE = list(node_cases(SHARED)) if HERE else []
OWN = list(own_cases())
NORM = list(norm_cases())
REDUCTION = list(reduction_cases())
ELEMENTWISE = list(elementwise_cases())
MOVED = list(move_cases())
UPSAMPLED = list(upsampling_cases())
RESULTS: dict[int, Result] = {}


def measured(case: Case) -> Result:
    """The result of a case of the lists above, measured once for all tests that ask for it."""
    if id(case) not in RESULTS:
        RESULTS[id(case)] = measure(case)
    return RESULTS[id(case)]


BEYOND = "GRUTest.ONNXRuntime_TestGRUPositiveActivationClipping"
"""Inputs of 1e3 and 1e20 in one tensor."""


def name(case: Case) -> str:
    return case.name


def assert_integers(result: Result) -> None:
    """Equal on every backend; no further from float than half steps explain, and with words where far."""
    assert result.outputs, result.not_quantized
    assert result.equal
    assert within_bound(result), result.outputs
    assert bool(reason(result)) == (result.relative > NEAR)


@pytest.mark.shard_by("case")
@pytest.mark.wide(cover=False, keep=8)
@pytest.mark.parametrize("case", OWN, ids=name)
def test_own_case(case: Case) -> None:
    result = measured(case)
    assert not result.refused
    assert result.difference <= OWN_DIFFERENCE
    assert_integers(result)
    lengths = case.inputs.get("sequence_lens")
    ends = lengths is not None and not lengths.any()
    assert all((o.peak == 0.0) == ends for o in result.outputs)  # a case of zeros would show nothing


@pytest.mark.shard_by("case")
@pytest.mark.wide(cover=False, keep=5)
@needs_vectors
@pytest.mark.parametrize("case", GOLDEN, ids=name)
def test_golden_case(case: Case) -> None:
    result = measured(case)
    if case.fails:
        assert result.refused.startswith("DataError: lengths")
        return
    assert not result.refused
    assert result.difference <= GOLDEN_DIFFERENCE
    if case.feature == BEYOND:
        assert result.not_quantized.startswith("QuantizationError")
    else:
        assert_integers(result)


@pytest.mark.wide(cover=False, keep=3)
@needs_vectors
@pytest.mark.parametrize("case", NODE, ids=name)
def test_node_case(case: Case) -> None:
    assert case.expected is not None
    outputs = run_float(case)[1]
    for got, output in zip(outputs, case.model.graph.output, strict=True):
        want = case.expected[output.name]
        assert got.dtype == want.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=NODE_RTOL, atol=NODE_ATOL)
    assert_integers(measured(case))


NORM_REFUSALS = {
    "over the batch axis": lambda op, axis, p: op.startswith(("Layer", "RMS")) and axis == "N",
    "Scale has shape": lambda op, axis, p: op.startswith(("Layer", "RMS")) and axis == "T",
    "is time; only the norm of features": lambda op, axis, p: op.startswith("Lp") and p == 2 and axis == "T",
    "p=1 is not supported": lambda op, axis, p: op.startswith("Lp") and p == 1,
}
"""What a refusal says, and of which operators it is, by the first axis that is normalized and the order of a norm."""


@pytest.mark.parametrize("case", NORM, ids=name)
def test_norm_case(case: Case) -> None:
    """A normalization runs over features, and over time where weights are the same at all steps; any other is refused for what it is."""
    node, dims = case.model.graph.node[0], case.model.graph.input[0].type.tensor_type.shape.dim
    values = {a.name: a.i for a in node.attribute}
    names = [d.dim_param for d in dims][values.get("axis", -1) % len(dims) :]
    axis = "N" if "N" in names and not node.op_type.startswith("Lp") else names[0]
    expected = [says for says, holds in NORM_REFUSALS.items() if holds(node.op_type, axis, values.get("p", 2))]
    result = measured(case)
    if expected:
        assert any(says in result.refused for says in expected), result.refused
        return
    assert not result.refused
    assert result.within_node_tolerance
    assert_integers(result)
    assert [o.name for o in result.outputs] == list(case.compared)


def is_supported(case: Case) -> bool:
    """Whether constants are one for all features, or for each where the operator takes that, and whether an axis is that of the features."""
    node, X = case.model.graph.node[0], case.inputs["X"]
    axes = [a.i for a in node.attribute if a.name == "axis"]
    if node.op_type in ("ArgMax", "Softmax", "LogSoftmax"):
        return (axes or [0 if node.op_type == "ArgMax" else -1])[0] in (-1, X.ndim - 1)
    sizes = [list(t.dims) for t in case.model.graph.initializer if t.name in node.input[1:]]
    if node.op_type == "Pow":
        return all(not dims or dims == [1] for dims in sizes)
    return all(not dims[:-1] or set(dims[:-1]) == {1} for dims in sizes)


@pytest.mark.parametrize("case", ELEMENTWISE, ids=name)
def test_elementwise_case(case: Case) -> None:
    result = measured(case)
    assert bool(result.refused) != is_supported(case), result.refused
    if not result.refused:
        assert result.within_node_tolerance
        assert_integers(result)
        assert [o.name for o in result.outputs] == ["Y"]


def test_onnx_has_tests_of_most_elementwise_operators() -> None:
    ran = {case.operator for case in ELEMENTWISE if not measured(case).refused}
    assert len(ran) >= 25
    assert {"Add", "Sub", "Mul", "Div", "Sqrt", "Log", "Exp", "Clip", "PRelu", "LogSoftmax", "ArgMax"} <= ran


def test_onnx_has_tests_of_normalizations() -> None:
    ran = {case.operator for case in NORM if not measured(case).refused}
    assert ran >= {
        "LayerNormalization",
        "RMSNormalization",
        "GroupNormalization",
        "MeanVarianceNormalization",
        "LpNormalization",
    }


REFUSED = (
    "reduces the batch axis",
    "auto_pad=SAME_UPPER with stride 2 over time",
    "ceil_mode=1 gives axis 2 a window past its padding",
)


@pytest.mark.parametrize("case", REDUCTION, ids=name)
def test_reduction_case(case: Case) -> None:
    """A reduction of features and time, or a pool over time and up to two other axes, runs; any other is refused for what it is."""
    result = measured(case)
    if result.refused:
        assert any(words in result.refused for words in REFUSED)
        return
    assert result.within_node_tolerance
    assert_integers(result)


def test_onnx_has_tests_of_all_reductions_and_pools() -> None:
    assert {case.operator for case in REDUCTION} == {*REDUCTIONS, *POOLS}
    assert sum(not measured(case).refused for case in REDUCTION) == 48
    assert {words for case in REDUCTION for words in REFUSED if words in measured(case).refused} == set(REFUSED)


@pytest.mark.parametrize("case", MOVED, ids=name)
def test_case_that_moves_data(case: Case) -> None:
    """What keeps batch and time runs, and every value of float is one of the input or of the filling; any other is refused by name."""
    result = measured(case)
    if result.refused:
        assert case.operator in result.refused or "as one axis" in result.refused
        return
    assert result.difference == 0.0
    assert_integers(result)


def test_onnx_has_tests_of_all_operators_that_move_data() -> None:
    assert {case.operator for case in MOVED} == set(MOVES)
    ran = {case.operator for case in MOVED if not measured(case).refused}
    assert {"Slice", "Split", "Gather", "Pad", "Concat", "Transpose", "Reshape", "Squeeze", "Unsqueeze"} <= ran


@pytest.mark.parametrize("case", UPSAMPLED, ids=name)
def test_case_that_upsamples(case: Case) -> None:
    """What is imported has ONNX Runtime's numbers; an image without time beside an RNN of one step is no integer model, as with Conv."""
    result = measured(case)
    if result.refused:
        assert case.operator in result.refused
        return
    assert result.difference <= OWN_DIFFERENCE
    if result.outputs:
        assert_integers(result)
    else:
        assert "has no memory beside one that keeps earlier steps" in result.not_quantized


def test_onnx_has_tests_of_all_operators_that_upsample() -> None:
    assert {case.operator for case in UPSAMPLED} == set(UPSAMPLING)
    refused = {case.name for case in UPSAMPLED if measured(case).refused}
    assert not any(case.operator == "ConvTranspose" for case in UPSAMPLED if case.name in refused)
    modes = ("cubic", "tf_crop", "antialias", "not_larger", "not_smaller", "sizes", "linear_align_corners")
    assert all(any(mode in name for mode in modes) for name in refused), refused


@needs_vectors
def test_the_vectors_are_all_there() -> None:
    assert len(GOLDEN) == 135
    assert sum(case.fails for case in GOLDEN) == 2
    assert len(NODE) == 12


@needs_vectors
@pytest.mark.parametrize("case", [case for case in GOLDEN if case.fails], ids=name)
@pytest.mark.parametrize("engine", ["float", "reference", "cpu"])
def test_cases_that_must_fail_fail_on_every_engine(case: Case, engine: str) -> None:
    with pytest.raises(DataError, match="lengths"):
        prepare(case.model, engine=engine).run(case.inputs)
