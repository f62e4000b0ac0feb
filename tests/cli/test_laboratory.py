"""``convert --refine``, ``explain`` and ``diff``: what they print and return, and how mistakes end."""

from __future__ import annotations

import sys

import pytest

from cli.running import Workplace
from cli.test_commands import strict_json
from qrnn.model.file import load


def test_convert_refines(place: Workplace) -> None:
    for refine in ("rounding,bias", "all", "none"):
        done = place.cli(
            "convert", place.path("gru.onnx"), "--calibration", place.path("x.npz"), "--input-scheme", "8",
            "--activations", "8", "--refine", refine, "-o", place.path(f"{refine}.qrnn"),
        )  # fmt: skip
        assert done.status == 0, done.err
    assert place.path("none.qrnn").read_bytes() == place.path("gru.qrnn").read_bytes()
    assert load(place.path("rounding,bias.qrnn")).provenance.scheme["refine"] == "rounding,bias"


def test_explain(place: Workplace) -> None:
    files = place.path("gru.onnx"), place.path("gru.qrnn")
    done = place.cli("explain", *files, "--data", place.path("lengths.npz"), "--top", "4")
    assert done.status == 0, done.err
    assert "without it" in done.out
    assert "more parts" in done.out
    assert done.err == ""
    found = strict_json(place.cli("explain", *files, "--json").out)
    assert found["random_data"] is True
    assert {p["kind"] for p in found["parts"]} >= {"input weights", "recurrent weights", "gate function", "h operand"}
    assert "random numbers" in place.cli("explain", *files).err


def test_compare_without_matplotlib(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    models = (place.path("gru.onnx"), place.path("gru.qrnn"))
    done = place.cli("compare", *models, "--data", place.path("x.npz"), "--plot", place.path("drawn.png"))
    assert (done.status, done.out.count("Against the float64 oracle")) == (2, 1)
    assert done.lines == ["error: pictures need matplotlib; install it with: pip install 'qrnn[plot]'"]
    assert not place.path("drawn.png").exists()


def test_diff(place: Workplace) -> None:
    same = place.cli("diff", place.path("gru.qrnn"), place.path("gru.qrnn"))
    assert (same.status, same.out.strip()) == (0, "the models are identical")
    four = place.path("four.qrnn")
    place.cli("convert", place.path("gru.onnx"), "--calibration", place.path("x.npz"), "--weights", "4", "-o", four)
    done = place.cli("diff", place.path("gru.qrnn"), four, "--data", place.path("x.npz"))
    assert done.status == 0, done.err
    for part in ("scheme weights", "B against A", "SQNR", "8 → 4"):
        assert part in done.out
    found = strict_json(place.cli("diff", place.path("gru.qrnn"), four, "--json").out)
    assert found["identical"] is False
    assert found["outputs"] == []


def test_mistakes_of_the_laboratory(place: Workplace) -> None:
    gru, model = place.path("gru.onnx"), place.path("gru.qrnn")
    out = place.path("out.qrnn")
    place.refused(
        "convert", gru, "--calibration", place.path("x.npz"), "--refine", "luck", "-o", out, says=("refine", "luck")
    )
    place.refused("explain", place.path("ids.onnx"), model, "--data", place.path("x.npz"), says="another file")
    place.refused("explain", gru, model, "--data", place.path("ids.npz"), says="not an input")
    place.refused("diff", model, place.path("none.qrnn"), says="none.qrnn")
    place.refused("diff", model, place.path("ids.qrnn"), "--data", place.path("x.npz"), says="leave --data out")
