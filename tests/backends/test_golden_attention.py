"""The golden vectors of attention pooling: as Python, in 64-bit registers, compiled by Numba, and by layers; the file is of this contract."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qrnn
from backends.golden_checks import check_cases, check_names_what_differs
from backends.test_golden import TOOL
from qrnn import Session
from qrnn.arithmetic.running_softmax import MOST_WEIGHTED
from qrnn.backends import available_backends
from qrnn.backends.cpu.jit import for_python
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.attention_pool import QuantAttentionPool
from qrnn.model.parts import STATE_MAX, TensorFormat
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel

GOLDEN = TOOL.golden_attention
DOCUMENT: dict[str, Any] = json.loads(TOOL.ATTENTION.read_text(encoding="utf-8"))
TABLE = DOCUMENT["power_table"]


def test_the_file_is_of_this_contract() -> None:
    assert DOCUMENT["format"] == GOLDEN.FORMAT
    assert DOCUMENT["contract_version"] == GOLDEN.SINCE
    assert set(DOCUMENT["functions"]) == set(GOLDEN.FUNCTIONS)
    assert TOOL.check_attention() == 0


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["functions"]["weighted_mean"]["cases"][3][-1] += 1
    document["sequences"][4]["y"][0] ^= 1
    check_names_what_differs(
        TOOL.check_attention,
        TOOL.to_text(document),
        tmp_path,
        capsys,
        ("functions: weighted_mean", "sequences: entry 4"),
    )


@pytest.mark.parametrize("name", GOLDEN.FUNCTIONS)
def test_functions(name: str) -> None:
    check_cases(GOLDEN, DOCUMENT, TABLE, name)


def test_sequences() -> None:
    compiled = {name: for_python(function) for name, function in GOLDEN.FUNCTIONS.items()}
    for case in DOCUMENT["sequences"]:
        for functions, table in ((GOLDEN.FUNCTIONS, TABLE), (compiled, np.array(TABLE, np.int32))):
            y, end = GOLDEN.run_sequence(case, table, functions)
            assert (y, end) == (case["y"], case["end"])


def as_model(case: dict[str, Any]) -> QuantModel:
    """A model of one layer that gives the case's steps."""
    right = 15 - case["up"] if case["up"] else case["down"]
    one = np.zeros(1, np.int64)
    fracs = {"s": case["in_frac"], "v": right, "y": right + case["up"] - case["down"]}
    layer = QuantAttentionPool("pool", "s", "v", "y", one, one, *fracs.values(), np.array(TABLE, np.int32))
    tensors = {name: TensorFormat(1, True, 16, (2.0**-frac,), STATE_MAX) for name, frac in fracs.items()}
    inputs = tuple(GraphInput(name, "features", (1,), True) for name in ("s", "v"))
    outputs = (GraphOutput("y", (1,), True, (("y", one, one),)),)
    provenance = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})
    return QuantModel("golden", inputs, (layer,), outputs, tensors, False, provenance)


@pytest.mark.parametrize("backend", available_backends())
def test_layers(backend: str) -> None:
    """Those without -32768, which no input has."""
    seen = 0
    for case in DOCUMENT["sequences"]:
        if -32768 in case["scores"] + case["values"]:
            continue
        seen += 1
        parts = [np.array([[value]], np.int32) for value in (*case["weight"], *case["sum"], case["steps"])]
        state = qrnn.State({"pool": (np.array([[[case["exponent"]]]], np.int32), *parts)})
        given = {key: np.array(case[word], np.int16)[None, :, None] for key, word in (("s", "scores"), ("v", "values"))}
        got = Session(as_model(case), backend, integers=True).run(given, state=state)
        assert got.outputs["y"].reshape(-1).tolist() == case["y"]
        exponent, weight, total, steps = case["end"]
        found = [array.item() for array in got.state.layers["pool"]]
        assert found == [exponent, *weight, *total, steps]
    assert seen >= 40


def test_the_vectors_meet_every_case() -> None:
    """Means at both ends, sums that saturate, and a sequence of the most steps."""
    functions = {name: entry["cases"] for name, entry in DOCUMENT["functions"].items()}
    assert {-32768, 32767} <= {case[-1] for case in functions["weighted_mean"]}
    assert {-(1 << 61), 1 << 61} <= {case[-1] for case in functions["weighted_sum"]}
    assert {1 << 23, (1 << 24) - 11} <= {case[-1] for case in functions["power_mantissa"]}
    assert max(case["end"][3] for case in DOCUMENT["sequences"]) == MOST_WEIGHTED
