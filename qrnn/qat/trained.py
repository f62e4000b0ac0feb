"""A model in training: the float arrays as they are now, the formats that were decided once, and the integer model that both make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from qrnn.conversion import decide
from qrnn.errors import DataError, QuantizationError, UnsupportedError
from qrnn.model.batch import Batch, make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.qat.arrays import model_arrays, with_model_arrays
from qrnn.qat.backward import backward
from qrnn.qat.spreading import together
from qrnn.qat.values import IntegerValues
from qrnn.quantization.calibrate import Ranges, calibrate
from qrnn.quantization.gate_choice import parse_gates
from qrnn.quantization.scheme import AUTO, Scheme
from qrnn.quantization.source_checks import checked_calibration
from qrnn.refinement.gates import with_choices
from qrnn.running.session import Session

_AFTER = ("rounding", "bias")
"""Refinement methods that choose integers after a conversion; training chooses the weights instead."""


class TrainedModel:
    """The float model with the arrays of the moment, and its integer model.

    Widths are decided once, and so are formats, until `recalibrate`. The integers of weights, biases and multipliers follow the arrays by
    the rule of every conversion (`qrnn.model.layer.Layer.quantize`): the scale of a row is that of its largest weight as it is now.
    """

    def __init__(self, model: FloatModel, calibration: Mapping[str, Any], scheme: Scheme | None, target: str) -> None:
        decided = decide(model, calibration, _without_fine(scheme), target, stacklevel=4)
        search = decided.search
        kept = [method for method in search.scheme.methods if method not in _AFTER]
        after = replace(search.scheme, refine=",".join(kept) or "none")
        self._decided = decided._replace(search=replace(search, scheme=after))
        self._model = search.model
        self.arrays: dict[str, dict[str, FloatArray]] = model_arrays(search.model)
        self._built: tuple[QuantModel, Session] | None = None
        self._check_derivatives()

    def _check_derivatives(self) -> None:
        """Raise UnsupportedError, by a layer's name, for a model with no output to which gradients go; one short sequence is run for that."""
        (some,) = np.nonzero(self._decided.search.batch.lengths)
        first = some[np.argmin(self._decided.search.batch.lengths[some])] if some.size else 0
        values = self.run(self._decided.search.batch.take(np.array([first])))
        refused: list[UnsupportedError] = []
        for name, y in values.result.outputs.items():
            try:
                backward(values, {name: np.ones(y.shape)})
            except UnsupportedError as error:
                refused.append(error)
        if len(refused) == len(values.result.outputs):
            raise refused[0]

    @property
    def ranges(self) -> Ranges:
        """Return the ranges by which formats are decided; others may be set, such as those of a checkpoint."""
        return self._decided.search.ranges

    @ranges.setter
    def ranges(self, ranges: Ranges) -> None:
        self._decided = self._decided._replace(search=replace(self._decided.search, ranges=ranges))
        self._built = None

    @property
    def widths(self) -> dict[str, str]:
        """Return the widths that were chosen."""
        return dict(self._decided.widths)

    @widths.setter
    def widths(self, widths: Mapping[str, str]) -> None:
        self._decided = self._decided._replace(widths=dict(widths))
        self._built = None

    @property
    def inputs(self) -> Any:
        """Return the graph inputs."""
        return self._model.inputs

    @property
    def float_model(self) -> FloatModel:
        """Return the float model with the arrays as they are now."""
        return with_model_arrays(self._model, lambda name: self.arrays.get(name, {}))

    def set_arrays(self, arrays: Mapping[str, Mapping[str, FloatArray]]) -> None:
        """Replace arrays, by layer and path; DataError for one with a number that is not finite."""
        for layer, own in arrays.items():
            for path, value in own.items():
                if not np.isfinite(value).all():
                    raise DataError(
                        f"{path} of layer {layer!r} is not finite any more: the training diverged; take a smaller learning rate"
                    )
                self.arrays[layer][path] = value
        self._built = None

    @property
    def quantized(self) -> QuantModel:
        """Return the integer model of the arrays as they are now."""
        return self._session()[0]

    def _session(self) -> tuple[QuantModel, Session]:
        if self._built is None:
            search = replace(self._decided.search, model=self.float_model)
            made = search.build(self._decided.widths, reasons=self._decided.reasons)
            session: Any = Session(made)
            session.engine.tasks.together = together
            self._built = made, session
        return self._built

    def run(self, batch: Batch, traced: bool = True) -> IntegerValues:
        """Run the integer model on a batch, as `Session.run` does; ``traced`` keeps what a backward pass needs."""
        quantized, session = self._session()
        return IntegerValues(self.float_model, quantized, session, batch, traced)

    def recalibrate(self, data: Mapping[str, Any]) -> None:
        """Decide formats anew, by the ranges of the float model as it is now, with the gates that run; widths stay."""
        search, model = self._decided.search, self.float_model
        batch = checked_calibration(model, make_batch(model.inputs, data), search.scheme.calibrator).batch
        shown = with_choices(model, parse_gates(search.scheme.gates))
        self.ranges = calibrate(shown, batch)


def _without_fine(scheme: Scheme | None) -> Scheme:
    """Return a scheme for training, whose weights have eight or four bits."""
    if scheme is None:
        return Scheme(activations=AUTO)
    if scheme.weights == 16:
        raise QuantizationError(
            "weights=16: training is for weights of 8 or 4 bits; 16 lose next to nothing without it"
        )
    return replace(scheme, weights=8) if scheme.weights == AUTO else scheme
