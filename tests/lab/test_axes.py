"""Axes and grids: what a sweep consists of, how it is said, and how a point is made again."""

from __future__ import annotations

import shlex
from dataclasses import fields

import pytest

from qrnn.errors import QuantizationError
from qrnn.lab.axes import AXES, DEFAULT_GRID, TUNED, convert_command, grid, label, only, parse_axes, parse_axis
from qrnn.lab.training import Configuration
from qrnn.quantization.scheme import Scheme


def test_the_default_grid() -> None:
    found = grid(Scheme())
    assert len(found) == len(set(found)) == 80
    assert {s.weights for s in found} == {8, 4}
    assert {s.activations for s in found} == {8, 16}
    assert {"step", "hard"} <= {s.gates for s in found}


def test_every_field_of_scheme_is_an_axis() -> None:
    """A field that is added to Scheme can be varied without a change here; but for the one that says what a target can do."""
    own = tuple(f.name for f in fields(Scheme))
    assert (*AXES[:-1], "widest_operand", "multipliers", AXES[-1]) == (*own, "finetune")
    assert set(DEFAULT_GRID) | set(TUNED) <= set(AXES)
    for name in AXES:
        value = getattr(Configuration(), name)
        assert parse_axis(f"{name}={'none' if value == () else value}") == (name, (value,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weights=8,4", ("weights", (8, 4))),
        ("gates=hard, pwl:64,pwl:128", ("gates", ("hard", "pwl:64", "pwl:128"))),
        ("gates=hard:0.25,0.5;forget=pwl:64,output=hard", ("gates", ("hard:0.25,0.5", "forget=pwl:64,output=hard"))),
        ("gates=hard:0.25,0.5;", ("gates", ("hard:0.25,0.5",))),
        ("input=8-per-feature", ("input", ("8-per-feature",))),
        ("activations=8,auto", ("activations", (8, "auto"))),
        ("finetune=0,20", ("finetune", (0, 20))),
        ("widths=none;gru.h=16,gru.R=4", ("widths", ((), (("gru.R", "4"), ("gru.h", "16"))))),
    ],
)
def test_axes_that_are_said(text: str, expected: tuple[str, tuple[object, ...]]) -> None:
    assert parse_axis(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weights", "expected AXIS=VALUE"),
        ("width=8", "axis 'width' is unknown; expected one of"),
        ("weights=", "no values"),
        ("weights=,", "no values"),
        ("weights=5", "weights=5, expected 16, 8, 4 or auto"),
        ("finetune=-1", "finetune=-1, expected a number of epochs, or 0"),
        ("weights=eight", "expected a number"),
        ("weights=8.0", "expected a number"),
        ("gates=pwl:100", "pwl:100"),
        ("calibrator=best", "expected one of robust, minmax"),
        ("input=7", "expected one of 8"),
    ],
)
def test_mistakes(text: str, says: str) -> None:
    with pytest.raises(QuantizationError, match=says):
        parse_axis(text)


def test_an_axis_twice() -> None:
    with pytest.raises(QuantizationError, match="given twice"):
        parse_axes(["weights=8", "weights=4"])


def test_grid_varies_what_is_said_and_keeps_the_rest() -> None:
    base = Scheme(calibrator="mse", activations=16)
    found = grid(base, {"weights": (8, 4), "gates": ("hard", "hard")})
    assert found == [Scheme(16, "hard", "mse", weights=8), Scheme(16, "hard", "mse", weights=4)]
    assert only(found, {"weights": (4,)}) == found[1:]
    assert grid(base, {}) == [base]
    with pytest.raises(QuantizationError, match="no values"):
        grid(base, {"weights": ()})


def test_a_point_can_be_made_again() -> None:
    scheme = Scheme(16, "forget=hard:0.25,0.5", "mse", "8-per-feature", 4)
    words = shlex.split(convert_command(scheme, "a model.onnx", "c.npz", "cortex-m4", "b.qrnn"))
    assert words[:3] == ["qrnn", "convert", "a model.onnx"]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {
        "--calibration": "c.npz",
        "--target": "cortex-m4",
        "--activations": "16",
        "--gates": "forget=hard:0.25,0.5",
        "--calibrator": "mse",
        "--input-scheme": "8-per-feature",
        "--weights": "4",
        "-o": "b.qrnn",
    }
    assert label(scheme) == "w4 a16 forget=hard:0.25,0.5 mse in:8-per-feature"
