"""Public objects say in a few lines what they are, and never print their weights."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoding_models import language_model
from hypothesis import given, settings
from rich.console import Console

import qrnn
from qrnn.examples import digits_calibration, digits_model, digits_test
from qrnn.model.parts import TensorFormat
from qrnn.system.brief import LINES, WIDTH
from tests.backends.generators import Case, cases, quantized_or_refused

REPORTS = ("Comparison", "Difference", "Explanation", "SweepResult", "TuneResult")


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    """One object of each public type that takes no long search to make."""
    with np.load(digits_calibration()) as file:
        calibration = {"x": file["x"][:32]}
    with np.load(digits_test()) as file:
        data = {"x": file["x"][:16], "labels": file["labels"][:16]}
    source = qrnn.load_onnx(digits_model())
    scheme = qrnn.Scheme(refine="none")
    model, other = (qrnn.quantize(source, calibration, s) for s in (scheme, qrnn.Scheme(weights=4, refine="none")))
    session = qrnn.Session(model, "reference")
    result = session.run({"x": data["x"][:2]})
    pool = session.pool()
    pool.open()
    return {
        "FloatModel": source,
        "QuantModel": model,
        "Session": session,
        "RunResult": result,
        "State": result.state,
        "Stream": session.stream(2),
        "StreamPool": pool,
        "Comparison": qrnn.compare(source, model, data),
        "Explanation": qrnn.explain(source, model, {"x": data["x"][:4]}),
        "Difference": qrnn.diff(model, other, {"x": data["x"][:4]}),
        "Scheme": scheme,
        "Target": qrnn.load_target("cortex-m4"),
        "Budgets": qrnn.Budgets(min_sqnr=30.0),
        "Training": qrnn.Training(epochs=3),
        "Sampling": qrnn.Sampling(0.8, top_k=40),
        "Generated": qrnn.Session(language_model(), "reference").generate({"tokens": np.array([[1, 2]])}, steps=30),
    }


def test_every_public_type_is_looked_at(objects: dict[str, Any]) -> None:
    types = {name for name in qrnn.__all__ if isinstance(getattr(qrnn, name), type)}
    errors = {name for name in types if issubclass(getattr(qrnn, name), Exception)}
    elsewhere = {
        "SweepResult",
        "TuneResult",
        "HybridModel",
        "CodeFormat",
        "Finetuned",
        "DataFile",
    }  # in tests of their own
    assert types - errors - elsewhere == set(objects)


def test_what_objects_say_fits(objects: dict[str, Any]) -> None:
    for name, shown in objects.items():
        lines = repr(shown).split("\n")
        assert len(lines) <= LINES, (name, lines)
        assert max(map(len, lines)) <= 2 * WIDTH, (name, lines)
        if name in REPORTS or hasattr(shown, "describe_lines"):
            assert shown._repr_html_().startswith("<pre>")


def test_a_model_names_its_layers_and_formats(objects: dict[str, Any]) -> None:
    text = repr(objects["QuantModel"])
    for part in (
        "'digits_gru'",
        "x [N, T, 8]",
        "GRU 32",
        "weights of 8 bits",
        "int16 Q0.15",
        "logits [N, T, 10]",
        "32 sequences",
    ):
        assert part in text, part
    assert "GRU 32" in repr(objects["FloatModel"])


def test_the_text_of_a_report_is_that_of_the_command(objects: dict[str, Any]) -> None:
    for name in REPORTS[:3]:
        out = io.StringIO()
        objects[name].render(Console(file=out, width=80, highlight=False, markup=False, emoji=False))
        assert str(objects[name]) == out.getvalue()
        assert max(map(len, str(objects[name]).split("\n")[2:6])) <= 80


def test_a_picture_is_shown_and_saved(objects: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = objects["Comparison"].plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes() == picture._repr_png_()
    assert len(repr(picture)) < WIDTH


def records(value: Any) -> Iterator[Any]:
    """Yield every dataclass inside of a value."""
    if is_dataclass(value) and not isinstance(value, type):
        yield value
        for field in fields(value):
            yield from records(getattr(value, field.name))
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from records(item)
    elif isinstance(value, dict):
        yield from records(list(value.values()))


@settings(max_examples=15)
@given(cases(most_hidden=9))
def test_no_part_of_a_model_prints_its_arrays(case: Case) -> None:
    for record in records([case.model(), quantized_or_refused(case)]):
        text = repr(record)
        assert len(text.split("\n")) <= LINES, text
        assert "array(" not in text, text


@pytest.mark.parametrize(
    ("scale", "form"),
    [((2.0**-10,), "int16 Q5.10"), ((2.0**3,), "int16 Q18.-3"), ((0.3,), "int16"), ((0.5, 0.25), "int16 per feature")],
)
def test_the_form_of_a_tensor(scale: tuple[float, ...], form: str) -> None:
    assert TensorFormat(2, False, 16, scale, 32767).form == form


def test_completion_offers_the_public_names() -> None:
    assert set(qrnn.__all__) <= set(dir(qrnn))
    assert "importlib" not in dir(qrnn)
