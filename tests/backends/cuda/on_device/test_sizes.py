"""Awkward sizes, by the plan that is chosen for them: units and sequences about the borders of tiles, no steps, one step, large batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
from models import Shape

from backends.cuda.on_device.common import BOTH, CELLS, SIMULATED, assert_same, compiled_together, quantized
from qrnn import Session
from qrnn.backends.cuda.kernel_variants import BLOCK

HIDDEN = (1, 7, 8, 9, 31, 32, 33, 64, 127, 200, 257)
BATCHES = (1, 2, 3, 8, 33) if SIMULATED else (1, 2, 3, 7, 8, 9, 16, 17, 31, 33, 65)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(
    ("cell", "bits"), [pytest.param(c, b, marks=compiled_together(c, b, BLOCK)) for c in CELLS for b in (8, 16)]
)
def test_units_and_sequences(cell: str, bits: int, hidden: int) -> None:
    model = quantized(replace(CELLS[cell], hidden_size=hidden), bits)
    for size in BATCHES:
        choices = Session(model, "cuda").engine.plans(size).values()  # type: ignore[attr-defined]
        assert all(choice.plan for choice in choices), "a fused kernel runs"
        assert_same(model, size, 3)


@pytest.mark.parametrize("inputs", [1, 7, 8, 31, 33, 65, 300])
@pytest.mark.parametrize("operand", ["8", "8-per-feature", "16"])
def test_inputs(operand: str, inputs: int) -> None:
    model = quantized(Shape("lstm", inputs, 9), operand=operand)
    for size in (1, 9):
        assert_same(model, size, 3)


@pytest.mark.parametrize("hidden", [8, 33, 130])
@pytest.mark.parametrize("cell", ["lstm", "gru_after", "gru_before", "rnn"])
def test_weights_of_four_bits(cell: str, hidden: int) -> None:
    model = quantized(replace(CELLS[cell], hidden_size=hidden), weights=4)
    for size in (1, 2, 9):
        assert_same(model, size, 4)


@pytest.mark.parametrize("projection", [1, 6, 40])
@pytest.mark.parametrize("hidden", [5, 33, 200])
def test_projections(hidden: int, projection: int) -> None:
    """By the general kernel."""
    model = quantized(Shape("lstm", 5, hidden, BOTH, projection=projection, projected="softmax", peephole=0.5))
    for size in (1, 9):
        assert_same(model, size, 4)


@pytest.mark.parametrize(
    ("cell", "hidden", "size"), [("lstm", 640, 33), ("gru_before", 640, 65), ("gru_after", 1100, 2)]
)
@pytest.mark.parametrize("bits", [8, 16])
def test_large_layers(cell: str, hidden: int, size: int, bits: int) -> None:
    assert_same(quantized(replace(CELLS[cell], hidden_size=hidden), bits), size, 4)


@pytest.mark.parametrize(
    ("cell", "hidden", "size"), [("lstm", 64, 1024), ("gru_after", 40, 2000), ("gru_before", 33, 3000)]
)
def test_large_batches(cell: str, hidden: int, size: int) -> None:
    assert_same(quantized(replace(CELLS[cell], hidden_size=hidden)), size, 3)


@compiled_together("cpu")
def test_more_sequences_than_a_grid_has_blocks() -> None:
    """More tiles than a grid's second axis may have: the product W·x and the steps go in several launches."""
    assert_same(quantized(Shape("rnn", 1, 1)), 4 * 8 * 65535 + 9, 1, backend="cpu")
