"""Find out whether a model fits devices: flash, RAM and time against a typical board's, and what would make it fit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qrnn.devices.measure import Needs, estimate, layer_work, measure, sizes
from qrnn.errors import UnsupportedError
from qrnn.export.folder import export_model, read_folder
from qrnn.export.layout import padded_columns
from qrnn.export.source import export_source
from qrnn.model.kinds.conv import QuantConv
from qrnn.model.parts import SCALE_COLUMNS, AnyMatrix, QuantMatrix
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Kernels, Target

CODE_BYTES = 4096
"""The bytes assumed for code where nothing could be built."""


@dataclass(frozen=True)
class Fit:
    """A model on one target: what it needs, what it lacks, and remedies in words. ``load`` is time over the period of a step.

    ``multiply_adds`` are those of each layer with matrices, for a time step.
    """

    needs: Needs
    flash_bytes: int
    load: float | None
    lacks: tuple[str, ...]
    remedies: tuple[str, ...]
    multiply_adds: dict[str, float]

    @property
    def fits(self) -> bool:
        """Return whether the model lacks nothing."""
        return not self.lacks

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            **self.needs.to_dict(),
            "flash_bytes": self.flash_bytes,
            "load": self.load,
            "fits": self.fits,
            "lacks": self.lacks,
            "remedies": self.remedies,
            "multiply_adds": self.multiply_adds,
        }


def fit(
    model: QuantModel,
    targets: Sequence[Target],
    steps: int,
    period: float,
    progress: Callable[[int, int], Any] | None = None,
) -> list[Fit]:
    """Judge ``model`` on each target.

    ``steps`` is the length of the longest sequence, where the model reads whole ones; ``period`` is the time from step to step in seconds.
    """
    found: list[Fit] = []
    for number, target in enumerate(targets):
        found.append(_fit(model, target, steps, period))
        if progress is not None:
            progress(number + 1, len(targets))
    return found


def _fit(model: QuantModel, target: Target, steps: int, period: float) -> Fit:
    """Judge ``model`` on one target."""
    with tempfile.TemporaryDirectory(prefix="qrnn-") as temporary:
        folder = Path(temporary) / "model"
        try:
            export_model(model, target, folder, "model")
        except UnsupportedError as error:
            exported = export_source(model, "model", "plain")  # what no target takes is refused here, too
            needs = replace(sizes(exported, target, steps), instructions=estimate(model, target), problem=str(error))
            judged = judge(model, needs, period)
            return replace(judged, lacks=(*judged.lacks, "a way to its constants"))
        return judge(model, measure(read_folder(folder, target), target, steps), period)


def judge(model: QuantModel, needs: Needs, period: float) -> Fit:
    """Compare needs with the target's typical board."""
    memory = needs.target.memory
    flash = needs.flash_bytes if needs.flash_bytes is not None else needs.constant_bytes + CODE_BYTES
    load = None if needs.seconds is None else needs.seconds / period
    lacks: list[str] = []
    remedies: list[str] = []
    if memory.flash_bytes is not None and flash > memory.flash_bytes:
        lacks.append(f"{flash - memory.flash_bytes:,} bytes of flash")
        remedies += _smaller(model, needs.target.core.kernels, flash, memory.flash_bytes)
    if memory.ram_bytes is not None and needs.ram_bytes > memory.ram_bytes:
        lacks.append(f"{needs.ram_bytes - memory.ram_bytes:,} bytes of RAM")
        remedies += _less_ram(needs, memory.ram_bytes)
    if load is not None and load > 1:
        lacks.append(f"time: {load:.1f} times the period")
        assert memory.clock_hz is not None
        remedies.append(
            f"a clock of {memory.clock_hz * load / 1e6:,.0f} MHz, or {1 - 1 / load:.0%} fewer multiply-adds"
        )
    return Fit(needs, flash, load, tuple(lacks), tuple(remedies), layer_work(model))


def _smaller(model: QuantModel, kernels: Kernels, flash: int, most: int) -> list[str]:
    """Suggest weights of four bits, where they are enough, and say how much smaller the layers would have to be."""
    matrices: list[AnyMatrix | None] = [
        m for layer in model.recurrent_layers for d in layer.directions for m in (d.ih, d.hh)
    ]
    matrices += [layer.matrix for layer in model.layers if isinstance(layer, QuantConv) and not layer.eight_bits_for]
    saved = sum(_saved_by_four_bits(m.weight.shape, kernels) for m in matrices if isinstance(m, QuantMatrix))
    found = ["weights of four bits (qrnn convert --weights 4)"] if saved and flash - saved <= most else []
    weights = sum(m.matrix.weight.size for m in model.matrices)
    left = most - (flash - weights)
    return [*found, f"layers of about {(left / weights) ** 0.5:.0%} of the units"] if left > 0 else found


def _saved_by_four_bits(shape: tuple[int, ...], kernels: Kernels) -> int:
    """Return how many bytes a matrix takes less with four bits for each weight and a byte for each group's scale."""
    rows, columns = shape
    groups = -(-columns // SCALE_COLUMNS)
    return rows * max(0, padded_columns(columns, kernels) - groups * (SCALE_COLUMNS // 2 + 1))


def _less_ram(needs: Needs, most: int) -> list[str]:
    """Suggest shorter sequences, where the model reads whole ones."""
    if needs.steps == 1:
        return ["fewer units: the state and the operands of a step are most of it"]
    fixed = needs.state_bytes + (needs.stack_bytes or 0)
    length = int((most - fixed) / (needs.buffer_bytes / needs.steps))
    return [f"sequences of at most {length} steps in place of {needs.steps}"] if length > 0 else []
