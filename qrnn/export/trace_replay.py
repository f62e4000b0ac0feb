"""A program replays a sequence with traced C (`qrnn.export.trace`), and the first row of a layer that is not the host's is found.

In is what `qrnn.export.replay.encode_sequences` gives. Out, for every row that a layer has written, in the order in which it was computed:
the number of its tensor, the bytes of an element and the number of elements (uint32 each, little-endian), then the elements.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DeviceError
from qrnn.export.expected import host_rows
from qrnn.export.replay import Vectors, replay_source, sequence_length
from qrnn.export.source import Exported
from qrnn.export.trace import trace_declaration, traced_tensors
from qrnn.model.quant_model import QuantModel

MOST_BYTES = 1 << 28
"""The most bytes of a trace; longer sequences are cut, where they can be, or not traced."""

_HEAD = struct.Struct("<III")

_HOOK = """static int tracing;

@DECLARED@
{
    const uint32_t head[3] = {tensor, size, count};
    const uint8_t *row = (const uint8_t *)values;

    for (uint32_t k = 0U; (tracing != 0) && (k < rows); k++) {
        board_write(head, sizeof(head));
        board_write(row, size * count);
        row += size * stride;
    }
}

/* The trace is all that is written. */
static void result(const void *from, uint32_t bytes)
{
    (void)from;
    (void)bytes;
}
"""


@dataclass(frozen=True)
class LayerDifference:
    """The first row of a layer that differs: the layer with its place in the model, the row, and its first unit that differs.

    ``step`` is the row of the layer's output, counted from the beginning of the sequence; None for a tensor that is not over time.
    """

    sequence: int
    layer: str
    position: int
    tensor: str
    step: int | None
    unit: int
    got: int
    expected: int
    differing: int
    size: int

    def __str__(self) -> str:
        step = "at the end" if self.step is None else f"step {self.step}"
        return (
            f"first in layer {self.layer!r} (number {self.position}, {self.tensor}), sequence {self.sequence}, {step}, unit {self.unit}: "
            f"{self.got}, expected {self.expected} ({self.differing} of {self.size} differ)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, for JSON."""
        return asdict(self)


def trace_source(exported: Exported, most_steps: int) -> str:
    """Return the program for a sequence of at most ``most_steps`` steps, whose C is built with `trace_flag`."""
    text = replay_source(exported, most_steps).replace("board_write(", "result(")
    head, include, rest = text.partition('#include "board.h"\n')
    hook = _HOOK.replace("@DECLARED@", trace_declaration(exported.name).removesuffix(";"))
    declared = trace_declaration(exported.name)
    rest = rest.replace(
        "    calibrate();\n", "    calibrate();\n    tracing = 1; /* behind the calls that have measured the stack */\n"
    )
    return f"{head}{include}\n{declared}\n{hook}{rest}"


def trace_flag(exported: Exported) -> str:
    """Return the compiler's flag with which exported C is traced."""
    return f"-D{exported.name.upper()}_TRACE"


def traceable(model: QuantModel, exported: Exported, inputs: Vectors) -> Vectors | None:
    """Return the sequence as far as its trace has `MOST_BYTES`; None where it cannot be cut."""
    length = sequence_length(exported, inputs)
    row = sum(_HEAD.size + 4 * model.tensors[tensor].features for _, tensor in traced_tensors(model))
    most = MOST_BYTES // (row * max(1, exported.most_rows))
    if length <= most:
        return inputs
    if not exported.streams or most == 0:
        return None
    timed = {p.name for p in (*exported.inputs, *(s.port for s in exported.given)) if p.has_time}
    return {name: values[:most] if name in timed else values for name, values in inputs.items()}


def first_layer(
    model: QuantModel, exported: Exported, sequence: int, inputs: Vectors, output: bytes
) -> LayerDifference | None:
    """Return the first traced row that is not the host's; None where there is none. ``sequence`` is the number to tell.

    Raises DeviceError where the output is no trace of the model.
    """
    want, tensors = host_rows(model, exported, inputs), traced_tensors(model)
    position = {id(layer): k for k, layer in enumerate(model.layers)}
    came = dict.fromkeys(range(len(tensors)), 0)
    last: dict[int, npt.NDArray[np.integer]] = {}

    def compared(number: int, row: int, values: npt.NDArray[np.integer]) -> LayerDifference | None:
        layer, tensor = tensors[number]
        rows = want[tensor]
        step = row if model.tensors[tensor].has_time else None
        expected = rows[row] if row < len(rows) else None
        if expected is None or len(values) != len(expected):
            raise DeviceError(f"the trace has more of tensor {tensor} than the model; export the model again")
        wrong = np.flatnonzero(values != expected)
        if not len(wrong):
            return None
        k = int(wrong[0])
        return LayerDifference(
            sequence,
            layer.name,
            position[id(layer)],
            tensor,
            step,
            k,
            int(values[k]),
            int(expected[k]),
            len(wrong),
            len(values),
        )

    for number, values in read_trace(len(tensors), output):
        if model.tensors[tensors[number][1]].has_time:
            if (found := compared(number, came[number], values)) is not None:
                return found
            came[number] += 1
        else:
            last[number] = values
    ends = (compared(number, 0, values) for number, values in sorted(last.items()))
    return next((found for found in ends if found is not None), None)


def read_trace(tensors: int, output: bytes) -> Iterator[tuple[int, npt.NDArray[np.integer]]]:
    """Yield the rows of a trace, each with the number of its tensor, of so many; DeviceError where it is none."""
    at = 0
    kinds: Sequence[str | None] = (None, None, "<i2", None, "<i4")
    while at < len(output):
        number, size, count = _HEAD.unpack_from(output, at) if at + _HEAD.size <= len(output) else (tensors, 0, 0)
        kind = kinds[size] if size < len(kinds) else None
        at += _HEAD.size
        if number >= tensors or kind is None or at + size * count > len(output):
            raise DeviceError("the program wrote what is no trace of the model; export the model again")
        yield number, np.frombuffer(output, kind, count, at)
        at += size * count
