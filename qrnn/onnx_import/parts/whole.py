"""A whole model that is to be taken apart: its graph, checked, and the types and shapes of its tensors as far as they are known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx

from qrnn.onnx_import.graph import checked_graph
from qrnn.onnx_import.parts.flow import Flow
from qrnn.onnx_import.parts.runtime_types import runtime_type
from qrnn.onnx_import.parts.shapes import inferred_types
from qrnn.onnx_import.source import Source

MOST_ASKED = 64
"""The most tensors of which ONNX Runtime is asked for the type; each time it reads the whole model."""


@dataclass(frozen=True)
class Whole:
    """A model that was read and checked."""

    source: Source

    def __post_init__(self) -> None:
        checked_graph(self.source.model, self.source.name)

    @property
    def model(self) -> onnx.ModelProto:
        """Return the model as it is in the file, with its weights."""
        return self.source.model

    @cached_property
    def flow(self) -> Flow:
        """Return who makes and reads each tensor of the top level."""
        return Flow(self.model.graph)

    @cached_property
    def initializers(self) -> dict[str, onnx.TensorProto]:
        """Return the graph's constants by name."""
        return {t.name: t for t in self.model.graph.initializer}

    @cached_property
    def _asked(self) -> set[str]:
        """Return the tensors of which ONNX Runtime was asked for the type."""
        return set()

    @cached_property
    def types(self) -> dict[str, onnx.ValueInfoProto]:
        """Return the type and the shape of each tensor of the top level, as the file declares them or ONNX's shape inference finds them."""
        return inferred_types(self.model, self.source.budget)

    def type_of(self, name: str) -> onnx.ValueInfoProto | None:
        """Return the type and shape of a tensor, which ONNX Runtime may know where nothing else does; None where it is unknown."""
        info = self.types.get(name)
        known = info is not None and info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape")
        if not known and name not in self._asked and len(self._asked) < MOST_ASKED:
            self._asked.add(name)
            found = runtime_type(self.model, name) or info
            if found is not None:
                self.types[name] = found
        return self.types.get(name)
