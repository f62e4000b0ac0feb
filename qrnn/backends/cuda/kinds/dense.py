"""Dense layers are the product W·x (`qrnn.backends.cuda.input_product`), with rows as sequences of one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qrnn.backends.cuda.device_layer import DeviceRowLayer, Setting
from qrnn.backends.cuda.filled import ones
from qrnn.backends.cuda.input_product import multiply_inputs
from qrnn.backends.cuda.kernel_variants import ProductKind
from qrnn.backends.cuda.weights import ProductWeights
from qrnn.model.kinds.dense import QuantDense
from qrnn.model.parts import TensorFormat


class DeviceDense(DeviceRowLayer):
    """A dense layer on the device."""

    kind = QuantDense

    def __init__(self, layer: QuantDense, tensors: Mapping[str, TensorFormat]) -> None:
        super().__init__(layer, tensors)
        self._weights = ProductWeights(layer.matrix, layer.pre_shift, layer.operand)

    def rows(self, setting: Setting, *inputs: Any) -> Any:
        """Return the product of the rows with the matrix."""
        (x,) = inputs
        M, w = x.shape[0], self._weights
        variant = ProductKind(w.planes, True, setting.device.capability)
        return multiply_inputs(w, x.reshape(M, 1, x.shape[1]), ones(M), False, 0, 1, variant, setting.tuning)
