"""Every tensor must have the scale, width and range that the layer which writes it says, and its readers must read it so.

The integers of a layer depend on the formats that it was made for. A file whose layers and tensors disagree would run, and its values would
be wrong by powers of two.

A tensor is *fixed-point* when it is int16 with one scale 2^-frac and no offset. Graph inputs and embeddings may instead be *scaled*: 8 or 16
bits with any scales, folded into the matrices that read them, so that nothing but a matrix product can read them. A scaled graph input may
have offsets too, which these matrices fold into their biases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from qrnn.errors import ModelFileError
from qrnn.model.formats import cell_bits_of, fraction_bits_of
from qrnn.model.layer import QuantLayer
from qrnn.model.layer_facts import Reading
from qrnn.model.parts import CELL_MAX, INT32_MAX, STATE_MAX, Operand, TensorFormat
from qrnn.model.quant_graph import QuantGraph


def fail(where: str, problem: str) -> NoReturn:
    """Raise ModelFileError for a structure that no conversion makes."""
    raise ModelFileError(f"{where}: {problem}; the model file is damaged or was not written by qrnn")


@dataclass
class LayerChecks:
    """The model around the layer that ``where`` names, as its checks see it (`qrnn.model.surroundings.Checks`).

    ``scaled`` holds the names of the scaled tensors that were found so far.
    """

    where: str
    model: QuantGraph
    scaled: set[str] = field(default_factory=set)

    @property
    def tensors(self) -> Mapping[str, TensorFormat]:
        """Return the formats of all tensors."""
        return self.model.tensors

    def fail(self, problem: str) -> NoReturn:
        """Refuse the layer."""
        fail(self.where, problem)

    def expect(self, tensor: str, features: int, has_time: bool) -> None:
        """Refuse a tensor of another shape."""
        fmt = self.tensors.get(tensor)
        if fmt is None or (fmt.features, fmt.has_time) != (features, has_time):
            self.fail(f"tensor {tensor!r} does not have {features} features{' over time' if has_time else ''}")

    def vocabulary(self, tensor: str) -> int | None:
        """Return the vocabulary of a token input; None for any other tensor."""
        return next((i.vocabulary for i in self.model.inputs if i.kind == "tokens" and i.name == tensor), None)

    def state_features(self, source: str) -> int:
        """Return the features of a graph state input; 0 where there is none of that name."""
        return next((i.features for i in self.model.inputs if i.kind == "state" and i.name == source), 0)

    def as_source(self, tensor: str) -> None:
        """Refuse a tensor whose format no graph input could have, and note it where it is scaled."""
        if _source_is_scaled(self.where, self.tensors[tensor]):
            self.scaled.add(tensor)

    def check_reading(self, reading: Reading) -> None:
        """Refuse a reading with other fraction bits than the tensor has, and one of a scaled tensor by anything but a matrix product."""
        fmt, scaled = self.tensors[reading.tensor], reading.tensor in self.scaled
        if reading.operand is not None:
            as_it_is = Operand(0, fmt.limit)
            if scaled and reading.operand != as_it_is:
                self.fail(f"reads {reading.tensor!r} through {reading.operand}, expected {as_it_is}")
        elif reading.frac is not None:
            bits = cell_bits_of(fmt) if fmt.bits == 32 else fraction_bits_of(fmt)
            if (None if scaled else bits) != reading.frac:
                self.fail(f"reads {reading.tensor!r} with {reading.frac} fraction bits, but it is {_text(fmt)}")
        elif scaled:
            self.fail(f"reads {reading.tensor!r}, whose scale only matrix products know")

    def check_formats(self, layer: QuantLayer) -> None:
        """Refuse a layer that reads or writes a tensor in another format than the tensor has."""
        for reading in layer.readings():
            self.check_reading(reading)
            taken_up = layer.carries_offset or (layer.folds_offset and reading.operand is not None)
            if self.tensors[reading.tensor].has_offset and not taken_up:
                self.fail(
                    f"reads {reading.tensor!r}, which is {_text(self.tensors[reading.tensor])}, expected no offset"
                )
        layer.check_source(self)
        for name, written in layer.formats(self.tensors).items():
            fmt = self.tensors[name]
            bits = 32 if written.limit == CELL_MAX else 16
            scale = (2.0**-written.frac,)
            if max(map(abs, written.offset)) > INT32_MAX:
                self.fail(f"the offset of {name!r} is beyond ±{INT32_MAX}")
            _expect(
                self.where,
                name,
                fmt,
                TensorFormat(fmt.features, fmt.has_time, bits, scale, written.limit, written.offset),
            )


def check_formats(model: QuantGraph) -> None:
    """Raise ModelFileError where a tensor's format is not the one that its writer gives it, or that a reader was made for."""
    tensors = model.tensors
    scaled: set[str] = set()
    for graph_input in model.inputs:
        name, where = graph_input.name, f"input {graph_input.name}"
        if graph_input.kind == "tokens":
            wanted = TensorFormat(1, graph_input.has_time, 32, (1.0,), graph_input.vocabulary - 1)
            _expect(where, name, tensors[name], wanted)
        elif graph_input.kind == "features" and _source_is_scaled(where, tensors[name]):
            scaled.add(name)
    for layer in model.layers:
        LayerChecks(f"layer {layer.name}", model, scaled).check_formats(layer)
    for output in model.outputs:
        for name, _, _ in output.parts:
            if name in scaled:
                fail(f"output {output.name}", f"reads {name!r}, whose scale only matrix products know")


def _expect(where: str, name: str, fmt: TensorFormat, wanted: TensorFormat) -> None:
    if fmt != wanted:
        fail(where, f"{name!r} is {_text(fmt)}, expected {_text(wanted)}")


def _text(fmt: TensorFormat) -> str:
    scale = f"{fmt.scale[0]:g}" if len(fmt.scale) == 1 else f"{len(fmt.scale)} values"
    offset = f"{fmt.offset[0]}" if len(fmt.offset) == 1 else f"{len(fmt.offset)} values"
    return f"int{fmt.bits} within ±{fmt.limit} of scale {scale}{f' with offset {offset}' if fmt.has_offset else ''}"


def _source_is_scaled(where: str, fmt: TensorFormat) -> bool:
    """Return whether the format of a graph input or an embedding is scaled and not fixed-point; refuse one that is neither."""
    frac = fraction_bits_of(fmt)
    if frac is not None and 0 <= frac <= 15 and fmt.limit == STATE_MAX and not fmt.has_offset:
        return False
    narrow = fmt.bits == 8 and fmt.limit == 127
    wide = fmt.bits == 16 and 127 <= fmt.limit <= STATE_MAX and fmt.limit & (fmt.limit + 1) == 0
    if not (narrow or wide):
        fail(where, f"format {_text(fmt)}, expected int8 within ±127, or int16 within ±(2^k - 1)")
    return True
