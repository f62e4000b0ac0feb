"""The choices of a training: how long, in which steps, and when it ends early."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from qrnn.errors import DataError


@dataclass(frozen=True)
class Training:
    """How `qrnn.finetune` trains.

    ``epochs``: passes over the training data. ``batch``: sequences in one step of the optimizer. ``learning_rate``: the first step size of
    Adam; it falls to zero along half a cosine over all epochs. ``clip``: the largest norm of a gradient, by which longer ones are
    shortened. ``distill``: the share of the loss that is the distance from the float model's outputs, 0 to 1, beside labels or targets;
    without either the whole loss is that distance. ``seed``: of the order of sequences and of the part that is held out. ``held_out``: the
    share of the training sequences that judges epochs where no validation data are given. ``patience``: epochs without a better
    one after which training ends; 0 for never. ``seconds``: the time after which no epoch begins that would not end in it; 0 for no
    limit. ``recalibrate``: formats are estimated again every so many epochs; 0 for formats that stay as they are. ``learned_scales``: whether
    the scales of weights are learned too; None for where the scheme has weights of four bits.
    """

    epochs: int = 20
    batch: int = 32
    learning_rate: float = 5e-4
    clip: float = 1.0
    distill: float = 0.5
    seed: int = 0
    held_out: float = 0.1
    patience: int = 0
    seconds: float = 0.0
    recalibrate: int = 0
    learned_scales: bool | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("seed", 0), ("patience", 0), ("recalibrate", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise DataError(f"{name}={value!r}, expected an integer of at least {least}")
        for name, above, most in (
            ("learning_rate", True, math.inf),
            ("clip", True, math.inf),
            ("distill", False, 1.0),
            ("held_out", True, 0.5),
            ("seconds", False, math.inf),
        ):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number or value > most or not (value > 0 if above else value >= 0):
                least_text = "above 0" if above else "of at least 0"
                most_text = "" if most == math.inf else f" and at most {most:g}"
                raise DataError(f"{name}={value!r}, expected a number {least_text}{most_text}")

        if self.learned_scales not in (None, True, False):
            raise DataError(f"learned_scales={self.learned_scales!r}, expected True, False or None")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    @property
    def decisive(self) -> dict[str, Any]:
        """Return the fields that a checkpoint and the run that goes on with it have in common: all but the limits of time and patience."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("seconds", "patience")}
