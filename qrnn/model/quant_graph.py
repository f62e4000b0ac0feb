"""A quantized graph has layers, tensors and a provenance. `qrnn.model.check` checks it; a `QuantModel` is a checked one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from qrnn.arithmetic import CONTRACT_VERSION, WITHOUT_OFFSETS
from qrnn.model.float_model import GraphInput, GraphOutput, Section
from qrnn.model.in_words import quant_model_lines
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.lateness import times_of, uneven_join, waiting
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import LayerMatrix
from qrnn.model.parts import LEFT_OUT, FloatArray, TensorFormat
from qrnn.model.time import LengthRule, length_rules
from qrnn.system.brief import Described


@dataclass(frozen=True)
class Provenance:
    """Where a model came from and how its formats were chosen; kept in the file, shown by ``qrnn inspect``."""

    source_sha256: str
    opset: int
    calibration_sha256: str
    calibration_sequences: int
    calibration_steps: int
    calibrator: str
    random_calibration: bool
    target: str
    scheme: Mapping[str, Any]
    decisions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict, metadata=LEFT_OUT)
    """Inputs and free sizes of the source that were fixed when it was imported, as for `qrnn.load_onnx`."""
    section: Section | None = field(default=None, metadata=LEFT_OUT)
    """The part of the source that the model is; None for all of it."""


@dataclass(frozen=True)
class QuantGraph(Described):
    """What a quantized model consists of, not yet checked; see `qrnn.model.quant_model.QuantModel`."""

    name: str
    inputs: tuple[GraphInput, ...]
    layers: tuple[QuantLayer, ...]
    outputs: tuple[GraphOutput, ...]
    tensors: Mapping[str, TensorFormat]
    one_step: bool
    provenance: Provenance
    proof: Mapping[str, int] = field(default_factory=dict)

    def describe_lines(self) -> Iterator[str]:
        """Return what the model is, in a few lines: its bytes, the formats of its inputs, layers and outputs, its calibration."""
        return quant_model_lines(self)

    def whole_tensor(self, output: GraphOutput) -> str | None:
        """Return the tensor that a graph output is, feature for feature; None for an output that is put together otherwise."""
        if len(output.parts) != 1:
            return None
        name, indices, positions = output.parts[0]
        every = np.arange(self.tensors[name].features)
        return name if np.array_equal(indices, every) and np.array_equal(positions, every) else None

    def scales_and_offsets(self, output: GraphOutput) -> tuple[FloatArray, FloatArray]:
        """Return the scale and the offset of each element of a graph output, [F] each, as `TensorFormat` has them of a tensor."""
        scales, offsets = np.ones(output.features), np.zeros(output.features)
        for tensor, indices, positions in output.parts:
            fmt = self.tensors[tensor]
            scales[positions], offsets[positions] = (
                np.broadcast_to(values, fmt.features)[indices] for values in fmt.scales_and_offsets
            )
        return scales, offsets

    @property
    def rows(self) -> bool:
        """Return whether every call is one time step by itself (see `GraphInput.rows`); otherwise sequences of any length run."""
        return any(i.rows for i in self.inputs)

    @property
    def recurrent_layers(self) -> tuple[QuantRecurrent, ...]:
        """Return the recurrent layers, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, QuantRecurrent))

    @property
    def layers_with_states(self) -> tuple[QuantLayer, ...]:
        """Return the layers that keep something from step to step, or that begin each step with something that can be given."""
        return tuple(layer for layer in self.layers if layer.states())

    @cached_property
    def length_rules(self) -> Mapping[str, LengthRule]:
        """Return the length rule of each tensor over time: its number of steps, as it follows from the lengths of the model's time axes."""
        formats = self.tensors
        return length_rules(self.inputs, self.layers, lambda name: name in formats and formats[name].has_time)

    def last_step_behind(self, tensor: str) -> str | None:
        """Return the tensor over time whose last step ``tensor`` is, as copied by layers that carry an offset; None where it is no such copy.

        Where a sequence has no steps, it is the real 0, which the integers of a tensor with an offset may not hold.
        """
        writer = next((layer for layer in self.layers if tensor in layer.outputs), None)
        if writer is None or not writer.carries_offset or len(writer.inputs) > 1:
            return None
        source = writer.inputs[0]
        copies_last = self.tensors[source].has_time and not self.tensors[tensor].has_time
        return source if copies_last else self.last_step_behind(source)

    @property
    def contract(self) -> str:
        """Return the first version of the contract that defines the model's integers."""
        return CONTRACT_VERSION if any(fmt.has_offset for fmt in self.tensors.values()) else WITHOUT_OFFSETS

    @cached_property
    def counted(self) -> frozenset[str]:
        """Return the tensors over time whose steps are counted as they come out: a layer before them skips, merges or delays steps."""
        found = set[str]()
        for layer in self.layers:
            if not layer.step_for_step or found.intersection(layer.inputs):
                found.update(name for name in layer.outputs if self.tensors[name].has_time)
        return frozenset(found)

    @cached_property
    def uneven(self) -> str | None:
        """Return which layer or output joins tensors whose steps come out at different times, so that the model cannot stream; None for none.

        A window that looks ahead gives its steps late. A stream joins what comes out of the same call, which is then not the same step.
        """
        timeless = {name for name, fmt in self.tensors.items() if not fmt.has_time}
        return uneven_join(self.layers, self.outputs, lambda name: name not in timeless)

    @cached_property
    def waits(self) -> str | None:
        """Return which layer gives at every step what only the end of a sequence tells, so that the model cannot stream; None for none."""
        late = {layer.name for layer in self.layers if layer.steps_past_end}
        return waiting(self.layers, lambda name: self.tensors[name].has_time, lambda layer: layer.name in late)

    @cached_property
    def step_rows(self) -> Mapping[str, int]:
        """Return how many steps of each graph output may come out of a stream in one step, by name; 1 for an output without time."""
        times, _ = times_of(self.layers, lambda name: self.tensors[name].has_time)
        rows = {name: own.most_rows for name, own in times.items() if self.tensors[name].has_time}
        return {o.name: max(rows.get(name, 1) for name, _, _ in o.parts) for o in self.outputs}

    def step_shape(self, output: GraphOutput) -> tuple[int, ...]:
        """Return the shape of a graph output of a stream's step, without the streams: with an axis of its steps where several may come out."""
        rows = self.step_rows[output.name]
        return output.shape if rows == 1 else (rows, *output.shape)

    @property
    def matrices(self) -> tuple[LayerMatrix, ...]:
        """Return every matrix of every layer."""
        return tuple(matrix for layer in self.layers for matrix in layer.matrices())
