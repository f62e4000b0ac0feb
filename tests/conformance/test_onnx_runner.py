"""ONNX's own runner drives the backend: the node tests of LSTM, GRU and RNN that the installed onnx makes, at ONNX's own tolerances."""

from __future__ import annotations

import unittest
import warnings

import pytest

from qrnn.onnx_backend import QrnnBackend

PATTERN = "^test_(lstm|gru|rnn|simple_rnn)_.*_cpu$"


def runner_tests() -> dict[str, unittest.TestCase]:
    """The runner's tests of `PATTERN` by name. Made when asked for: it makes thousands more, and some of those would download models."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the making of other operators' data
        from onnx.backend.test import BackendTest

        classes = BackendTest(QrnnBackend, __name__).include(PATTERN).test_cases
    return {
        name: case(name)
        for case in classes.values()
        for name in vars(case)
        if name.startswith("test_") and not getattr(getattr(case, name), "__unittest_skip__", False)
    }


@pytest.mark.matrix  # the making of all operators' tests takes seconds; test_backend.py has the backend's interface
def test_onnx_runner() -> None:
    """18 tests with onnx 1.23, 12 with versions before it had every direction."""
    tests = runner_tests()
    assert {type(test).__name__ for test in tests.values()} == {"OnnxBackendNodeModelTest"}  # made in memory
    assert len(tests) >= 12
    for operator in ("lstm", "gru", "simple_rnn"):
        assert f"test_{operator}_batchwise_cpu" in tests
    result = unittest.TestResult()
    unittest.TestSuite(tests.values()).run(result)
    assert result.testsRun == len(tests)
    assert not result.skipped
    assert not result.failures + result.errors, "\n".join(text for _, text in result.failures + result.errors)
