"""From a float model and its ranges to a quantized model: one format decision after another, each kept with its reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.errors import QuantizationError
from qrnn.model.boundary import quantize_array
from qrnn.model.float_model import (
    Add,
    Concat,
    Dense,
    Embedding,
    LastStep,
    Layer,
    Pointwise,
    Recurrent,
    Softmax,
)
from qrnn.model.parts import TensorFormat
from qrnn.model.quant_graph import Provenance
from qrnn.model.quant_layers import (
    ConcatPart,
    QuantAdd,
    QuantConcat,
    QuantDense,
    QuantEmbedding,
    QuantLastStep,
    QuantLayer,
    QuantPointwise,
    QuantSoftmax,
)
from qrnn.model.quant_model import QuantModel
from qrnn.quantization.formats import Formats, fitting_limit
from qrnn.quantization.gate_tables import exp_table, needs_input_range
from qrnn.quantization.inputs import (
    fraction_bits,
    input_format,
    power_of_two_format,
    source_histograms,
    source_tensors,
)
from qrnn.quantization.matrix import bounded_rows, largest_row_sum, quantize_matrix
from qrnn.quantization.recurrent import build_recurrent


class Builder(Formats):
    """One conversion: tensor formats are decided in the order of the layers."""

    def build(self, provenance: Provenance) -> QuantModel:
        """The quantized model; QuantizationError names the layer that does not fit."""
        for graph_input in self.model.inputs:
            if graph_input.kind == "tokens":
                self.tensors[graph_input.name] = TensorFormat(
                    1, graph_input.has_time, 32, (1.0,), graph_input.vocabulary - 1
                )
        histograms = source_histograms(self.model, self.ranges)
        for name in source_tensors(self.model):
            info = self.model.tensors[name]
            readers = [layer for layer in self.model.layers if name in layer.inputs]
            if all(isinstance(reader, Recurrent | Dense) for reader in readers) and not self._is_output(name):
                limit = self._widest_limit(name, [r for r in readers if isinstance(r, Recurrent | Dense)])
                chosen = self.input_schemes[name]
                fmt = input_format(
                    histograms[name], info.features, info.has_time, chosen, self.scheme.calibrator, limit
                )
                self.decisions.append(f"{name}: input scheme {chosen}, |q| ≤ {fmt.limit}")
            else:
                fmt, frac = power_of_two_format(float(histograms[name][0].largest[0]), info.features, info.has_time)
                self.fracs[name] = frac
                self.decisions.append(
                    f"{name}: int16 with {frac} fraction bits, because it is not read by matrix products alone"
                )
            self.tensors[name] = fmt
        self._check_choices()
        layers = tuple(self._layer(layer) for layer in self.model.layers)
        return QuantModel(
            name=self.model.name,
            inputs=self.model.inputs,
            layers=layers,
            outputs=self.model.outputs,
            tensors=self.tensors,
            one_step=self.model.one_step,
            provenance=replace(provenance, decisions=tuple(self.decisions)),
        )

    def _check_choices(self) -> None:
        """A gate chosen by name that the model lacks is a mistake."""
        seen = {role for layer in self.model.layers if isinstance(layer, Recurrent) for role in layer.roles}
        if any(isinstance(layer, Pointwise) for layer in self.model.layers):
            seen.add("head")
        if unused := self.choices.unused(seen):
            raise QuantizationError(
                f"gates {self.scheme.gates!r}: the model has no {' and no '.join(unused)} gate; leave {'them' if len(unused) > 1 else 'it'} out"
            )

    def _is_output(self, name: str) -> bool:
        return any(name == part[0] for output in self.model.outputs for part in output.parts)

    def _widest_limit(self, name: str, readers: list[Recurrent | Dense]) -> int:
        """The largest 16-bit operand limit 2^k - 1 with which every reader's worst row still fits 31 bits."""
        sums = [0.0]
        for reader in readers:
            if isinstance(reader, Recurrent):
                sums += [largest_row_sum(d.weight_ih, self.scheme.weights) for d in reader.directions]
            else:
                sums.append(largest_row_sum(reader.weight))
        limit = fitting_limit(32767, max(sums))
        if limit < 127:
            raise QuantizationError(f"{name}: rows of the layers that read it are too long for 32-bit sums")
        return limit

    def _frac(self, name: str, layer: Layer) -> int:
        if not 0 <= self.fracs[name] <= 15:
            raise QuantizationError(
                f"layer {layer.name!r}: its input {name!r} needs {self.fracs[name]} fraction bits, expected 0…15"
            )
        return self.fracs[name]

    def _layer(self, layer: Layer) -> QuantLayer:
        match layer:
            case Recurrent():
                return build_recurrent(self, layer)
            case Dense():
                return self._dense(layer)
            case Pointwise():
                return self._pointwise(layer)
            case Softmax():
                info = self.model.tensors[layer.output]
                self.set_format(layer.output, PROBABILITY_FRAC, info.features, info.has_time, 1 << PROBABILITY_FRAC)
                return QuantSoftmax(layer.name, layer.input, layer.output, exp_table(), self._frac(layer.input, layer))
            case Embedding():
                table = quantize_array(layer.table, self.tensors[layer.output])
                return QuantEmbedding(layer.name, layer.input, layer.output, table)
            case LastStep():
                source = self.tensors[layer.input]
                self.tensors[layer.output] = replace(source, has_time=False)
                if layer.input in self.fracs:
                    self.fracs[layer.output] = self.fracs[layer.input]
                return QuantLastStep(layer.name, layer.input, layer.output)
            case Concat():
                frac = min(self._frac(name, layer) for name, _ in layer.parts)
                info = self.model.tensors[layer.output]
                self.set_format(layer.output, frac, info.features, info.has_time)
                parts = tuple(ConcatPart(name, indices, self.fracs[name]) for name, indices in layer.parts)
                return QuantConcat(layer.name, layer.output, parts, frac)
            case Add():
                left, right = self._frac(layer.left, layer), self._frac(layer.right, layer)
                largest = self.ranges.largest(layer.output)
                frac = min(fraction_bits(largest, 15), max(left, right))
                info = self.model.tensors[layer.output]
                self.set_format(layer.output, frac, info.features, info.has_time)
                self.decisions.append(
                    f"{layer.output}: int16 with {frac} fraction bits (|y| ≤ {largest:.3g} in calibration)"
                )
                return QuantAdd(layer.name, layer.left, layer.right, layer.output, left, right, frac)

    def _dense(self, layer: Dense) -> QuantDense:
        largest = self.ranges.largest(layer.output)
        consumers = [reader for reader in self.model.layers if layer.output in reader.inputs]
        # Whole units serve a softmax: it takes logits that are 16 apart as certain.
        least = 0 if any(isinstance(reader, Softmax) for reader in consumers) else -16
        frac = fraction_bits(largest, 15, least=least)
        reason = f"|y| ≤ {largest:.3g} in calibration"
        if len(consumers) == 1 and isinstance(consumers[0], Pointwise) and not self._is_output(layer.output):
            activation = consumers[0].activation
            if not needs_input_range(activation):
                frac, reason = self.gate_function("head", activation).in_frac, f"the input format of {activation}"
        operand = self.operand(layer.input, self.observed(layer.input), largest_row_sum(layer.weight))
        weight = layer.weight * self.unit(layer.input, operand)
        fracs = np.full(len(weight), frac, np.int64)
        pre_shift = bounded_rows(f"layer {layer.name}", weight, layer.bias, fracs, operand.limit)
        self.decisions.append(f"{layer.output}: int16 with {frac} fraction bits ({reason})")
        self.note_shift(layer.name, pre_shift)
        info = self.model.tensors[layer.output]
        self.set_format(layer.output, frac, info.features, info.has_time)
        matrix = quantize_matrix(weight, layer.bias, fracs, pre_shift, operand.limit)
        return QuantDense(layer.name, layer.input, layer.output, matrix, pre_shift, operand, frac)

    def _pointwise(self, layer: Pointwise) -> QuantPointwise:
        in_frac = self._frac(layer.input, layer)
        function = self.gate_function("head", layer.activation, in_frac)
        low, high = function.bounds
        limit, out_frac = max(-low, high), function.out_frac
        if limit > 32767:  # a value of 1 in Q0.15, or another that needs 17 bits
            limit, out_frac = limit // 2, out_frac - 1
        if out_frac < 0:
            raise QuantizationError(
                f"layer {layer.name!r}: values of {layer.activation} up to {limit} do not fit int16"
            )
        info = self.model.tensors[layer.output]
        self.set_format(layer.output, out_frac, info.features, info.has_time, limit)
        return QuantPointwise(layer.name, layer.input, layer.output, function, in_frac, out_frac)
