"""The golden vectors of normalizations: as Python, in 64-bit registers, compiled by Numba and in lanes; the file is of this contract."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arithmetic.test_cells import Register, check_compiled

from backends.lanes import LANES, Kernel
from backends.test_golden import TOOL
from backends.test_vector import INT16, INT32, NORM_TOTAL
from qrnn.arithmetic import norms
from qrnn.backends.cpu.jit import for_python
from qrnn.backends.cpu.vector import lift

DOCUMENT: dict[str, Any] = json.loads(TOOL.NORMS.read_text(encoding="utf-8"))
FUNCTIONS = TOOL.golden_norms.FUNCTIONS
I8, I16, I32, I64 = np.int8, np.int16, np.int32, np.int64
WIDTHS: dict[str, tuple[Any, ...]] = {
    "norm_variance": (I64, I64, I64, I64, I64),
    "norm_exponent": (I64,),
    "norm_scale": (I64, I64),
    "normalize": (I16, I64, I64, I64, I64, I16, I8, I32),
}
"""The widths in which a loop over rows has the arguments: those of its arrays, and what it computed."""


def cases(name: str) -> list[tuple[int, ...]]:
    return [tuple(case[:-1]) for case in DOCUMENT["functions"][name]["cases"]]


def results(name: str) -> list[int]:
    return [case[-1] for case in DOCUMENT["functions"][name]["cases"]]


def test_the_file_is_of_this_contract() -> None:
    assert DOCUMENT["format"] == TOOL.golden_norms.FORMAT
    assert DOCUMENT["contract_version"] == TOOL.golden_norms.SINCE
    assert set(DOCUMENT["functions"]) == set(FUNCTIONS) == set(WIDTHS)
    assert TOOL.check_norms() == 0


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["functions"]["norm_scale"]["cases"][3][-1] += 1
    document["rows"][4]["y"][0][0] ^= 1
    changed = tmp_path / "changed.json"
    changed.write_text(TOOL.to_text(document), encoding="utf-8")
    assert TOOL.check_norms(changed) == 1
    error = capsys.readouterr().err
    assert "functions: norm_scale" in error
    assert "rows: entry 4" in error
    assert TOOL.check_norms(tmp_path / "absent.json") == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_python(name: str) -> None:
    """And none of it leaves 64 bits."""
    function = getattr(norms, name)
    assert [function(*case) for case in cases(name)] == results(name)
    assert [function(*map(Register, case)) for case in cases(name)] == results(name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_compiled_by_numba(name: str) -> None:
    check_compiled(FUNCTIONS[name], cases(name), WIDTHS[name])


def test_rows() -> None:
    compiled = {name: for_python(function) for name, function in FUNCTIONS.items()}
    for case in DOCUMENT["rows"]:
        assert TOOL.golden_norms.run_rows(case, FUNCTIONS) == case["y"]
        assert TOOL.golden_norms.run_rows(case, compiled) == case["y"]


@pytest.mark.skipif(not LANES, reason="this processor has no instruction set with fused steps")
@pytest.mark.parametrize("lanes", LANES)
def test_elements_in_lanes(lanes: int) -> None:
    bounds = [INT16, (1, norms.NORM_FEATURES), NORM_TOTAL, (1 << 15, 1 << 16), (0, 30), INT16, (-128, 127), INT32]
    kernel = Kernel(lanes, bounds, lambda _b, arguments, _t: [lift(norms.normalize)(*arguments)])
    (got,) = kernel(list(zip(*cases("normalize"), strict=True)))
    assert got.tolist() == results("normalize")


def test_the_rows_hold_every_case() -> None:
    """Both normalizations; rows of one value without epsilon, and with; outputs at both ends; gains of zero and of either sign."""
    rows = DOCUMENT["rows"]
    assert {case["centred"] for case in rows} == {0, 1}
    flat = [case for case in rows if any(len(set(x)) == 1 for x in case["x"])]
    assert any(case["epsilon"] == 0 for case in flat)
    assert any(case["epsilon"] > 0 for case in flat)
    y = [v for case in rows for row in case["y"] for v in row]
    assert (min(y), max(y)) == (-32768, 32767)
    gains = [v for case in rows for v in case["gain"]]
    assert min(gains) < 0 < max(gains)
    assert 0 in gains
