"""The PyTorch module: parameters of the float model, a forward of integers, and a backward of straight-through gradients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.scheme import Scheme


class QatModule(torch.nn.Module):
    """See `qrnn.qat.prepare`.

    Its parameters are the weights and biases of the float model, float32, called ``layer.field`` with a hyphen in the place of a dot
    inside of a layer's name. ``state_dict`` and ``load_state_dict`` are PyTorch's, and hold the formats too, so that a checkpoint goes on
    with what it had.
    """

    def forward(
        self, x: Any, lengths: Any = None, states: Mapping[str, Any] | None = None
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return what ``Session.run`` of `deploy` gives for a batch, in real units, as float32 tensors.

        ``x``: a tensor for a model with one input of features or tokens, or a dict of tensors by graph input. ``lengths`` [N] are those of
        `Session.run`; ``states`` gives graph state inputs by name, [N, F] or [N, *shape] each. A model with one output gives a tensor,
        others a dict of tensors by the outputs' names; outputs over time are [N, T, …], zero past a sequence's end.
        """
        raise NotImplementedError

    @property
    def float_model(self) -> FloatModel:
        """Return the float model with the weights as they are now."""
        raise NotImplementedError

    def deploy(self) -> QuantModel:
        """Return the integer model that `forward` computes with the weights as they are now."""
        raise NotImplementedError

    def recalibrate(self, data: Mapping[str, Any]) -> None:
        """Choose the formats again, by the ranges that the float model with the weights as they are now has on ``data``."""
        raise NotImplementedError


def prepared(
    model: Any, calibration: Mapping[str, Any], scheme: Scheme | None, target: str, **choices: Any
) -> QatModule:
    """Return the module of `qrnn.qat.prepare`."""
    raise NotImplementedError
