"""Layers that move a window over time and over lines and bands have this in common in C: targets/runtime/qrnn_window.h."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from qrnn.export.c_text import comment, fields
from qrnn.export.layer_code import AnyLayer
from qrnn.export.layout import VECTORS
from qrnn.export.loops.values import Array
from qrnn.export.steps_code import StepsCode
from qrnn.model.windowed import QuantWindowed


class WindowCode(StepsCode[AnyLayer]):
    """The C of a layer that reads windows of its ring of past steps, by a function of the runtime."""

    def add_function(self, head: str, states: Sequence[Array]) -> int:
        """Add the constants of the layer and its function, which gives the states to the runtime's."""
        code, layer = self.code, self.layer
        vectors = code.kernels in VECTORS
        code.headers |= {"qrnn_window.h", f"qrnn_channels_{'lanes' if vectors else code.kernels}.h"}
        code.headers |= {"qrnn_channels_scalar.h"} if code.kernels != "mve" else set()
        code.headers |= {"qrnn_channels_plain.h"} if code.kernels in ("avr", "mla") else set()
        code.headers |= {f"qrnn_dot_{code.kernels}.h"} if code.kernels != "plain" else set()
        function, declared, room = self.constants()
        arguments = [f"&{self.name}_window", "x", *(state.text for state in states), *room, "y"]
        code.functions.append(
            "\n".join(
                [
                    comment(
                        f"A step of {layer.name}: how many rows of y came out. x is NULL past the end of the input."
                    ),
                    f"QRNN_APART uint32_t {self.name}({head}, const int16_t *x, int16_t *y)",
                    "{",
                    *(f"    {line}" for line in declared),
                    *([""] if declared else []),
                    f"    return {function}({', '.join(arguments)});",
                    "}",
                ]
            )
        )
        return 1

    @abstractmethod
    def constants(self) -> tuple[str, list[str], list[str]]:
        """Add the constant NAME_window, and what it needs, to the code.

        Return the runtime's function, the declarations of variables that are room for its work, and their names.
        """


def window_fields(layer: QuantWindowed) -> str:
    """Return the initializer of a layer's ``qrnn_window``."""
    time, band, line = layer.time, layer.band, layer.line
    members = {
        "span": time.span,
        "taps": time.taps,
        "stride": time.stride,
        "dilation": time.dilation,
        "bands": layer.bands,
        "band_taps": band.taps,
        "band_stride": band.stride,
        "band_dilation": band.dilation,
        "band_before": band.before,
        "places": layer.band_places,
        "lines": layer.lines,
        "line_taps": line.taps,
        "line_stride": line.stride,
        "line_dilation": line.dilation,
        "line_before": line.before,
        "line_places": layer.line_places,
        "channels": layer.channels,
    }
    return f"{{\n{fields([(name, f'{value}U') for name, value in members.items()])}\n}}"


def within(initializer: str) -> str:
    """Return an initializer of several lines as a member of another."""
    return initializer.replace("\n", "\n    ")
