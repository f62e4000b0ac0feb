"""What the integers that exported functions take and give are worth, as macros of the header and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from qrnn.export.c_text import WIDTH
from qrnn.export.ports import Port
from qrnn.model.float_model import GraphOutput
from qrnn.model.parts import INT32_MAX
from qrnn.model.quant_model import QuantModel

MOST_ELEMENTS = 1024
"""The most elements of a port whose scales and offsets stand in the header one by one: compilers bound the length of a macro."""

Value = TypeVar("Value", int, float)

INT_OFFSET = INT32_MAX - (1 << 16)
"""The largest offset to which an int16_t is added in 32 bits without overflow."""


@dataclass(frozen=True)
class RealValues:
    """What the integers q of a port are worth: (q + offset) · scale, where |q| ≤ limit.

    ``scales`` and ``offsets`` have one value for all of the port's elements, or one for each.
    """

    scales: tuple[float, ...]
    offsets: tuple[int, ...]
    limit: int
    own_limits: tuple[int, ...] = ()
    """The limit of each element, where they differ; ``limit`` is then the largest."""

    @property
    def limits(self) -> tuple[int, ...]:
        """Return one limit for all elements, or one for each."""
        return self.own_limits or (self.limit,)

    @property
    def formula(self) -> str:
        """Return the formula in words, with the numbers where they are the same for all elements."""
        scale = repr(self.scales[0]) if len(self.scales) == 1 else "scale of the element"
        if not any(self.offsets):
            return f"q * {scale}"
        return f"(q + {c_integer(self.offsets[0]) if len(self.offsets) == 1 else 'offset of the element'}) * {scale}"

    def macros(self, prefix: str) -> list[str]:
        """Return the lines that define the scale and the offset, or those of every element as initializers of arrays."""
        texts = {"SCALE": [repr(s) for s in self.scales], "OFFSET": [c_integer(o) for o in self.offsets]}
        lines = []
        for what, values in texts.items():
            if len(values) == 1:
                lines.append(f"#define {prefix}_{what} {values[0]}")
            elif len(values) <= MOST_ELEMENTS:
                lines += [f"#define {prefix}_{what}S {{ \\", *_continued(values), "    }"]
            else:
                lines.append(f"/* {prefix}_{what}S: {len(values)} values, see `qrnn inspect --json` */")
        return lines

    def limit_macro(self, prefix: str) -> list[str]:
        """Return the line that defines the limit, where all elements have the same."""
        return [] if self.own_limits else [f"#define {prefix}_LIMIT {c_integer(self.limit)}"]


def input_values(model: QuantModel, port: Port) -> RealValues | None:
    """Return what the integers of an input are worth; None for tokens, which are no numbers."""
    if port.kind.startswith("u"):
        return None
    fmt = model.tensors[port.graph_name]
    return RealValues(shortest(fmt.scale), shortest(fmt.offset), fmt.limit)


def output_values(output: GraphOutput, model: QuantModel) -> RealValues:
    """Return what the integers of an output are worth."""
    scales, offsets = model.scales_and_offsets(output)
    limit = max(model.tensors[tensor].limit for tensor, _, _ in output.parts)
    return RealValues(shortest(scales.tolist()), shortest(offsets.astype(np.int64).tolist()), limit)


def port_values(model: QuantModel, port: Port) -> RealValues | None:
    """Return what the integers of an input or an output are worth; None for tokens."""
    output = next((o for o in model.outputs if o.name == port.graph_name), None)
    return input_values(model, port) if output is None else output_values(output, model)


def shortest(values: Sequence[Value]) -> tuple[Value, ...]:
    """Return one value where all are equal, else all of them."""
    return tuple(values[:1]) if len(set(values)) == 1 else tuple(values)


def c_integer(value: int) -> str:
    """Return a constant of C to which any integer of the port may be added without overflow."""
    text = f"{abs(value)}{'L' if abs(value) <= INT_OFFSET else 'LL'}"
    return f"(-{text})" if value < 0 else text


def _continued(texts: Sequence[str]) -> list[str]:
    """Return the values of an initializer, as lines of a macro."""
    lines = [""]
    for text in texts:
        if lines[-1] and len(lines[-1]) + len(text) + 8 > WIDTH:
            lines.append("")
        lines[-1] += f" {text},"
    return [f"   {line} \\" for line in lines]
