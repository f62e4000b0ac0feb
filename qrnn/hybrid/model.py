"""A model of parts that run one after the other: graphs in float, by ONNX Runtime, and models of integers.

It leaves the numeric contract: only the integer parts give the same bits everywhere. What the parts hand to each other are real tensors by
name, batch first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qrnn.errors import ModelFileError
from qrnn.model.float_model import Cache, GraphInput, GraphOutput
from qrnn.model.in_words import port_lines
from qrnn.model.lateness import needs_whole
from qrnn.model.parts import LEFT_OUT
from qrnn.model.quant_model import QuantModel
from qrnn.system.brief import Brief, Described

REMEDY = (
    "the cut by --from and --to leaves a .qrnn of integers alone, beside ONNX files of the rest, which run on the host "
    "(docs/onnx_files.md)"
)


RANDOM_OPERATORS = frozenset(
    ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"]
)
"""The operators that no float part has, since no run would be like another."""


@dataclass(frozen=True)
class FloatPart(Brief):
    """A part that stays in float: an ONNX graph, with the places of batch and time in the tensors that it reads and gives."""

    name: str
    content: npt.NDArray[np.uint8]
    """The bytes of the ONNX file, weights included."""
    inputs: tuple[GraphOutput, ...]
    outputs: tuple[GraphOutput, ...]
    by_steps: bool
    """Whether each step of its outputs depends on one step of its inputs alone; such a part can be streamed."""
    why: tuple[str, ...]
    """Why the part is not in integers: what was refused, or the option that asked for it."""
    multiply_adds: float
    """The multiply-adds of its products in a step of the model's inputs."""
    weight_bytes: int
    fixed: Mapping[str, Any] = field(default_factory=dict, metadata=LEFT_OUT)
    """What inputs of the graph are fixed to."""


@dataclass(frozen=True)
class IntegerPart(Brief):
    """A part in integers; ``multiply_adds`` are those of its matrices in a step of the model's inputs."""

    name: str
    model: QuantModel
    multiply_adds: float

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """Return the tensors that the part reads."""
        return self.model.inputs

    @property
    def outputs(self) -> tuple[GraphOutput, ...]:
        """Return the tensors that the part gives."""
        return self.model.outputs

    @property
    def weight_bytes(self) -> int:
        """Return the bytes of its weights."""
        return sum(m.matrix.weight_bytes for m in self.model.matrices) + sum(
            layer.own_bytes().weights for layer in self.model.layers
        )


Part = FloatPart | IntegerPart


@dataclass(frozen=True)
class HybridModel(Described):
    """A whole model with float parts. ``inputs`` and ``outputs`` are those of the graph; the parts' tensors have its names."""

    name: str
    inputs: tuple[GraphInput, ...]
    outputs: tuple[GraphOutput, ...]
    parts: tuple[Part, ...]
    source_sha256: str
    one_step: bool = False
    """Whether the graph runs one time step per call."""
    pairs: Mapping[str, str] = field(default_factory=dict)
    """The output of the graph that gives each state input on to the next call, by the input."""
    caches: tuple[Cache, ...] = ()
    """Inputs and outputs of the graph for past steps, which are a part of the state."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Inputs and free sizes of the source that were fixed when it was imported."""
    notes: tuple[str, ...] = ()
    session_class: ClassVar[str] = "qrnn.hybrid.session:HybridSession"
    """Where the class of its sessions is; see `qrnn.Session`."""

    def __post_init__(self) -> None:
        """Check that every part reads what is there, and that the names fit together."""
        known = {i.name for i in self.inputs}
        if len({part.name for part in self.parts}) < len(self.parts):
            raise ModelFileError(f"model {self.name!r} has two parts of one name; convert the model again")
        for part in self.parts:
            for place in part.inputs:
                optional = isinstance(place, GraphInput) and place.kind in ("state", "lengths")
                if place.name not in known and not optional:
                    raise ModelFileError(
                        f"part {part.name!r} reads tensor {place.name!r}, which no part before it gives; convert the model again"
                    )
            twice = next((o.name for o in part.outputs if o.name in known), None)
            if twice is not None:
                raise ModelFileError(f"part {part.name!r} gives tensor {twice!r} again; convert the model again")
            known.update(o.name for o in part.outputs)
        missing = next((o.name for o in self.outputs if o.name not in known), None)
        if missing is not None or not self.float_parts or not self.integer_parts:
            what = f"no part gives output {missing!r}" if missing is not None else "it has not parts of both kinds"
            raise ModelFileError(f"model {self.name!r}: {what}; convert the model again")

    def describe_lines(self) -> Iterator[str]:
        """Yield what the model takes and gives, and which parts it has."""
        products, weights = (f"{100 * share:.1f} %" for share in self.shares)
        yield f"HybridModel {self.name!r}: {products} of the multiply-adds and {weights} of the weights' bytes are integers"
        yield from port_lines(self)
        for part in self.parts:
            kind = "float, by ONNX Runtime" if isinstance(part, FloatPart) else "integers"
            yield f"  part   {part.name}: {kind}"

    @property
    def float_parts(self) -> tuple[FloatPart, ...]:
        """Return the parts in float, in order."""
        return tuple(part for part in self.parts if isinstance(part, FloatPart))

    @property
    def integer_parts(self) -> tuple[IntegerPart, ...]:
        """Return the parts in integers, in order."""
        return tuple(part for part in self.parts if isinstance(part, IntegerPart))

    @property
    def rows(self) -> bool:
        """Return whether every call is one time step by itself (see `GraphInput.rows`)."""
        return any(i.rows for i in self.inputs)

    @property
    def border(self) -> tuple[str, ...]:
        """Return the tensors that go from one part to another, in order."""
        read = {i.name for part in self.parts for i in part.inputs}
        return tuple(o.name for part in self.parts for o in part.outputs if o.name in read)

    @property
    def not_streamed(self) -> str | None:
        """Return which part keeps the model from being streamed, and why; None where it can be."""
        for part in self.parts:
            if isinstance(part, FloatPart):
                if not part.by_steps:
                    return (
                        f"float part {part.name!r} needs whole sequences: a step of what it gives depends on more than one step of what it "
                        "reads"
                    )
                continue
            why = needs_whole(part.model)
            if why is not None:
                return f"part {part.name!r}: {why}"
            if part.model.counted:
                return f"part {part.name!r} skips, merges or delays steps, which streams with float parts do not"
        if self.rows:
            return "it keeps nothing from step to step"
        return None

    @property
    def shares(self) -> tuple[float, float]:
        """Return the shares of the multiply-adds and of the bytes of weights that are integers."""
        products = sum(p.multiply_adds for p in self.parts)
        weights = sum(p.weight_bytes for p in self.parts)
        integers = self.integer_parts
        return (
            sum(p.multiply_adds for p in integers) / products if products else 1.0,
            sum(p.weight_bytes for p in integers) / weights if weights else 1.0,
        )

    def refusal(self, what: str) -> str:
        """Return one line that says why ``what`` takes no such model, and what to do."""
        names = ", ".join(repr(name) for name in self.border)
        return f"{what}: model {self.name!r} has float parts, with {names} at their border; {REMEDY}"
