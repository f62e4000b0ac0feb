"""How many steps the time axis of a value has: as many as the graph inputs have, or what windows have made of that.

Every time axis of a `Features` is `TIME`. Its size as a number of the graph is `TIME` too where it is as long as the inputs are, and else a
`Steps` with the length rule. Who reads a size as the target of a Reshape or the end of a Slice asks here whether it is that of its value.
"""

from __future__ import annotations

from collections.abc import Sequence

from qrnn.model.layer import Layer
from qrnn.model.time import Axis, LengthRule, Windows
from qrnn.onnx_import.values import BATCH, BATCH_TIME, TIME, Dim, Product, Steps, Symbol, Tensor

INPUTS = Axis()
"""The length rule of the graph inputs; where they have several time axes, of those on the first one."""


class Lengths:
    """The length rules of the tensors that ``layers``, a list that grows, write."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self._rules: dict[str, LengthRule] = {}
        self._seen = 0

    def place(self, tensor: Tensor, axis: str) -> None:
        """Let a graph input over time go over a time axis."""
        self._rules[tensor.name] = Axis(axis)

    def of(self, tensor: Tensor) -> LengthRule:
        """Return the length rule of a tensor over time."""
        for layer in self._layers[self._seen :]:
            given = next((self._rules[name] for name in layer.inputs if name in self._rules), INPUTS)
            for name in layer.outputs:
                self._rules[name] = layer.length_rule(given)
        self._seen = len(self._layers)
        return self._rules.get(tensor.name, INPUTS)


def longer(rule: LengthRule, by: int) -> LengthRule:
    """Return the rule of ``by`` more steps than ``rule`` has, or fewer where it is negative."""
    if isinstance(rule, Windows) and rule.by == 1:
        return rule.source.windows(rule.plus + by, 1)
    return rule.windows(by, 1)


def size_of(rule: LengthRule) -> Symbol:
    """Return the size of a time axis with a length rule."""
    return TIME if rule == INPUTS else Steps(str(rule), rule=rule)


def rule_of(size: Dim) -> LengthRule | None:
    """Return the length rule that a size stands for; None for a number, and for the size of the batch."""
    return INPUTS if size is TIME else size.rule if isinstance(size, Steps) else None


def more_steps(size: Dim, rule: LengthRule) -> int | None:
    """Return how many steps more than ``rule`` has a size stands for, negative for fewer; None where no number says so."""
    other = rule_of(size)
    if other is None:
        return None
    (base, plus), (own, own_plus) = _shifted(other), _shifted(rule)
    return plus - own_plus if base == own else None


def as_axes(dims: Sequence[Dim], rule: LengthRule) -> list[Dim]:
    """Return sizes with TIME for that of a value with a length rule, and BATCH_TIME for that times the batch, whatever their order.

    A size of other time axes is none of the value's.
    """
    return [_as_axis(d, rule) for d in dims]


def _as_axis(size: Dim, rule: LengthRule) -> Dim:
    if isinstance(size, Product):
        steps = [_as_axis(factor, rule) for factor in size.factors]
        if size.count == 1 and len(steps) == 2 and BATCH in steps and TIME in steps:
            return BATCH_TIME
        return size
    own = rule_of(size)
    return size if own is None else TIME if own == rule else Symbol(str(own))


def _shifted(rule: LengthRule) -> tuple[LengthRule, int]:
    """Return the rule that a rule has a fixed number of steps more than, and that number."""
    return (rule.source, rule.plus) if isinstance(rule, Windows) and rule.by == 1 else (rule, 0)
