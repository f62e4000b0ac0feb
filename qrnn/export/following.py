"""A layer of kind align follows the rows of what its output is joined with, in C whose rows are counted.

NAME_step gives it a row whenever its input has one, and takes the oldest one out whenever the other tensor has one: then both are of the
same step, in a step of the model as at the end of a sequence.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from qrnn.export.loops.values import Array
from qrnn.export.ports import StateField
from qrnn.export.steps_code import StepsCode
from qrnn.model.kinds.align import QuantAlign
from qrnn.model.quant_model import QuantModel


def clocks_by_name(model: QuantModel, counting: Container[str], follows: Mapping[str, str]) -> dict[str, str]:
    """Return which layer counts the rows of each tensor over time, an empty text for those of the inputs.

    ``counting`` has the names of the layers that count rows; ``follows`` those of layers of kind align, with the layer whose rows each follows.
    A tensor that a layer joins of several is counted as the first of these.
    """
    found: dict[str, str] = {}
    for layer in model.layers:
        given = next((found.get(t, "") for t in layer.inputs if t in model.length_rules), "")
        own = follows.get(layer.name, layer.name if layer.name in counting else given)
        found.update(dict.fromkeys(layer.outputs, own))
    return found


def following(model: QuantModel, counting: Container[str]) -> dict[str, str]:
    """Return the layers of kind align that can follow a layer that counts rows, with the name of that layer.

    The input of such a layer has to have the rows from which, in the end, those of that layer come: then all of its steps are there when they
    are asked for. Others count rows by themselves.
    """
    follows: dict[str, str] = {}
    held = {layer.output: layer for layer in model.layers if isinstance(layer, QuantAlign)}
    readers = [layer.inputs for layer in model.layers]
    readers += [tuple(t for t, _, _ in output.parts) for output in model.outputs if output.has_time]
    for tensors in readers:
        clocks = clocks_by_name(model, counting, follows)
        timed = [t for t in dict.fromkeys(tensors) if t in model.length_rules]
        leaders = {clocks.get(t, "") for t in timed if t not in held or held[t].name in follows}
        if len(leaders) != 1 or len(timed) < 2:
            continue
        (leader,) = leaders
        above = _above(model, leader, clocks)
        for tensor in timed:
            if tensor in held and held[tensor].name not in follows and clocks.get(held[tensor].input, "") in above:
                follows[held[tensor].name] = leader
    return follows


def _above(model: QuantModel, leader: str, clocks: Mapping[str, str]) -> list[str]:
    """Return the layers that count the rows from which those of ``leader`` come, and the inputs."""
    inputs = {layer.name: layer.inputs[0] for layer in model.layers}
    found = []
    while leader:
        leader = clocks.get(inputs[leader], "")
        found.append(leader)
    return found


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
