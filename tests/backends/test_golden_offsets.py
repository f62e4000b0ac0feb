"""The golden vectors of offsets: every backend's boundary reproduces them, and the file is of this contract."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from offset_models import far_quantized

from backends.test_golden import TOOL
from qrnn.arithmetic import CONTRACT_VERSION
from qrnn.backends import available_backends, create_engine
from qrnn.model.parts import TensorFormat

DOCUMENT: dict[str, Any] = json.loads(TOOL.OFFSETS.read_text(encoding="utf-8"))


def test_the_file_is_of_this_contract() -> None:
    assert DOCUMENT["format"] == TOOL.golden_offsets.FORMAT
    assert DOCUMENT["contract_version"] == TOOL.golden_offsets.SINCE == CONTRACT_VERSION
    assert TOOL.check_offsets() == 0


def test_a_check_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = copy.deepcopy(DOCUMENT)
    document["boundary"][2]["q"][1][0] += 1
    document["concat"][0]["carried"][0] += 1
    document["without_steps"][1]["q"][0] += 1
    changed = tmp_path / "changed.json"
    changed.write_text(TOOL.to_text(document), encoding="utf-8")
    assert TOOL.check_offsets(changed) == 1
    error = capsys.readouterr().err
    for where in ("boundary: entry 2", "concat: entry 0", "without_steps: entry 1"):
        assert where in error
    assert TOOL.check_offsets(tmp_path / "absent.json") == 1


@pytest.mark.parametrize("backend", available_backends())
def test_backends_reproduce_the_boundary(backend: str) -> None:
    engine = create_engine(backend, far_quantized(), 1)
    for case in DOCUMENT["boundary"]:
        x = np.asarray(case["x"])
        fmt = TensorFormat(x.shape[1], False, 16, tuple(case["scale"]), case["limit"], tuple(case["offset"]))
        q = engine.quantize(x, fmt)
        assert q.tolist() == case["q"]
        assert engine.dequantize(q, fmt).tolist() == case["real"]


def test_the_vectors_reach_the_ends() -> None:
    """Clamped on both sides, offsets as large as they may be, scales and offsets for all features and for each, and one that is refused."""
    cases = DOCUMENT["boundary"]
    assert all({case["limit"], -case["limit"]} <= {q for row in case["q"] for q in row} for case in cases)
    assert {1 << 52, -(1 << 52)} <= {o for case in cases for o in case["offset"]}
    assert {(len(case["scale"]) > 1, len(case["offset"]) > 1) for case in cases} >= {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert None in [case["carried"] for case in DOCUMENT["concat"]]
