"""A model that needs whole sequences has NAME_run alone: it goes through the layers one after the other, each over all rows of its input.

Such a model has a layer that runs backwards, from the end of a sequence, or joins tensors of which one comes later, or whose rows different
layers count. What lies between the layers is in room that the caller gives. Layers that skip, merge or delay steps count their rows, and
those after them go over as many.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from math import ceil
from typing import ClassVar

from qrnn.errors import UnsupportedError
from qrnn.export.c_text import loop
from qrnn.export.code import Code
from qrnn.export.flow import Flow, Statements, code_of
from qrnn.export.following import clocks
from qrnn.export.ports import Place
from qrnn.export.whole import Linear, Whole
from qrnn.model.given_lengths import time_axes
from qrnn.model.quant_model import QuantModel
from qrnn.model.time import Axis, LengthRule

MOST_STEPS = 1 << 31
"""No sequence is longer."""


def why_whole(model: QuantModel) -> str | None:
    """Return in words why C cannot compute one time step after the other; None where it can."""
    if len(axes := time_axes(model.inputs)) > 1:
        return f"inputs go over {len(axes)} time axes, {' and '.join(axes)}"
    kinds = {layer.name: code_of(model, layer) for layer in model.layers}
    for layer in model.layers:
        if not kinds[layer.name].streams(layer):
            return f"layer {layer.name!r} reads sequences from their end"
    if model.uneven is not None:
        return f"{model.uneven} joins tensors of which one comes later, since a layer before it needs later steps"
    if model.waits is not None:
        return f"{model.waits} gives at every step what only the end of a sequence tells"
    return _apart(model, {name for name, kind in kinds.items() if kind.counts_rows})


def _apart(model: QuantModel, counting: Collection[str]) -> str | None:
    """Return in words what joins rows that different layers count, though they come out at the same steps; None where nothing does.

    ``counting`` has the names of the layers that count rows.
    """
    rules = model.length_rules
    counted = clocks(model, counting).of_tensors
    for layer in model.layers:
        by = [counted.get(tensor, "") for tensor in layer.inputs if tensor in rules]
        if layer.repeated is not None and by != [""]:
            return f"layer {layer.name!r} gives a vector at steps that another layer counts"
        if len(set(by)) > 1:
            return f"layer {layer.name!r} joins rows that come out of different layers"
    read = {tensor for output in model.outputs if output.has_time for tensor, _, _ in output.parts}
    if len({counted.get(tensor, "") for tensor in read}) > 1 and len({rules[tensor] for tensor in read}) == 1:
        return "outputs have rows that come out of different layers"
    return None


def filling_steps(model: QuantModel) -> int:
    """Return the least number of steps with which every tensor over time has a row, so that every layer is called."""
    rules = set(model.length_rules.values())

    def full(steps: int) -> bool:
        return all(rule.of(dict.fromkeys(rule.axes, steps)) > 0 for rule in rules)

    return 1 + bisect_left(range(1, MOST_STEPS), True, key=full)


class WholeFlow(Flow):
    """The `Flow` of a model that needs whole sequences; ``why`` says what of it does."""

    streams: ClassVar[bool] = False

    def __init__(self, model: QuantModel, name: str, code: Code, why: str) -> None:
        super().__init__(model, name, code)
        self._rule = self._output_rule()
        self.whole = Whole(why, self._work(), self._rows(), filling_steps(model))
        rows = self.tensors.rows
        if len(self.lengths) > 1:
            rows.update({port.graph_name: port.steps for port in self.inputs if port.has_time})
        for layer in self.layers:
            output, timed = layer.layer.output, [t for t in layer.layer.inputs if t in model.length_rules]
            if layer.counts_rows:
                rows[output] = self.tensors.names.new(layer.name.replace(f"{name}_", "rows_", 1))
            elif layer.layer.repeats:
                rows[output] = f"{layer.layer.repeats}U"
            elif timed and timed[0] in rows:
                rows[output] = rows[timed[0]]

    @property
    def counts_rows(self) -> bool:
        """Return whether the outputs over time have other steps than the inputs, so that NAME_run returns how many."""
        return self._rule is not None and all(
            self._rule != self.model.length_rules[p.graph_name] for p in self.inputs if p.has_time
        )

    def _work(self) -> Linear:
        """Return how many int16_t of room a sequence needs."""
        return Linear(*(max((end[k] for _, end in self._room.values()), default=0) for k in (0, 1)))

    def _rows(self) -> Linear:
        """Return the most rows of the outputs over time."""
        return Linear(1) if self._rule is None else Linear.below(self._rule.bound)

    def functions(self) -> list[str]:
        """Return NAME_run."""
        return [self._run()]

    def prototypes(self) -> list[str]:
        """Return the declaration of NAME_run."""
        return [f"{self._kind} {self.name}_run({self.parameters(run=True)})"]

    @property
    def _kind(self) -> str:
        return "uint32_t" if self.counts_rows else "void"

    def _output_rule(self) -> LengthRule | None:
        """Return the length rule of the outputs over time; None where there are none."""
        rules = {o.name: self.model.length_rules[o.parts[0][0]] for o in self.model.outputs if o.has_time}
        if len(set(rules.values())) > 1 and not all(isinstance(rule, Axis) for rule in rules.values()):
            first, rule = next(iter(rules.items()))
            other = next(name for name, own in rules.items() if own != rule)
            raise UnsupportedError(
                f"outputs {first} and {other} go over time at different rates, and a run in C counts the rows of one; export a model for each"
            )
        return next(iter(rules.values()), None)

    # Room

    def _sizes(self) -> dict[str, tuple[int, int]]:
        """Return for each tensor over time that a layer writes a and b: it needs room for no more than a · length + b integers."""
        found = {}
        for layer in self.layers:
            tensor = layer.layer.output
            wanted = self._site.is_read(tensor) and tensor not in self._written
            if self.model.tensors[tensor].has_time and wanted:
                rate, more = self.model.length_rules[tensor].bound
                found[tensor] = ceil(layer.features * rate), ceil(layer.features * (more + layer.spare_rows))
        return found

    def _room_places(self) -> Mapping[str, Place]:
        """Return where tensors lie in the room, and keep where each begins and ends.

        Tensors that are needed at one time lie apart, for sequences of all lengths: both numbers of where one ends are at most those of
        where the other begins. A layer that can writes over the tensor that it is the last to read.
        """
        model = self.model
        last = {tensor: len(model.layers) for output in model.outputs for tensor, _, _ in output.parts}
        for position, layer in reversed(list(enumerate(model.layers))):
            for tensor in layer.inputs:
                last.setdefault(tensor, position)
        sizes = self._sizes()
        self._room: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}
        for position, code in enumerate(self.layers):
            layer = code.layer
            if layer.output not in sizes:
                continue
            over = [t for t in layer.inputs if code.in_place and t in self._room and last[t] == position]
            if same := [t for t in over if model.tensors[t].features == code.features]:
                self._room[layer.output] = self._room[same[0]]
                continue
            a, b = sizes[layer.output]
            alive = [span for tensor, span in self._room.items() if last.get(tensor, -1) >= position]
            ends = [(0, 0), *(end for _, end in alive)]
            ends.append((max(x for x, _ in ends), max(x for _, x in ends)))
            free = (
                (x, y)
                for x, y in sorted(ends)
                if all((x + a <= p and y + b <= q) or (x >= r and y >= s) for (p, q), (r, s) in alive)
            )
            x, y = next(free)
            self._room[layer.output] = (x, y), (x + a, y + b)
        places = {}
        for tensor, (begin, _) in self._room.items():
            at = Linear(*begin)
            text = at.text("length") if at.per_step else f"{at.fixed}U" if at.fixed else ""
            places[tensor] = Place("work", text, model.tensors[tensor].features)
        return places

    # Functions

    def _run(self) -> str:
        statements: list[Statements] = [(layer.outputs, [*layer.run(), *self.traced(layer)]) for layer in self.layers]
        rows = next(iter(self.lengths.values()))
        for output, port in zip(self.model.outputs, self.outputs, strict=True):
            lines = self.output(output, port)
            if output.has_time:
                rows = self.tensors.rows_of(output.parts[0][0])
                lines = loop(lines, rows) if lines else []
            statements.append((frozenset({output.name}), lines))
        body = []
        if len(self.lengths) > 1:
            first, *others = self.lengths.values()
            body.append(f"uint32_t length = {first}; /* the most steps of an axis */")
            body += [line for name in others for line in ("", f"if ({name} > length) {{", f"    length = {name};", "}")]
        body += ["if (length == 0U) {", f"    return{' 0U' if self.counts_rows else ''};", "}"]
        body += self.conditioned(statements)
        body += [f"return {rows};"] if self.counts_rows else []
        return self.function("run", self.parameters(run=True), body, self._kind)
