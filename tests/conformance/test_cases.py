"""Every case of docs/conformance.md: float against ONNX Runtime or the stored outputs, integers against each other and against float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
from conformance_cases import NODE_ATOL, NODE_RTOL, Case, golden_cases, node_cases, own_cases
from conformance_measure import NEAR, Result, measure, run_float
from conformance_tool import GOLDEN_DIFFERENCE, OWN_DIFFERENCE, reason, within_bound

from qrnn.errors import DataError
from qrnn.onnx_backend import prepare

SHARED = Path(__file__).parents[3] / "shared"
HERE = (SHARED / "vectors").is_dir()
needs_vectors = pytest.mark.skipif(not HERE, reason="the shared vectors are not here")
GOLDEN = list(golden_cases(SHARED)) if HERE else []
NODE = list(node_cases(SHARED)) if HERE else []
OWN = list(own_cases())
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
    result = measure(case)
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
    result = measure(case)
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
    assert_integers(measure(case))


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
