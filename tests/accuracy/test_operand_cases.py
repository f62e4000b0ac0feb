"""Two cases of the shared folder: an operand whose width can be chosen reaches the floor, and one that clips is counted."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import qrnn
from qrnn.quantization.choices import choices

CASES = Path(__file__).parents[3] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not (CASES / "operand.py").is_file(), reason="the shared cases are not here")


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names that the script of a case defines; its loops, which print figures, are left out. It writes into its own folder."""
    monkeypatch.chdir(tmp_path)
    path = CASES / f"{request.param}.py"
    tree = ast.parse(path.read_text())
    tree.body = [statement for statement in tree.body if not isinstance(statement, ast.For)]
    names: dict[str, Any] = {}
    exec(compile(tree, str(path), "exec"), names)  # a script of this project's own folder
    return names


@pytest.mark.parametrize("case", ["operand"], indirect=True)
def test_a_tensor_that_a_concat_reads_too_reaches_the_floor(case: dict[str, Any]) -> None:
    """Its matrices read it in the widths that they are given: 8 bits cost 20 dB, 8 bits per feature 9, 16 bits less than 2."""
    model, data = case["build"](True), {"x": case["cal"]}
    operands = [choice.key for choice in choices(model) if "8-per-feature" in choice.values]
    assert len(operands) == 2
    lost = {}
    for width in ("8", "8-per-feature", "16"):
        quantized = qrnn.quantize(model, data, qrnn.Scheme(widths=dict.fromkeys(operands, width)))
        report = qrnn.compare(model, quantized, {"x": case["test"]})
        lost[width] = report.floor["out"].sqnr_db - report.outputs["out"].sqnr_db
    assert lost["8"] > lost["8-per-feature"] + 6 > lost["16"] + 6
    assert lost["16"] < 2


@pytest.mark.matrix
@pytest.mark.parametrize("case", ["hidden_saturation"], indirect=True)
def test_an_operand_that_clips_is_counted(case: dict[str, Any]) -> None:
    """One loud step of 40: both layers read its x, the second through a Concat, and both clip it."""
    model = case["m"]
    quantized = qrnn.quantize(model, {"x": case["x"][:15]}, qrnn.Scheme(activations=8))
    readers = [f"{layer.name}: x operand" for layer in quantized.recurrent_layers]
    quiet, loud = ({"x": x} for x in (case["x"][15:], case["loud"]))
    found = {s.where: s for s in qrnn.compare(model, quantized, quiet).saturation}
    assert [found[where].saturated for where in readers] == [0, 0]
    found = {s.where: s for s in qrnn.compare(model, quantized, loud).saturation}
    assert found[readers[0]].saturated == found[readers[1]].saturated > 4
    assert found[readers[1]].largest > 1.5
    explained = {s.where for s in qrnn.explain(model, quantized, loud).clipped}
    assert {*readers, "input x: beyond its calibrated range"} <= explained
    narrow, default = (qrnn.compare(model, q, loud).outputs["out"].sqnr_db for q in (quantized, case["q"]))
    assert default > narrow + 6, "widths that are chosen by default have room for a louder step"
