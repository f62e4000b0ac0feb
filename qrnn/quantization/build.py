"""From a float model and its ranges to a quantized model: one format decision after another, each kept with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qrnn.arithmetic.gates import PROBABILITY_FRAC
from qrnn.errors import QuantizationError
from qrnn.model.boundary import quantize_array, to_integers
from qrnn.model.float_model import (
    GATES,
    Concat,
    Dense,
    Direction,
    Embedding,
    FloatArray,
    FloatModel,
    InitialState,
    LastStep,
    Layer,
    Pointwise,
    Recurrent,
    Softmax,
)
from qrnn.model.parts import Int8Array, Int64Array, Operand, QuantInitialState, TensorFormat
from qrnn.model.quant_model import (
    C_FRAC_MAX,
    C_FRAC_MIN,
    ConcatPart,
    Provenance,
    QuantConcat,
    QuantDense,
    QuantDirection,
    QuantEmbedding,
    QuantLastStep,
    QuantLayer,
    QuantModel,
    QuantPointwise,
    QuantRecurrent,
    QuantSoftmax,
)
from qrnn.quantization.calibrate import Ranges
from qrnn.quantization.gate_tables import exp_table, gate_function
from qrnn.quantization.inputs import (
    InputScheme,
    fraction_bits,
    input_format,
    power_of_two_format,
    source_histograms,
    source_tensors,
)
from qrnn.quantization.matrix import bounded_rows, largest_row_sum, quantize_matrix, row_scales
from qrnn.quantization.scheme import Scheme

_GATE_ROLE = {
    "i": "gate",
    "f": "gate",
    "g": "candidate",
    "o": "gate",
    "r": "gate",
    "z": "gate",
    "n": "candidate",
    "h": "candidate",
}


class Builder:
    """One conversion: tensor formats are decided in the order of the layers; ``decisions`` says what and why."""

    def __init__(
        self, model: FloatModel, ranges: Ranges, scheme: Scheme, inputs: Mapping[str, InputScheme], reasons: list[str]
    ) -> None:
        self.model, self.ranges, self.scheme, self.input_schemes = model, ranges, scheme, inputs
        self.tensors: dict[str, TensorFormat] = {}
        self.fracs: dict[str, int] = {}  # tensors with a power-of-two scale
        self.decisions: list[str] = list(reasons)

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

    @property
    def _operand_limit(self) -> int:
        return 127 if self.scheme.activations == 8 else 32767

    def _is_output(self, name: str) -> bool:
        return any(name == part[0] for output in self.model.outputs for part in output.parts)

    @staticmethod
    def _widest_limit(name: str, readers: list[Recurrent | Dense]) -> int:
        """The largest 16-bit operand limit 2^k - 1 with which every reader's worst row still fits 31 bits."""
        weights: list[FloatArray] = []
        for reader in readers:
            weights += [d.weight_ih for d in reader.directions] if isinstance(reader, Recurrent) else [reader.weight]
        limit = _fitting_limit(32767, max((largest_row_sum(weight) for weight in weights), default=0.0))
        if limit < 127:
            raise QuantizationError(f"{name}: rows of the layers that read it are too long for 32-bit sums")
        return limit

    def _power_of_two(self, name: str, frac: int, features: int, has_time: bool, limit: int = 32767) -> None:
        self.fracs[name] = frac
        self.tensors[name] = TensorFormat(features, has_time, 16, (2.0**-frac,), limit)

    def _frac(self, name: str, layer: Layer) -> int:
        if not 0 <= self.fracs[name] <= 15:
            raise QuantizationError(
                f"layer {layer.name!r}: its input {name!r} needs {self.fracs[name]} fraction bits, expected 0…15"
            )
        return self.fracs[name]

    def _operand(self, name: str, largest: float, row_sum: float) -> Operand:
        """How a matvec reads tensor ``name``: sources as they are, int16 tensors narrowed by the least shift that covers ``largest``."""
        if name not in self.fracs:
            return Operand(0, self.tensors[name].limit)
        q = min(largest * 2.0 ** self.fracs[name], 32767.0)
        limit, shift = max(127, _fitting_limit(self._operand_limit, row_sum)), 0
        # Up to limit + 1: the topmost values lose one unit to the clamp, where one more shift would cost every value a bit.
        while (limit + 1) * 2**shift < q and shift < 15:
            shift += 1
        return Operand(shift, limit)

    def _unit(self, name: str, operand: Operand) -> FloatArray:
        """Real value of one operand unit of tensor ``name``, [1] or [F]."""
        return self.tensors[name].scales * 2.0**operand.shift

    def _layer(self, layer: Layer) -> QuantLayer:
        match layer:
            case Recurrent():
                return self._recurrent(layer)
            case Dense():
                return self._dense(layer)
            case Pointwise():
                return self._pointwise(layer)
            case Softmax():
                info = self.model.tensors[layer.output]
                self._power_of_two(layer.output, PROBABILITY_FRAC, info.features, info.has_time, 1 << PROBABILITY_FRAC)
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
                self._power_of_two(layer.output, frac, info.features, info.has_time)
                parts = tuple(ConcatPart(name, indices, self.fracs[name]) for name, indices in layer.parts)
                return QuantConcat(layer.name, layer.output, parts, frac)

    def _dense(self, layer: Dense) -> QuantDense:
        largest = self.ranges.largest(layer.output)
        consumers = [reader for reader in self.model.layers if layer.output in reader.inputs]
        # Whole units serve a softmax: it takes logits that are 16 apart as certain.
        least = 0 if any(isinstance(reader, Softmax) for reader in consumers) else -16
        frac = fraction_bits(largest, 15, least=least)
        reason = f"|y| ≤ {largest:.3g} in calibration"
        if len(consumers) == 1 and isinstance(consumers[0], Pointwise) and not self._is_output(layer.output):
            activation = consumers[0].activation
            if activation.kind != "relu":
                frac, reason = gate_function(activation, self.scheme.gates).in_frac, f"the input format of {activation}"
        operand = self._operand(layer.input, self._observed(layer.input), largest_row_sum(layer.weight))
        weight = layer.weight * self._unit(layer.input, operand)
        fracs = np.full(len(weight), frac, np.int64)
        pre_shift = bounded_rows(f"layer {layer.name}", weight, layer.bias, fracs, operand.limit)
        self.decisions.append(f"{layer.output}: int16 with {frac} fraction bits ({reason})")
        self._note_shift(layer.name, pre_shift)
        info = self.model.tensors[layer.output]
        self._power_of_two(layer.output, frac, info.features, info.has_time)
        matrix = quantize_matrix(weight, layer.bias, fracs, pre_shift, operand.limit)
        return QuantDense(layer.name, layer.input, layer.output, matrix, pre_shift, operand, frac)

    def _observed(self, name: str) -> float:
        """The largest magnitude of an int16 tensor that a matvec operand should cover, by the calibrator."""
        if name not in self.ranges.total:
            return 0.0
        return float(self.ranges.total[name].threshold(self.scheme.calibrator, self._operand_limit)[0])

    def _pointwise(self, layer: Pointwise) -> QuantPointwise:
        in_frac = self._frac(layer.input, layer)
        function = gate_function(layer.activation, self.scheme.gates, relu_frac=in_frac)
        in_unit_interval = layer.activation.kind in ("sigmoid", "hard_sigmoid")
        out_frac = PROBABILITY_FRAC if in_unit_interval else function.out_frac
        info = self.model.tensors[layer.output]
        self._power_of_two(layer.output, out_frac, info.features, info.has_time, 1 << 14 if in_unit_interval else 32767)
        return QuantPointwise(layer.name, layer.input, layer.output, function, in_frac, out_frac)

    def _recurrent(self, layer: Recurrent) -> QuantRecurrent:
        H, D = layer.hidden_size, len(layer.directions)
        relu = any(d.activations["candidate"].kind == "relu" for d in layer.directions)
        h_largest = max(self.ranges.largest(f"{layer.name}[{k}].h") for k in range(D))
        if relu and layer.cell != "rnn":
            raise QuantizationError(
                f"layer {layer.name!r}: relu as the candidate of {layer.cell} is not supported; use tanh"
            )
        bounded = not relu and h_largest <= 1.0  # an initial state may lie beyond 1
        h_frac = 15 if bounded else fraction_bits(h_largest, 15)
        reason = "bounded by its activation" if bounded else f"|h| ≤ {h_largest:.3g} in calibration"
        self.decisions.append(f"{layer.name}: h int16 with {h_frac} fraction bits ({reason})")
        c_frac = C_FRAC_MAX
        if layer.cell == "lstm":
            c_largest = max(self.ranges.largest(f"{layer.name}[{k}].c") for k in range(D))
            c_frac = fraction_bits(c_largest, C_FRAC_MAX, C_FRAC_MIN, headroom=4.0, width=32)
            self.decisions.append(
                f"{layer.name}: c int32 with {c_frac} fraction bits (|c| ≤ {c_largest:.3g} in calibration)"
            )
        width = H * D
        self._power_of_two(layer.output, h_frac, width, True)
        self._power_of_two(layer.h_n, h_frac, width, False)
        if layer.c_n is not None:
            self.tensors[layer.c_n] = TensorFormat(width, False, 32, (2.0**-c_frac,), (1 << 31) - 1)
        observed = max(self._observed(f"{layer.name}[{k}].h") for k in range(D))
        x_operand = self._operand(
            layer.input, self._observed(layer.input), max(largest_row_sum(d.weight_ih) for d in layer.directions)
        )
        h_operand = self._operand(layer.output, observed, max(largest_row_sum(d.weight_hh) for d in layer.directions))
        self.decisions.append(
            f"{layer.name}: h operand within ±{h_operand.limit} after a shift of {h_operand.shift} (|h| ≤ {observed:.3g})"
        )
        directions = tuple(
            self._direction(layer, number, d, x_operand, h_operand, h_frac, c_frac)
            for number, d in enumerate(layer.directions)
        )
        return QuantRecurrent(
            name=layer.name,
            cell=layer.cell,
            input=layer.input,
            output=layer.output,
            h_n=layer.h_n,
            c_n=layer.c_n,
            directions=directions,
            linear_before_reset=layer.linear_before_reset,
            h_frac=h_frac,
            c_frac=c_frac,
            x_operand=x_operand,
            h_operand=h_operand,
        )

    def _direction(
        self,
        layer: Recurrent,
        number: int,
        d: Direction,
        x_operand: Operand,
        h_operand: Operand,
        h_frac: int,
        c_frac: int,
    ) -> QuantDirection:
        owner = f"{layer.name}[{number}]"
        gates = GATES[layer.cell]
        functions = tuple(
            gate_function(d.activations[_GATE_ROLE[gate]], self.scheme.gates, relu_frac=h_frac) for gate in gates
        )
        fracs = np.repeat([f.in_frac for f in functions], layer.hidden_size).astype(np.int64)
        if layer.cell == "lstm":
            functions += (gate_function(d.activations["output"], self.scheme.gates),)
        weight_ih = d.weight_ih * self._unit(layer.input, x_operand)
        weight_hh = d.weight_hh * 2.0 ** (h_operand.shift - h_frac)
        bias_ih, bias_hh = _split_bias(layer, d, weight_ih, weight_hh)
        pre_shift = np.maximum(
            bounded_rows(f"{owner}.weight_ih", weight_ih, bias_ih, fracs, x_operand.limit),
            bounded_rows(f"{owner}.weight_hh", weight_hh, bias_hh, fracs, h_operand.limit),
        )
        self._note_shift(owner, pre_shift)
        return QuantDirection(
            reverse=d.reverse,
            ih=quantize_matrix(weight_ih, bias_ih, fracs, pre_shift, x_operand.limit),
            hh=quantize_matrix(weight_hh, bias_hh, fracs, pre_shift, h_operand.limit),
            pre_shift=pre_shift,
            gates=functions,
            h_0=_initial_state(d.h_0, h_frac, 32767),
            c_0=None if d.c_0 is None else _initial_state(d.c_0, c_frac, (1 << 31) - 1),
        )

    def _note_shift(self, owner: str, pre_shift: Int8Array) -> None:
        if pre_shift.any():
            self.decisions.append(
                f"{owner}: {int((pre_shift > 0).sum())} rows computed up to {int(pre_shift.max())} bits coarser, so that their sums fit 32 bits"
            )


def _fitting_limit(limit: int, row_sum: float) -> int:
    """``limit``, or the next of its halves with which a row of that sum stays below 2^30; the other bit is for bias and left shift."""
    while row_sum * limit >= 2.0**30:
        limit >>= 1
    return limit


def _split_bias(
    layer: Recurrent, d: Direction, weight_ih: FloatArray, weight_hh: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The biases as each matvec adds them.

    They are summed and given to whichever accumulator is finer, row by row; but the candidate of a GRU with linear_before_reset = 1
    multiplies its recurrent bias by r, so its two stay apart.
    """
    total = d.bias_ih + d.bias_hh
    zero = np.zeros_like(total)
    to_ih = row_scales(weight_ih, zero) <= row_scales(weight_hh, zero)
    bias_ih, bias_hh = np.where(to_ih, total, 0.0), np.where(to_ih, 0.0, total)
    if layer.cell == "gru" and layer.linear_before_reset:
        candidate = slice(2 * layer.hidden_size, None)
        bias_ih[candidate], bias_hh[candidate] = d.bias_ih[candidate], d.bias_hh[candidate]
    return bias_ih, bias_hh


def _initial_state(state: InitialState, frac: int, limit: int) -> QuantInitialState:
    value = to_integers(state.value, 2.0**-frac, limit).astype(np.int32)
    indices: Int64Array | None = None if state.indices is None else state.indices.astype(np.int64)
    return QuantInitialState(value, state.source, indices)
