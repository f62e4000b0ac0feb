"""docs/conformance.md is what tools/conformance.py makes; and the tool finds what it is there to find."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import conformance_measure
import conformance_tool as conformance
import numpy as np
import pytest
from conformance_cases import Shape, own_case
from conformance_measure import Result, measure
from conformance_refusals import refusal, refused_models

from qrnn.conversion import quantize

pytest.importorskip("onnxruntime")

SHARED = Path(__file__).parents[3] / "shared"


@pytest.mark.matrix
@pytest.mark.time_limit(900)
def test_the_document_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    """The whole of it where the vectors are, else the parts that need none."""
    shared = ["--shared", str(SHARED)] if (SHARED / "vectors").is_dir() else []
    assert conformance.main(["--check", *shared]) == 0, capsys.readouterr().out


def test_a_stale_document_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "own_parts", lambda: ["a line\n", "another\n"])
    monkeypatch.setattr(conformance, "DOCUMENT", tmp_path / "page.md")
    assert conformance.main(["--check"]) == 1
    (tmp_path / "page.md").write_text("a line\nsomething\n")
    assert conformance.main(["--check"]) == 1
    (tmp_path / "page.md").write_text("a line\nsomething\nanother\n")
    assert conformance.main(["--check"]) == 0


def test_the_document_shows_no_failure() -> None:
    text = conformance.DOCUMENT.read_text(encoding="utf-8")
    assert "**" not in text.replace("**float**", "").replace("**integers**", "").replace("**error**", "").replace(
        "**SQNR**", ""
    ).replace("**half steps**", "")


@pytest.mark.parametrize(("name", "model"), list(refused_models()), ids=lambda v: v if isinstance(v, str) else "")
def test_refusals(name: str, model: Any) -> None:
    assert refusal(model), name


# --- what the measure tells ------------------------------------------------------------------------------------------------------------


def measured(op: str, direction: str = "forward", **shape: Any) -> Result:
    case = own_case(op, "a test of the measure", direction, Shape(**shape))
    return conformance_measure._measure(case)


def test_a_wrong_engine_is_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """With gates quantized as others, the error is many times what half a step moves."""
    right = measured("LSTM", attributes={})
    assert conformance.within_bound(right)

    def wrong(model: Any, data: Any) -> Any:
        (layer,) = model.layers
        directions = tuple(replace(d, bias_ih=d.bias_ih + 0.1) for d in layer.directions)
        return quantize(replace(model, layers=(replace(layer, directions=directions),)), data)

    monkeypatch.setattr(conformance_measure, "quantize", wrong)
    assert not conformance.within_bound(measured("LSTM", attributes={}))


def test_a_backend_that_differs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from qrnn.backends import reference

    run = reference.ENGINE.recurrent

    def off_by_one(self: Any, *arguments: Any) -> Any:
        result = run(self, *arguments)
        first = result[0] if isinstance(result, tuple) else result
        first.reshape(-1)[0] += 1
        return result

    assert measured("GRU", attributes={}).equal
    monkeypatch.setattr(reference.ENGINE, "recurrent", off_by_one)
    assert not measured("GRU", attributes={}).equal


def test_gain_and_jumps_are_told_apart() -> None:
    """A recurrence of gain 2 over six steps; and a threshold where arguments lie."""
    gain = replace(measured("RNN", attributes={}).outputs[0], error=0.5, peak=1.0, moved=0.4, moved_less=0.05)
    jump = replace(gain, moved_less=0.39)
    result = measured("RNN", attributes={})
    assert conformance.reason(replace(result, outputs=(gain,))) == "gain: half a step moves float's Y by 40 %"
    assert conformance.reason(replace(result, outputs=(jump,))).startswith(
        "a jump: half a step moves float's Y by 40 %"
    )
    assert conformance.reason(replace(result, outputs=(replace(gain, error=0.01),))) == ""


def test_a_threshold_on_the_argument_jumps() -> None:
    """The threshold is put at an argument of the first step: half a step decides on which side of it the function is."""
    case = own_case("RNN", "threshold", "forward", Shape({}))
    bound = conformance_measure.run_float(case)[0]
    (layer,) = bound.model.layers
    d = layer.directions[0]
    arguments = np.asarray(bound.data["X"])[:, 0] @ d.weight_ih.T + d.bias_ih + d.bias_hh
    at = float(np.sort(arguments[arguments > 0.2])[0])
    attributes = {"activations": ["ThresholdedRelu"], "activation_alpha": [at]}
    moved_case = own_case("RNN", "threshold", "forward", Shape(attributes))
    bound = conformance_measure.run_float(moved_case)[0]
    quantized = quantize(bound.model, bound.data)
    want = conformance_measure.run_oracle(bound.model, bound.data).outputs
    whole, less = (conformance_measure.changes(bound, quantized, want, size)["Y"] for size in (1.0, 1 / 8))
    assert less > 0.5 * whole > 0.1 * at


def test_kept_results_are_of_the_case() -> None:
    case = own_case("RNN", "no attribute", "forward", Shape({}))
    assert measure(case) is measure(case)
