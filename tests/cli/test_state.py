"""``--state IN=OUT`` of the commands that read an ONNX file: a cache that is not found by its use, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx_import.test_caches import built, step_by_itself

from cli.running import Workplace

STATE = ("--state", "a=a_out")


@pytest.fixture
def streaming(place: Workplace) -> Workplace:
    """A graph of one step per call whose cache is given the step itself, and data for it."""
    place.path("one.onnx").write_bytes(built(step_by_itself).SerializeToString())
    place.npz("frames.npz", x=np.random.default_rng(0).normal(size=(5, 9, 4)).astype(np.float32))
    return place


def convert(place: Workplace, *options: str) -> tuple[str, ...]:
    return (
        "convert", str(place.path("one.onnx")), "--calibration", str(place.path("frames.npz")), "-o", str(place.path("one.qrnn")), *options
    )  # fmt: skip


def test_commands_take_a_state(streaming: Workplace) -> None:
    done = streaming.cli(*convert(streaming, *STATE))
    assert (done.status, done.lines) == (0, []), done.err
    assert "note: input 'a' and output 'a_out' hold past steps" in done.out
    files = [streaming.path(name) for name in ("one.onnx", "one.qrnn")]
    done = streaming.cli("compare", *files, "--data", streaming.path("frames.npz"), "--json", "-", *STATE)
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report["onnxruntime_note"] == ""
    assert report["onnxruntime_against_float64"]["logits"]["max_error"] < 1e-5
    assert report["outputs"]["logits"]["sqnr_db"] > 25
    done = streaming.cli("explain", *files, "--data", streaming.path("frames.npz"), "--json", *STATE)
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--state", "a"], "--state 'a', expected IN=OUT"),
        (["--state", "=a_out"], "--state '=a_out', expected IN=OUT"),
        (["--state", "a=a_out", "--state", "a=logits"], "--state names input 'a' twice"),
        (["--state", "b=a_out"], "the graph has no input 'b'; its inputs are 'x', 'a', 'h'"),
        (["--state", "a=b_out"], "the graph has no output 'b_out'"),
        (["--state", "x=h_out"], "have different shapes"),
    ],
)
def test_what_is_refused(streaming: Workplace, options: list[str], says: str) -> None:
    streaming.refused(*convert(streaming, *options), says=says)
