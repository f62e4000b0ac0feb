"""The golden vectors of sums and means: as Python, in 64-bit registers, compiled by Numba, and by layers; the file is of this contract."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arithmetic.test_cells import Register, check_compiled

import qrnn
from backends.test_golden import TOOL
from qrnn import Session
from qrnn.arithmetic import reductions
from qrnn.backends import available_backends
from qrnn.backends.cpu.jit import for_python
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.running import QuantRunning
from qrnn.model.parts import STATE_MAX, TensorFormat
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_model import QuantModel

DOCUMENT: dict[str, Any] = json.loads(TOOL.REDUCTIONS.read_text(encoding="utf-8"))
FUNCTIONS = TOOL.golden_reductions.FUNCTIONS
I16, I32, I64 = np.int16, np.int32, np.int64
WIDTHS: dict[str, tuple[Any, ...]] = {
    "add_to_sum": (I16, I32, I16),
    "sum_high": (I64,),
    "sum_low": (I64,),
    "divide_sum": (I64, I64, I64),
}
"""The widths in which a step has the arguments: those of its arrays, and what it computed."""


def cases(name: str) -> list[tuple[int, ...]]:
    return [tuple(case[:-1]) for case in DOCUMENT["functions"][name]["cases"]]


def results(name: str) -> list[int]:
    return [case[-1] for case in DOCUMENT["functions"][name]["cases"]]


def test_the_file_is_of_this_contract() -> None:
    assert DOCUMENT["format"] == TOOL.golden_reductions.FORMAT
    assert DOCUMENT["contract_version"] == TOOL.golden_reductions.SINCE
    assert set(DOCUMENT["functions"]) == set(FUNCTIONS) == set(WIDTHS)
    assert TOOL.check_reductions() == 0


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["functions"]["divide_sum"]["cases"][3][-1] += 1
    document["sequences"][4]["y"][0][0] ^= 1
    changed = tmp_path / "changed.json"
    changed.write_text(TOOL.to_text(document), encoding="utf-8")
    assert TOOL.check_reductions(changed) == 1
    error = capsys.readouterr().err
    assert "functions: divide_sum" in error
    assert "sequences: entry 4" in error
    assert TOOL.check_reductions(tmp_path / "absent.json") == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_python(name: str) -> None:
    """And none of it leaves 64 bits."""
    function = getattr(reductions, name)
    assert [function(*case) for case in cases(name)] == results(name)
    assert [function(*map(Register, case)) for case in cases(name)] == results(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_by_numba(name: str) -> None:
    check_compiled(FUNCTIONS[name], cases(name), WIDTHS[name])


def test_sequences() -> None:
    compiled = {name: for_python(function) for name, function in FUNCTIONS.items()}
    for case in DOCUMENT["sequences"]:
        for functions in (FUNCTIONS, compiled):
            assert TOOL.golden_reductions.run_sequence(case, functions) == (case["y"], case["end"])


def as_model(case: dict[str, Any]) -> QuantModel:
    """A model of one layer that gives the case's steps."""
    features, name = len(case["x"][0]), "mean" if case["mean"] else "sum"
    in_frac = min(15, case["down"])
    layer = QuantRunning("sum", "x", "y", name, features, in_frac, in_frac + case["up"] - case["down"])  # type: ignore[arg-type]
    fracs = {"x": layer.in_frac, "y": layer.out_frac}
    tensors = {name: TensorFormat(features, True, 16, (2.0**-frac,), STATE_MAX) for name, frac in fracs.items()}
    every = np.arange(features)
    outputs = (GraphOutput("y", (features,), True, (("y", every, every),)),)
    provenance = Provenance("", 0, "", 0, 0, "minmax", False, "generic", {})
    return QuantModel(
        "golden", (GraphInput("x", "features", (features,), True),), (layer,), outputs, tensors, False, provenance
    )


@pytest.mark.parametrize("backend", available_backends())
def test_layers(backend: str) -> None:
    """Without -32768, which no input has."""
    for case in DOCUMENT["sequences"]:
        model, x = as_model(case), np.array([case["x"]], np.int16)
        state = qrnn.State(
            {"sum": (np.array([case["high"]], I16), np.array([case["low"]], I32), np.array([[case["steps"]]], I32))}
        )
        got = Session(model, backend, integers=True).run({"x": np.maximum(x, -32767)}, state=state)
        columns = [j for j in range(x.shape[2]) if x[0, :, j].min() > -32768]
        assert len(columns) >= 2
        np.testing.assert_array_equal(got.outputs["y"][0][:, columns], np.array(case["y"])[:, columns])
        for k in (0, 1):
            np.testing.assert_array_equal(got.state.layers["sum"][k][0, columns], np.array(case["end"][k])[columns])
        assert got.state.layers["sum"][2].item() == case["end"][2]


def test_the_vectors_meet_every_case() -> None:
    """Halves of both signs, saturation at both ends, and a sum of the most steps but none."""
    halves = {
        (total > 0) for total, divisor, shift in cases("divide_sum") if 2 * (total << shift) % (2 * divisor) == divisor
    }
    assert halves == {False, True}
    assert {-32768, 32767} <= set(results("divide_sum"))
    assert max(case["end"][2] for case in DOCUMENT["sequences"]) == reductions.MOST_SUMMED
