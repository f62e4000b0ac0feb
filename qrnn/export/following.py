"""A layer of kind align follows the rows of what its output is joined with, in C whose rows are counted.

NAME_step gives it a row whenever its input has one, and takes the oldest one out whenever the other tensor has one: then both are of the
same step, in a step of the model as at the end of a sequence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from qrnn.export.loops.values import Array
from qrnn.export.ports import StateField
from qrnn.export.steps_code import StepsCode
from qrnn.model.kinds.align import QuantAlign
from qrnn.model.quant_model import QuantModel
from qrnn.model.windowed import QuantWindowed


@dataclass(frozen=True)
class Clocks:
    """Which layers drive others, by their names. ``counting`` are the layers that count rows.

    ``twins`` are those among them that have their rows in the same calls as a later one, from rows of the same layer: that one drives what
    both of them would. ``follows`` are layers of kind align, with the layer whose rows each of them follows.
    """

    counting: frozenset[str]
    twins: Mapping[str, str]
    follows: Mapping[str, str]
    of_tensors: Mapping[str, str]
    """The layer that counts the rows of each tensor over time; an empty text for those of the inputs."""


def clocks(model: QuantModel, counting: Collection[str]) -> Clocks:
    """Return which layers drive others, in C whose rows are counted.

    A layer of kind align follows another one where its input has the rows from which, in the end, those of that layer come, or rows that
    come beside them: then all of its steps are there when they are asked for. Others count rows by themselves.
    """
    twins = _twins(model, counting)
    follows: dict[str, str] = {}
    held = {layer.output: layer for layer in model.layers if isinstance(layer, QuantAlign)}
    readers = [layer.inputs for layer in model.layers]
    readers += [tuple(t for t, _, _ in output.parts) for output in model.outputs if output.has_time]
    found = _of_tensors(model, counting, twins, follows)
    for tensors in readers:
        timed = [t for t in dict.fromkeys(tensors) if t in model.length_rules]
        leaders = {found.get(t, "") for t in timed if t not in held or held[t].name in follows}
        waiting = [held[t] for t in timed if t in held and held[t].name not in follows]
        if len(leaders) != 1 or not waiting:
            continue
        (leader,) = leaders
        above = _above(model, leader, found)
        for layer in waiting:
            own = found.get(layer.input, "")
            if own in above or (above and own and own != leader and _above(model, own, found)[0] == above[0]):
                follows[layer.name] = leader
        found = _of_tensors(model, counting, twins, follows)
    return Clocks(frozenset(counting), twins, follows, found)


def _of_tensors(
    model: QuantModel, counting: Collection[str], twins: Mapping[str, str], follows: Mapping[str, str]
) -> dict[str, str]:
    """Return which layer counts the rows of each tensor; one that a layer joins of several is counted as the first of these."""
    found: dict[str, str] = {}
    for layer in model.layers:
        given = next((found.get(t, "") for t in layer.inputs if t in model.length_rules), "")
        own = twins.get(layer.name, layer.name) if layer.name in counting else given
        found.update(dict.fromkeys(layer.outputs, follows.get(layer.name, own)))
    return found


def _twins(model: QuantModel, counting: Collection[str]) -> dict[str, str]:
    """Return the windows that have their rows in the same calls as a later one, from rows of the same layer, with that one."""
    groups: dict[tuple[object, ...], list[str]] = {}
    found: dict[str, str] = {}  # by tensor: the first layer of the group of the one that counts its rows
    for layer in model.layers:
        given = own = next((found.get(t, "") for t in layer.inputs if t in model.length_rules), "")
        if layer.name in counting:
            own = layer.name
            if isinstance(layer, QuantWindowed):
                rule = model.length_rules[layer.outputs[0]]
                group = groups.setdefault((given, layer.comes_late, layer.steps_past_end, rule), [])
                group.append(layer.name)
                own = group[0]
        found.update(dict.fromkeys(layer.outputs, own))
    return {name: group[-1] for group in groups.values() for name in group[:-1]}


def _above(model: QuantModel, leader: str, found: Mapping[str, str]) -> list[str]:
    """Return the layers that count the rows from which those of ``leader`` come, and the inputs."""
    inputs = {layer.name: layer.inputs[0] for layer in model.layers}
    above = []
    while leader:
        leader = found.get(inputs[leader], "")
        above.append(leader)
    return above


class FollowingCode(StepsCode[QuantAlign]):
    """The C of a layer of kind align that follows another one: its function takes a row, and NAME_taken gives the oldest one."""

    @property
    def steps_past_end(self) -> int:
        """Return 0: rows past the end are those of the layer that is followed."""
        return 0

    def add_function(self, head: str, states: Sequence[Array]) -> int:
        """Add both functions, and a member of the state for the place of the row that is taken next."""
        member = self.name.removeprefix(f"{self.site.name}_")
        taken = StateField(f"taken_{member}", "uint32_t", 1, self.layer.name, None)
        self.site.state.append(taken)
        held, place, phase = (state.text for state in states)
        last, size = self.layer.steps, f"{self.features}U * sizeof(int16_t)"
        self.code.functions.append(
            "\n".join(
                [
                    "/* Takes a row; the end of the sequence for NULL. */",
                    f"static void {self.name}({head}, const int16_t *x)",
                    "{",
                    "    if (x != NULL) {",
                    f"        QRNN_COPY(&{held}[{self.features}U * (uint32_t){place}[0]], x, {size});",
                    "    }",
                    f"    {place}[0] = ({place}[0] == {last}) ? 0 : ({place}[0] + 1);",
                    f"    {phase}[0] -= ({phase}[0] > 0) ? 1 : 0;",
                    "}",
                ]
            )
        )
        at = f"state->{taken.name}[0]"
        self.code.functions.append(
            "\n".join(
                [
                    "/* Gives the oldest row. */",
                    f"static void {self.name}_taken({head}, int16_t *y)",
                    "{",
                    f"    QRNN_COPY(y, &{held}[{self.features}U * {at}], {size});",
                    f"    {at} = ({at} == {last}U) ? 0U : ({at} + 1U);",
                    "}",
                ]
            )
        )
        return 1

    def step(self) -> list[str]:
        """Return the statement that gives it a row."""
        return [f"{self.name}({', '.join(self.arguments())});"]

    def taken(self) -> list[str]:
        """Return the statement that takes the oldest row out."""
        return [f"{self.name}_taken(state, {self.own_place().at()});"]

    def ended(self) -> list[str]:
        """Return the loop that tells the layer of the steps past the end of the sequence."""
        return [f"for (uint32_t t = 0U; t < {self.layer.steps}U; t++) {{", f"    {self.name}(state, NULL);", "}"]
