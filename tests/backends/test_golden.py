"""Every backend reproduces the golden vectors of the contract, and the file belongs to the contract version of the code."""

from __future__ import annotations

import copy
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from qrnn.arithmetic import WITHOUT_OFFSETS
from qrnn.backends import available_backends

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "contract-1.0.json"


def _load_tool() -> ModuleType:
    sys.path.insert(0, str(ROOT / "tools"))  # as a script has its own folder there: it imports golden_cases
    spec = importlib.util.spec_from_file_location("make_golden", ROOT / "tools" / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "tools"))
    return module


TOOL = _load_tool()


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def test_the_file_is_of_this_contract(document: dict[str, Any]) -> None:
    assert document["format"] == TOOL.FORMAT
    assert document["format_version"] == TOOL.FORMAT_VERSION
    assert document["contract_version"] == TOOL.SINCE == WITHOUT_OFFSETS
    assert GOLDEN.stat().st_size < 300_000


def test_check_finds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert TOOL.main(["--check"]) == 0
    assert "equal" in capsys.readouterr().out


def test_check_names_what_differs(document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(document)
    document["recurrent"][2]["y"][0][0][0] ^= 1
    document["primitives"]["requantize"]["cases"][7][-1] += 1
    document["gate_functions"]["sigmoid pwl:128"]["table"][50] += 1
    document["gate_functions"]["hard_tanh"]["low"] += 1
    changed = tmp_path / "changed.json"
    changed.write_text(TOOL.to_text(document), encoding="utf-8")
    assert TOOL.main(["--check", "--path", str(changed)]) == 1
    error = capsys.readouterr().err
    for where in (
        "recurrent: entry 2",
        "primitives: requantize",
        "gate_functions: sigmoid pwl:128",
        "gate_functions: hard_tanh",
    ):
        assert where in error
    assert TOOL.main(["--check", "--path", str(tmp_path / "absent.json")]) == 1
    capsys.readouterr()


@pytest.mark.matrix
def test_writing_is_repeatable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert TOOL.main(["--path", str(tmp_path / "again.json")]) == 0
    capsys.readouterr()
    assert TOOL.main(["--check", "--path", str(tmp_path / "again.json")]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["again.json"]


@pytest.mark.usefixtures("loops")
@pytest.mark.time_limit(600)  # fused steps of all recurrent vectors are compiled in a minute and a half
@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("kind", TOOL.CASE_KINDS)
def test_backends_reproduce_the_vectors(document: dict[str, Any], kind: str, backend: str) -> None:
    for number, case in enumerate(document[kind]):
        for key, got in TOOL.run_case(kind, case, document, backend).items():
            assert got == case[key], f"{kind} {number} ({case.get('name', '')}): {key}"


def test_the_vectors_reach_every_saturation(document: dict[str, Any]) -> None:
    cases = {case["name"]: case for case in document["recurrent"]}
    cells = np.concatenate([np.ravel(cases[name]["c_n"]) for name in cases if name.startswith("lstm")])
    assert cells.min() == -(1 << 31)
    assert cells.max() == (1 << 31) - 1
    assert any(max(d["pre_shift"]) > 0 for case in cases.values() for d in case["directions"])
    assert max(max(d["left_shift_ih"]) for case in cases.values() for d in case["directions"]) >= 14
    x, limits = cases["lstm, every saturation"]["x"], cases["lstm, every saturation"]["x_operand"]
    assert np.abs(x).max() >> limits["shift"] > limits["limit"]
    dense = np.concatenate([np.ravel(case["y"]) for case in document["dense"]])
    assert (dense.min(), dense.max()) == (-32768, 32767)


def test_the_vectors_hold_every_kind_of_cell(document: dict[str, Any]) -> None:
    """Kinds of gate functions, forget gates, peepholes, projections, clips, and sequences of no steps."""
    functions, cases = document["gate_functions"], document["recurrent"]
    assert {entry["kind"] for entry in functions.values()} == {0, 1, 2, 3}
    assert any(entry.get("cut") for entry in functions.values())
    assert any(entry["kind"] == 1 and entry["low"] < 0 for entry in functions.values())
    used = {functions[name]["kind"] for case in cases for d in case["directions"] for name in d["gates"]}
    assert used == {0, 1, 2, 3}
    assert {case.get("forget", "gate") for case in cases} == {"gate", "one", "coupled"}
    directions = [d for case in cases for d in case["directions"]]
    shifts = {shift for d in directions for shift in d.get("peephole", {"shift": []})["shift"]}
    assert min(shifts) == 0
    assert max(shifts) > 40
    projections = [d["projection"]["function"] for d in directions if "projection" in d]
    assert {"", "softmax", "sigmoid pwl:8"} <= set(projections)
    assert {functions[d["gates"][1]]["out_frac"] for c in cases if c["cell"] == "gru" for d in c["directions"]} == {
        0,
        8,
        15,
    }
    for case in cases:
        for n, length in enumerate(case["lengths"]):
            if length == 0:
                assert (case["h_n"][n], case["c_n"][n]) == (case["h_0"][n], case["c_0"][n])
                assert not np.any(case["y"][n])
    assert any(0 in case["lengths"] for case in cases)
