"""Every mixture of widths gives the reference's integers by every loop of backend cpu."""

from __future__ import annotations

import numpy as np
import pytest

from backends.generators import assert_equal
from backends.isa_choice import FUSED_ISAS, usual_isa
from backends.mixed_widths import FIRST, MODELS, mix_of, mixed_model, run
from qrnn.backends.cpu.isa import PLAIN
from qrnn.backends.cpu.tuning import Tuning
from qrnn.model.parts import QuantMatrix4
from qrnn.running.session import Session

LENGTHS = (5, 0, 2)


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n in FIRST else pytest.mark.matrix) for n in MODELS])
def test_plain_loops(number: int) -> None:
    model = mixed_model(number)
    for layer in model.recurrent_layers:  # the model is what its widths say
        W, R, x, h = mix_of(number, layer.name)
        (d,) = layer.directions
        assert [isinstance(m, QuantMatrix4) for m in (d.ih, d.hh)] == [W == "4", R == "4"]
        assert [operand.limit > 127 for operand in (layer.x_operand, layer.h_operand)] == [x == "16", h == "16"]
        by_feature = len(np.unique(model.tensors[layer.input].scale)) > 1
        assert by_feature == (x == "8-per-feature")
    assert_equal(run(model, LENGTHS, "reference"), run(model, LENGTHS, "cpu", 1, PLAIN))


def test_a_stream_gives_what_a_whole_run_gives() -> None:
    """Odd models read x through a copy too."""
    model = mixed_model(3)
    session = Session(model, "cpu", 1, PLAIN)
    x = np.random.default_rng(0).normal(size=(2, 7, 5)) * np.logspace(0, -2, 5)
    stream = session.stream(2)
    steps = [stream.step({"x": x[:, t]})["y"].copy() for t in range(7)]
    np.testing.assert_array_equal(np.stack(steps, axis=1), Session(model, "reference").run({"x": x}).outputs["y"])


@pytest.mark.matrix
@pytest.mark.parametrize("isa", FUSED_ISAS)
@pytest.mark.parametrize("number", MODELS)
def test_fused_steps(number: int, isa: str) -> None:
    """Weights of four bits are read as bytes and, where there is no cache, as they are; a sequence alone and a group."""
    model = mixed_model(number)
    for lengths in ((4,), (40,), (3, 5, 0, 2, 6)):
        want = run(model, lengths, "reference")
        for tuning in (Tuning(), Tuning(cache_bytes=0)):
            assert_equal(want, run(model, lengths, "cpu", 1, isa, tuning))


@pytest.mark.skipif(not FUSED_ISAS, reason="no instruction set of fused steps")
@pytest.mark.parametrize(
    ("cell", "widths"), [("gru_after", ("8", "4")), pytest.param("gru_before", ("4", "8"), marks=pytest.mark.matrix)]
)
def test_fused_steps_of_matrices_that_differ(cell: str, widths: tuple[str, str]) -> None:
    """What the matrix does with every cell and instruction set; long enough that weights of four bits are not read as bytes."""
    assert mix_of(0, cell)[:2] == widths
    model = mixed_model(0, [cell])
    for lengths in ((2,), (40,)):
        isa = usual_isa("gru", cell == "gru_after")
        assert_equal(run(model, lengths, "reference"), run(model, lengths, "cpu", 1, isa, Tuning(cache_bytes=0)))
