"""What a comparison's report shows: gates that fail, JSON, the printed report and pictures."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from models import Shape, make_model
from rich.console import Console

from accuracy.compared import some_report, strict, text
from accuracy.pairs import X, pair
from qrnn.accuracy.compare import compare
from qrnn.accuracy.comparison import Comparison
from qrnn.accuracy.confusion import Agreement
from qrnn.accuracy.decisions import Decisions
from qrnn.accuracy.probe import ErrorSum
from qrnn.conversion import RANDOM, quantize
from qrnn.quantization.scheme import Scheme

# --- gates of a report ------------------------------------------------------------------------------------------------------------------


def report(decisions: Decisions | None = None) -> Comparison:
    """Output y at 20 dB, output h at -6.02 dB."""
    error, noisy = ErrorSum(), ErrorSum()
    error.add(np.array([[10.0]]), np.array([[9.0]]), None)
    noisy.add(np.array([[1.0]]), np.array([[3.0]]), None)
    return replace(some_report(), outputs={"y": error, "h": noisy}, decisions=decisions)


def test_failures() -> None:
    decisions = Decisions("y", "argmax", "each step", Agreement(97, 100))
    assert report(decisions=decisions).failures() == []
    assert report(decisions=decisions).failures(20.0, 97.0) == []
    assert report(decisions=decisions).failures(20.1) == ["y: SQNR about the mean 20.00 dB is below 20.1 dB"]
    assert report(decisions=decisions).failures(None, 97.5) == ["agreement 97.00 % is below 97.5 %"]
    assert report(decisions=decisions).failures(None, None, 5.0) == [
        "no labels in the data: the accuracy drop is unknown"
    ]
    decisions.correct = {"float": Agreement(90, 100), "quantized": Agreement(88, 100)}
    assert report(decisions=decisions).failures(None, None, 2.0) == []
    assert report(decisions=decisions).failures(None, None, 1.9) == ["accuracy drop 2.00 points is above 1.9"]
    edge = Decisions("y", "argmax", "each step", Agreement(29, 100))
    assert report(decisions=edge).failures(None, 29.0) == []  # 100 · 0.29 is less than 29 in floating point
    decisions.correct = {"float": Agreement(88, 100), "quantized": Agreement(90, 100)}
    assert report(decisions=decisions).failures(None, None, 0.0) == []  # better than float
    assert len(report(decisions=decisions).failures(21, 98, -3)) == 3


def test_failures_without_decisions() -> None:
    """Every output is judged then; agreement and accuracy are unknown, which is a failure."""
    assert report().failures(15.0) == ["h: SQNR about the mean -6.02 dB is below 15 dB"]
    assert report().failures(None, 0.0) == ["agreement nan % is below 0 %"]
    assert report().failures(None, None, 100.0) == ["no labels in the data: the accuracy drop is unknown"]


def test_unknown_sqnr_fails_a_gate_and_exact_passes() -> None:
    decisions = Decisions("y", "argmax", "each step", Agreement(1, 1))
    exact, unknown = ErrorSum(), ErrorSum()
    exact.add(np.ones((1, 1)), np.ones((1, 1)), None)
    unknown.add(np.zeros((1, 1)), np.ones((1, 1)), None)
    assert replace(report(decisions=decisions), outputs={"y": exact}).failures(200.0) == []
    assert len(replace(report(decisions=decisions), outputs={"y": unknown}).failures(-200.0)) == 1


def test_json_is_strict(digits: Comparison) -> None:
    figures = strict(digits)
    assert figures["outputs"]["logits"]["sqnr_db"] == digits.outputs["logits"].sqnr_db
    assert len(figures["outputs"]["logits"]["rmse_by_step"]) == 8
    assert figures["decisions"]["accuracy"]["float"]["count"] == 355
    assert set(figures["layers"]) == {f"/gru/GRU[0].{q}" for q in "rznh"}


def test_json_is_strict_without_any_error() -> None:
    """A network of zeros is exact: infinite SQNR everywhere."""
    model = make_model(Shape("lstm", head=2, weight=0.0, bias=0.0), np.random.default_rng(0))
    result = compare(model, quantize(model, {"x": X[:3]}, Scheme(input="8")), {"x": X[:3]})
    figures = strict(result)
    assert figures["outputs"]["h"] == {"sqnr_db": None, "sqnr_about_mean_db": None, "rmse": 0.0, "max_error": 0.0}
    assert "exact" in text(result)
    assert result.plot().png.startswith(b"\x89PNG")


def test_rendered_report(digits: Comparison) -> None:
    page = text(digits)
    for part in (
        "360 sequences, 2880 steps, backend cpu",
        f"{digits.outputs['logits'].sqnr_db:.1f} dB",
        f"{digits.layers['/gru/GRU[0].h'].sqnr_db:.1f}",
        "355 of 360",
        "98.61 %",
        "96.79 – 99.41 %",
        "accuracy drop:",
        "Saturation",
        "Accuracy by class",
        "Confusion",
    ):
        assert part in page
    assert max(len(line) for line in page.splitlines() if "decisions" not in line) <= 80


def test_rendered_report_of_a_random_calibration() -> None:
    model = make_model(Shape("gru"), np.random.default_rng(1))
    result = compare(model, quantize(model, RANDOM, Scheme(input="8")), {"x": X[:2]})
    assert result.to_dict()["random_calibration"] is True
    assert "calibrated on random numbers" in text(result)


def test_names_that_look_like_markup() -> None:
    model, quantized = pair(Shape("gru", head=3), X)
    for output in model.outputs[:1]:
        object.__setattr__(output, "name", "y[/red] :x:")
    result = compare(model, replace(quantized, outputs=model.outputs), {"x": X[:2]})
    out = io.StringIO()
    result.render(Console(file=out, width=120, highlight=False, markup=False, emoji=False))
    assert "y[/red] :x:" in out.getvalue()


def test_picture(digits: Comparison) -> None:
    from matplotlib import image

    picture = image.imread(io.BytesIO(digits.plot().png), format="png")
    height, width, _ = picture.shape
    assert width == 960
    assert height > 600
    assert len(np.unique(picture.reshape(-1, picture.shape[2]), axis=0)) > 50  # something is drawn
    assert (picture[:, :, :3].mean(axis=2) < 0.9).mean() > 0.02


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", ["$", "$\\frac{$", "100 % $x$", "<&>", "a\nb", ""])
def test_picture_of_any_name(name: str) -> None:
    result = report()
    renamed = replace(
        result, model=name, outputs={name: result.outputs["y"]}, layers={f"{name}.h": result.outputs["h"]}
    )
    picture = renamed.plot().png
    assert picture.startswith(b"\x89PNG")
