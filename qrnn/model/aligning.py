"""Where a stream would join steps of different times, the tensor that comes first is held until the other one is there.

A window that looks ahead gives step j some steps after its own. Whole sequences join step j with step j all the same; a stream joins what
comes out of one call. A layer of kind align makes that one time. Where a tensor comes at a rate of its own, a delay that is no whole number of
its steps is put in front of the layer that writes it, where steps are smaller, and so on up to the graph's inputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from qrnn.model.float_model import FloatModel, TensorInfo
from qrnn.model.kinds.align import Align
from qrnn.model.lateness import AT_ONCE, Times
from qrnn.model.layer import Layer
from qrnn.model.window import LARGEST_WINDOW
from qrnn.model.windowed import MOST_ELEMENTS

MOST_VISITS = 200_000
"""The most layers that are looked at, over all times that a delay is put further up: one for each layer that it passes."""


def with_aligned(model: FloatModel) -> FloatModel:
    """Return ``model`` with tensors held, so that every layer and every output joins steps of one time; itself where all do.

    So is a model that cannot be streamed for another reason, since it reads sequences backwards or keeps nothing, and one whose delays
    integers could not hold: its streams are refused by name.
    """
    if model.uneven is None or model.rows or any(layer.backward for layer in model.recurrent_layers):
        return model
    if any(layer.read_whole for layer in model.layers):
        return model
    if len({i.axis for i in model.inputs if i.has_time}) != 1:
        return model
    extra: dict[str, int] = {}
    for _ in range(1 + MOST_VISITS // len(model.layers)):
        attempt = _Attempt(model, extra)
        if attempt.failed:
            return model
        if not attempt.pushed:
            found = attempt.model()
            return found if found.uneven is None else model
        for layer, more in attempt.pushed.items():
            extra[layer] = extra.get(layer, 0) + more
    return model


class _Attempt:
    """The layers of a model with their inputs held; ``extra`` steps of the graph's inputs more for some layers, by name.

    ``pushed`` are further ones that turned out to be needed; the layers are then of no use.
    """

    def __init__(self, model: FloatModel, extra: dict[str, int]) -> None:
        self._model = model
        self._times: dict[str, Times] = {}
        self._writers = {name: layer for layer in model.layers for name in layer.outputs}
        self._held: dict[tuple[str, int], Align] = {}
        self._behind: dict[str, list[Align]] = {}
        self._names = {layer.name for layer in model.layers} | set(model.tensors)
        self.pushed: dict[str, int] = {}
        self.failed = False
        self._layers: list[Layer] = []
        for layer in model.layers:
            names = [name for name in dict.fromkeys(layer.inputs) if self._over_time(name)]
            times = self._aligned(names, layer.name, extra.get(layer.name, 0))
            if self.pushed or self.failed:
                return
            for name, steps in times.items():
                layer = self._reading(layer, name, steps)
            self._layers.append(layer)
            if names:
                read = self._times.get(names[0], AT_ONCE).held(times[names[0]])
                self._times.update(dict.fromkeys(layer.outputs, read.behind(layer)))
        self._outputs = []
        for output in model.outputs:
            names = [name for name in dict.fromkeys(n for n, _, _ in output.parts) if self._over_time(name)]
            times = self._aligned(names)
            if self.pushed or self.failed:
                return
            held = {name: self._align(name, steps).output if steps else name for name, steps in times.items()}
            parts = tuple((held.get(name, name), indices, positions) for name, indices, positions in output.parts)
            self._outputs.append(replace(output, parts=parts))

    def model(self) -> FloatModel:
        """Return the model with its layers of kind align, each behind the layer that writes what it reads."""
        layers: list[Layer] = []
        for given in self._model.inputs:
            layers += self._behind.get(given.name, [])
        for layer in self._layers:
            layers.append(layer)
            for name in layer.outputs:
                layers += self._behind.get(name, [])
        tensors = dict(self._model.tensors)
        for made in self._held.values():
            tensors[made.output] = TensorInfo(tensors[made.input].features, True)
        notes = tuple(
            f"in streams '{h.input}' is held for {h.steps} {'step' if h.steps == 1 else 'steps'}, until what is joined with it has come"
            for h in self._held.values()
        )
        notes = (*self._model.notes, *notes)
        return replace(self._model, layers=tuple(layers), outputs=tuple(self._outputs), tensors=tensors, notes=notes)

    def _over_time(self, name: str) -> bool:
        return name in self._model.length_rules

    def _aligned(self, names: Iterable[str], reader: str = "", extra: int = 0) -> dict[str, int]:
        """Return by how many of its own steps each tensor has to be held for a reader; what is no whole number is pushed up.

        ``extra`` is what the reader itself, a layer of that name, is to be late beside that: what is pushed up of it is no longer.
        """
        times = {name: self._times.get(name, AT_ONCE) for name in names}
        if not times:
            return {}
        if len({(t.stride, t.rows, t.skip, t.unlike) for t in times.values()}) > 1:
            self.failed = True  # joins of different rates, which are refused elsewhere, or of steps that come at once in other ways
            return {}
        most = max((t.late, t.shift) for t in times.values())
        last = most[0] + extra
        found = {}
        for name, own in times.items():
            whole, part = divmod(last - own.late, own.stride)
            found[name] = whole * own.rows + most[1] - own.shift
            self.failed |= not part and (found[name] < 0 or (own.skip > 1 and found[name] > 0))
            if part:
                self._push(name, part)
                if (own.late, own.shift) == most:
                    self.pushed[reader] = -part
        return found

    def _push(self, name: str, part: int) -> None:
        """Ask for a delay of the layer that writes a tensor, in steps of the graph's inputs."""
        writer = self._writers.get(name)
        if writer is None:
            self.failed = True
        else:
            self.pushed[writer.name] = max(part, self.pushed.get(writer.name, 0))

    def _reading(self, layer: Layer, name: str, steps: int) -> Layer:
        """Return ``layer`` as it reads a tensor held for some steps."""
        if not steps:
            return layer
        held = self._align(name, steps).output
        changed = layer.with_input(name, held)
        self.failed |= name in changed.inputs or held not in changed.inputs
        return changed

    def _align(self, name: str, steps: int) -> Align:
        """Return the layer that holds a tensor for some steps."""
        key = name, steps
        if key not in self._held:
            features = self._model.tensors[name].features
            self.failed |= steps >= LARGEST_WINDOW or (steps + 1) * features > MOST_ELEMENTS
            unique, number = f"{name}/align", 1
            while unique in self._names:
                number += 1
                unique = f"{name}/align_{number}"
            self._names.add(unique)
            self._held[key] = Align(unique, name, unique, features, steps)
            self._behind.setdefault(name, []).append(self._held[key])
        return self._held[key]
