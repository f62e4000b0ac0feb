"""The functions of a model are loops that call its layers, of which the export knows only what is here.

A kind of layer has a module of its name in `qrnn.export.kinds` with a subclass of `LayerCode`; a kind without one is translated
(`qrnn.export.translated`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from qrnn.export.c_text import loop
from qrnn.export.ports import Place
from qrnn.export.tensors import Site
from qrnn.model.layer import QuantLayer

AnyLayer = TypeVar("AnyLayer", bound=QuantLayer)


class LayerCode(ABC, Generic[AnyLayer]):
    """The C of a layer. `emit` adds its constants and its functions, whose names begin with ``name``, to the site's code."""

    writes_anywhere: ClassVar[bool] = True
    """Whether the layer writes its output to any place that it is given, so that this may be an output of the model."""

    in_place: ClassVar[bool] = False
    """Whether the output of a row may lie where an input of as many features lies: no element is read after another one is written."""

    counts_rows: ClassVar[bool] = False
    """Whether a step of the input may give no row of the output, or several: the layer's function returns how many."""

    most_rows: int = 1
    """The most rows that one step may give."""

    @classmethod
    def of(cls, layer: AnyLayer) -> type[AnyCode]:
        """Return the class that makes the C of ``layer``: this one, or one of its subclasses."""
        return cls

    def __init__(self, layer: AnyLayer, name: str, site: Site) -> None:
        self.layer, self.name, self.site, self.code = layer, name, site, site.code
        self.outputs: frozenset[str] = frozenset()
        """The outputs of the model that the layer is computed for alone; none where it is always computed."""
        self.emit()

    @abstractmethod
    def emit(self) -> None:
        """Add what the layer needs to the code and to the state; UnsupportedError names what C cannot hold."""

    @classmethod
    def streams(cls, layer: AnyLayer) -> bool:
        """Return whether the layer computes a time step from this step and those before it."""
        return True

    @property
    def gives_output(self) -> bool:
        """Return whether the layer's step puts its output to the place ``result``, an output of the model, as well as to its own."""
        return False

    result: str = ""

    @property
    def keeps_state(self) -> bool:
        """Return whether the layer is computed in every step, since a state depends on it."""
        return False

    @property
    def steps_past_end(self) -> int:
        """Return how many steps past the end of a sequence let its last row out."""
        return 0

    @property
    def spare_rows(self) -> int:
        """Return how many rows behind the last one a layer that counts rows may write to without giving them."""
        return 0

    def places(self) -> Mapping[str, Place]:
        """Return where the outputs lie that need no room, in a function that does one step where the model streams."""
        return {}

    def initial(self) -> list[str]:
        """Return statements that set the layer's members of the state, which are zero, to what a sequence begins with."""
        return []

    def step(self) -> list[str]:
        """Return statements that compute one time step, or what follows the last one."""
        return [self.call()]

    def run(self) -> list[str]:
        """Return statements that compute all time steps, or what follows the last one."""
        return self.each_row([self.call()])

    def each_row(self, lines: Sequence[str]) -> list[str]:
        """Return a loop around the statements of a row, where the output is over time."""
        output = self.layer.output
        return loop(lines, self.site.tensors.rows_of(output)) if self.site.model.tensors[output].has_time else [*lines]

    def call(self) -> str:
        """Return the call of the layer's function, which has the layer's name."""
        y = self.own_place().at()
        return f"{self.name}({', '.join([*self.arguments(), y])});"

    def arguments(self) -> list[str]:
        """Return what the layer's function reads."""
        return [self.site.tensors.place(tensor).at() for tensor in self.layer.inputs]

    def own_place(self) -> Place:
        """Return where the layer's output lies."""
        name = self.name.replace(f"{self.site.name}_", "t_", 1)
        # Written where either of two outputs is asked for, read where one is: compilers do not see that this is enough.
        initial = " = {0}" if len(self.outputs) > 1 else ""
        return self.site.tensors.place(self.layer.output, name, initial=initial)

    @property
    def features(self) -> int:
        """Return the features of the layer's output."""
        return self.site.model.tensors[self.layer.output].features


AnyCode = LayerCode[Any]
