"""Choose between weights of 8 bits and of 16 by the floors that calibration data show."""

from __future__ import annotations

from typing import NamedTuple

from qrnn.accuracy.probe import output_error
from qrnn.conversion.noise import STEPS, judged_outputs
from qrnn.equations.oracle import run_oracle_batch
from qrnn.model.batch import Batch, evenly
from qrnn.model.float_model import FloatModel
from qrnn.model.matrix_layer import MatrixLayer
from qrnn.quantization.floor import floor_model

LOW_FLOOR_DB = 30.0
"""A floor about the mean under which the weights' own rounding is more than 3 % of what an output varies by."""

LEAST_GAIN_DB = 6.0
"""The least by which 16 bits must raise such a floor, which cost twice the multiply-adds of dense layers and convolutions."""


class Floors(NamedTuple):
    """The floors of the worst output in dB about the mean, with weights of 8 bits throughout, and of 16 where `qrnn.Scheme` has these."""

    of_8: float
    of_16: float

    @property
    def choice(self) -> int:
        """Return the width that suits them, 8 or 16."""
        return 16 if self.of_8 < LOW_FLOOR_DB and self.of_16 >= self.of_8 + LEAST_GAIN_DB else 8

    def __str__(self) -> str:
        return f"the floor is {self.of_8:.1f} dB with weights of 8 bits, and {self.of_16:.1f} dB with 16 in dense layers and convolutions"


def floors_of(model: FloatModel, batch: Batch) -> Floors | None:
    """Return the floors of a model; None where it has no layer for 16 bits, no output that varies, or a tensor without a step.

    That of 16 bits is only measured where that of 8 is low.
    """
    if not any(isinstance(layer, MatrixLayer) for layer in model.layers):
        return None
    some = evenly(batch, STEPS)
    if any(not batch.along(rule).lengths.any() for rule in model.length_rules.values()):
        return None  # no sequence is long enough, which calibration says by name
    want = run_oracle_batch(model, some).outputs

    def floor(bits: int) -> float:
        got = run_oracle_batch(floor_model(model, some, bits), some).outputs
        errors = [output_error(model, some, n, want[n], got[n]) for n in judged_outputs(model) if want[n].size]
        return min((error.about_mean_db for error in errors if error.signal > 0.0), default=float("inf"))

    of_8 = floor(8)
    if of_8 == float("inf"):
        return None
    return Floors(of_8, floor(16) if of_8 < LOW_FLOOR_DB else of_8)
