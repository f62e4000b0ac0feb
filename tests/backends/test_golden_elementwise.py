"""The golden vectors of elementwise layers: as Python, in 64-bit registers and compiled by Numba; the file is of this contract."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arithmetic.test_cells import Register

from backends.golden_checks import check_cases, check_names_what_differs
from backends.test_golden import TOOL
from qrnn.arithmetic.octaves import octave_value
from qrnn.backends.cpu.jit import for_python

GOLDEN = TOOL.golden_elementwise
DOCUMENT: dict[str, Any] = json.loads(TOOL.ELEMENTWISE.read_text(encoding="utf-8"))
TABLE = DOCUMENT["log_table"]


def test_the_file_is_of_this_contract() -> None:
    assert DOCUMENT["format"] == GOLDEN.FORMAT
    assert DOCUMENT["contract_version"] == GOLDEN.SINCE
    assert set(DOCUMENT["functions"]) == set(GOLDEN.FUNCTIONS)
    assert TOOL.check_elementwise() == 0


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["functions"]["magnitude16"]["cases"][3][-1] += 1
    document["octaves"][1]["samples"][0][1] ^= 1
    check_names_what_differs(
        TOOL.check_elementwise, TOOL.to_text(document), tmp_path, capsys, ("functions: magnitude16", "octaves: entry 1")
    )


@pytest.mark.parametrize("name", GOLDEN.FUNCTIONS)
def test_functions(name: str) -> None:
    check_cases(GOLDEN, DOCUMENT, TABLE, name)


def test_octaves() -> None:
    compiled = for_python(octave_value)
    for own in DOCUMENT["octaves"]:
        table, registers = np.array(own["table"], np.int32), [Register(v) for v in own["table"]]
        for x, want in own["samples"]:
            assert octave_value(x, own["bits"], own["table"]) == want
            assert octave_value(Register(x), Register(own["bits"]), registers) == want
            assert compiled(np.int16(x), own["bits"], table) == want


def test_the_vectors_hold_every_end() -> None:
    """Results at both ends of int16, exact squares and their neighbours, quotients by 0."""
    functions = {name: entry["cases"] for name, entry in DOCUMENT["functions"].items()}
    for name in ("power16", "divide16", "log_power16"):
        results = [case[-1] for case in functions[name]]
        assert (name, max(results)) == (name, 32767)
        assert min(results) == (0 if name == "power16" else -32768)
    assert any(r * r == v for v, r in functions["integer_root"] if v > 1 << 40)
    assert any(not b for _, b, *_ in functions["divide16"])
    for own in DOCUMENT["octaves"]:
        assert {y for _, y in own["samples"]} >= {-32768, 32767}
