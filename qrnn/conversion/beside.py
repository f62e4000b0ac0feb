"""What a conversion could have come to with other widths: the lines that ``qrnn convert`` prints beside the model that it wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from qrnn.accuracy.verdict import Verdict, judge
from qrnn.conversion import quantize
from qrnn.conversion.noise import ENOUGH_DB, TOLERANCE_DB
from qrnn.conversion.prices import MUCH_MORE, step_instructions
from qrnn.conversion.weights import LOW_FLOOR_DB, floors_of
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.quantization.widths import parse_widths, widths_text


@dataclass(frozen=True)
class Configuration:
    """One conversion of a model: its ``verdict``, its price in generic ``instructions`` a time step, and what is wider than 8 bits in it."""

    verdict: Verdict
    instructions: float
    wider: str

    def __str__(self) -> str:
        """Return floor, SQNR and price in words."""
        return (
            f"floor {self.verdict.floor_db:.1f} dB, SQNR {self.verdict.model_db:.1f} dB, widths {self.wider or '8'}, "
            f"{self.instructions:,.0f} generic instructions a step"
        )


def configuration(model: QuantModel, verdict: Verdict) -> Configuration:
    """Return what a quantized model with a ``verdict`` comes to."""
    widths = parse_widths(model.provenance.scheme.get("widths", {}))
    wider = widths_text(tuple((key, width) for key, width in widths if width not in ("4", "8")))
    return Configuration(verdict, step_instructions(model), wider)


def shortfall_db(verdict: Verdict) -> float:
    """Return by how many dB a model misses the tolerance of its floor; 0 or less where it is within, or good enough."""
    return min(verdict.floor_db - TOLERANCE_DB, ENOUGH_DB) - verdict.model_db


def lines(real: FloatModel, model: QuantModel, data: Mapping[str, Any], scheme: Scheme, verdict: Verdict) -> list[str]:
    """Return lines on other widths that the reader should know of, for ``model``, which ``scheme`` made of ``real`` and ``data``.

    Where weights of 8 bits were given and are far too few, one line tells what 16 have to gain. Where widths that were chosen cost much more
    than 8 bits for all, both configurations are told. Where operands of 8 bits were given and the floor is further away than the tolerance,
    one line tells what ``--activations auto`` would do.
    """
    floors = (
        floors_of(real, make_batch(real.inputs, data))
        if scheme.weights == 8 and verdict.floor_db < LOW_FLOOR_DB
        else None
    )
    few = [f"note: {floors}: --weights 16"] if floors is not None and floors.choice == 16 else []
    return few + _on_operands(real, model, data, scheme, verdict)


def _on_operands(
    real: FloatModel, model: QuantModel, data: Mapping[str, Any], scheme: Scheme, verdict: Verdict
) -> list[str]:
    """Return the lines on operands of other widths."""

    def other(**options: Any) -> Configuration:
        made = quantize(real, data, replace(scheme, **options), model.provenance.target)
        return configuration(made, judge(real, made, data, shares=False))

    if scheme.activations == AUTO:
        if step_instructions(model) <= MUCH_MORE * step_instructions(model, narrow=True):
            return []
        return [
            "the widths that were chosen cost more than 8 bits for all would:",
            f"  --activations auto: {configuration(model, verdict)}",
            f"  --activations 8 --input-scheme 8: {other(activations=8, input='8')}",
        ]
    if scheme.activations == 8 and (short := shortfall_db(verdict)) > 0.0:
        return [
            f"note: 8-bit activations miss the tolerance of {TOLERANCE_DB:g} dB below the floor, or {ENOUGH_DB:g} dB, by {short:.1f} dB; "
            f"with --activations auto: {other(activations=AUTO)} in place of {step_instructions(model):,.0f}"
        ]
    return []
