"""What exported C is to generate: which output is fed back, how tokens are chosen, and the integers by which values are fed back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from math import floor
from typing import Any

import numpy as np

from qrnn.arithmetic.choices import fed_value
from qrnn.errors import DataError, ModelFileError, UnsupportedError
from qrnn.model.boundary import dequantize_array, quantize_array, to_integers
from qrnn.model.choosing import ChoiceNumbers, Sampling, choice_numbers
from qrnn.model.feedback import Feedback, check_vocabulary, find_feedback
from qrnn.model.parts import Int64Array, TensorFormat
from qrnn.model.quant_model import QuantModel
from qrnn.running.choosing import checked_blank
from qrnn.running.generating import check_frames, check_generates

MULTIPLIER_BITS = 46
"""The bits of the multiplier of a fed value."""

_BIAS = 1 << 61

_ROUNDED = 1 << 14
"""What the rounding of a multiplier, half a unit, comes to at the ends of int16. Halves between two integers are to go up all the same."""


@dataclass(frozen=True)
class Generation:
    """What a model's C is to generate, as `qrnn.Session.generate` does: ``feed``, ``one_hot`` and ``blank`` are as there.

    Without ``sampling`` the C has the choice of the largest score alone. With it, it has any choice, and this one as its default.
    """

    sampling: Sampling | None = None
    feed: Mapping[str, str] | None = None
    one_hot: bool | None = None
    blank: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(found: object, where: str) -> Generation:
        """Return what `to_dict` gave; ModelFileError for anything else."""
        try:
            assert isinstance(found, dict)
            given = {**found}
            sampling = given.pop("sampling")
            return Generation(None if sampling is None else Sampling(**sampling), **given)
        except (AssertionError, KeyError, TypeError, DataError):
            raise ModelFileError(
                f"{where}: not what qrnn export writes of generation; export the model again"
            ) from None


@dataclass(frozen=True)
class Fed:
    """The numbers of `qrnn.arithmetic.choices.fed_value` for each feature that is fed back, [F]."""

    multiplier: Int64Array
    bias: Int64Array
    shift: Int64Array
    limit: int


class PlannedGeneration:
    """A `Generation` of one model, checked."""

    def __init__(self, model: QuantModel, generation: Generation) -> None:
        self.model, self.generation = model, generation
        self.feedback: Feedback = find_feedback(model, generation.feed, generation.one_hot)
        check_generates(model, self.feedback)
        scored = self.feedback.scored
        if scored is None:
            name = "sampling" if generation.sampling is not None else "blank" if generation.blank is not None else ""
            if name:
                raise DataError(
                    f"{name}: values of output {self.feedback.output.name!r} are fed back, and no token is chosen; leave it out"
                )
        elif scored.kind == "index" and generation.sampling is not None:
            raise DataError(
                f"output {scored.output.name!r} is the index of the largest score, from which nothing can be drawn; leave out sampling, or "
                "make the scores an output"
            )
        self.blank = None if generation.blank is None or scored is None else checked_blank(generation.blank, scored)
        if self.blank is not None:
            check_frames(model, self.feedback)
            check_vocabulary(self.feedback, (self.blank,))

    @cached_property
    def numbers(self) -> ChoiceNumbers:
        """Return the integers of the default choice."""
        scored = self.feedback.scored
        assert scored is not None
        return choice_numbers(self.generation.sampling, scored.unit, scored.kind == "probabilities")

    @cached_property
    def level_offsets(self) -> Int64Array | None:
        """Return what is added to each score's integer so that all can be compared, [V]; None where they can be as they are."""
        assert self.feedback.scored is not None
        _, offsets = self.model.scales_and_offsets(self.feedback.output)
        if self.feedback.scored.kind == "index" or (offsets == offsets[0]).all():
            return None
        found: Int64Array = (offsets - offsets.min()).astype(np.int64)
        if int(found.max()) >= (1 << 31) - (1 << 16):
            raise UnsupportedError(
                f"output {self.feedback.output.name!r}: its scores have offsets that differ by more than C holds in 32 bits; choose tokens "
                "on the host"
            )
        return found

    @cached_property
    def one_hot_integers(self) -> tuple[Int64Array, Int64Array]:
        """Return the integers of the real 0 and of the real 1 of each feature that is fed, [F] each."""
        fmt = self.model.tensors[self.feedback.input.name]
        zero, one = (quantize_array(np.full(fmt.features, real), fmt).astype(np.int64) for real in (0.0, 1.0))
        return zero, one

    @cached_property
    def fed(self) -> Fed:
        """Return the integers by which values are fed back, each proved to give what the boundary gives for every int16."""
        feedback, model = self.feedback, self.model
        scales, offsets = model.scales_and_offsets(feedback.output)
        fmt = model.tensors[feedback.input.name]
        to_scales, to_offsets = (np.broadcast_to(v, fmt.features) for v in fmt.scales_and_offsets)
        known: dict[tuple[float, float, float, float], tuple[int, int, int]] = {}
        rows = []
        where = f"output {feedback.output.name!r}"
        for k in range(fmt.features):
            key = (float(scales[k]), float(offsets[k]), float(to_scales[k]), float(to_offsets[k]))
            if key not in known:
                known[key] = fed_numbers(f"feature {k} of {where}", *key, limit=fmt.limit)
            rows.append(known[key])
        multiplier, bias, shift = np.array(rows, np.int64).T
        return Fed(multiplier, bias, shift, fmt.limit)


def fed_numbers(
    where: str, scale: float, offset: float, to_scale: float, to_offset: float, limit: int
) -> tuple[int, int, int]:
    """Return multiplier, bias and shift for one feature; UnsupportedError where none gives what the boundary gives."""
    every = np.arange(-(1 << 15), 1 << 15)
    own = TensorFormat(1, True, 16, (scale,), 32767, (int(offset),))
    want = to_integers(dequantize_array(every[:, None], own)[:, 0], to_scale, limit, to_offset)
    ratio = Fraction(scale) / Fraction(to_scale)
    constant = Fraction(offset) * ratio + Fraction(1, 2) - Fraction(to_offset)
    for shift in range(62, -1, -1):
        multiplier, bias = floor(ratio * (1 << shift) + Fraction(1, 2)), floor(constant * (1 << shift) + Fraction(1, 2))
        if multiplier >= 1 << MULTIPLIER_BITS or abs(bias) >= _BIAS - 2:
            continue
        for near in (bias, bias + 1, bias - 1, bias + _ROUNDED, bias - _ROUNDED):
            found = np.clip((every * multiplier + near) >> shift, -limit, limit)
            if (found == want).all():
                assert fed_value(-(1 << 15), multiplier, near, shift, limit) == want[0]
                return multiplier, near, shift
    raise UnsupportedError(
        f"{where}: no integers were found by which C feeds back what the boundary makes of it; give input and output other scales"
    )
