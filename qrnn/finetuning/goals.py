"""What a model is trained towards, and by what it is judged: labels, targets, or the outputs of the float model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from qrnn.accuracy.deciding import deciding_output, threshold_of
from qrnn.errors import DataError
from qrnn.model.float_model import FloatModel, GraphOutput
from qrnn.model.kinds.log_softmax import LogSoftmax
from qrnn.model.kinds.softmax import Softmax
from qrnn.model.user_values import as_array, check_mapping

Kind = Literal["last", "each", "ctc", "targets", "float"]

LABELS = "labels"
LABEL_LENGTHS = "label_lengths"
"""The array beside labels [N, L] that counts those of each sequence, which makes them sequences for CTC."""

Values = Literal["scores", "probabilities", "logarithms"]
"""What an output's features are: scores (logits), probabilities, or logarithms of probabilities."""


@dataclass(frozen=True)
class Goal:
    """What a model is trained towards.

    ``kind``: ``last``, a class for each sequence, decided at its last step or once; ``each``, a class for each step; ``ctc``, a sequence of
    classes without their times; ``targets``, values of outputs; ``float``, what the float model gives. ``outputs`` are the names of the
    graph outputs that take part. For classes, ``classes`` is their number, ``values`` what the output's features are, ``blank`` CTC's class
    of no label, and ``threshold`` the value above which an output of one feature says yes, None where the largest feature decides.
    """

    kind: Kind
    outputs: tuple[str, ...]
    classes: int = 0
    values: Values = "scores"
    blank: int = 0
    threshold: float | None = None

    @property
    def of_labels(self) -> bool:
        """Return whether classes are decided."""
        return self.kind in ("last", "each", "ctc")

    def __str__(self) -> str:
        """Return the goal in words."""
        name = self.outputs[0]
        return {
            "last": f"cross-entropy of {name!r}, once for each sequence",
            "each": f"cross-entropy of {name!r} at every step",
            "ctc": f"CTC of {name!r}, blank {self.blank}",
            "targets": "mean square distance from the targets of " + ", ".join(map(repr, self.outputs)),
            "float": "mean square distance from the float model's " + ", ".join(map(repr, self.outputs)),
        }[self.kind]


def goal_of(model: FloatModel, data: Mapping[str, Any], output: str | None = None, blank: int = 0) -> Goal:
    """Return what the arrays of ``data`` train a model towards.

    ``output`` names the graph output to which labels belong; without it, the one that decides (`deciding_output`). Arrays under the names
    of graph outputs are targets. DataError where data hold both labels and targets, and for an output that decides nothing.
    """
    check_mapping(data)
    names = [o.name for o in model.outputs]
    targets = tuple(name for name in names if name in data and name != LABELS)
    if output is not None and output not in names:
        raise DataError(f"output {output!r} is no output of the model; expected one of {names}")
    if data.get(LABELS) is None:
        if LABEL_LENGTHS in data:
            raise DataError(f"{LABEL_LENGTHS} are given without {LABELS}; expected both, or neither")
        if targets:
            return Goal("targets", targets if output is None else _one_of(targets, output))
        judged = outputs_to_follow(model)
        return Goal("float", judged if output is None else (output,))
    if targets:
        raise DataError(f"labels are given beside targets of {targets[0]!r}; expected one of them")
    decider = deciding_output(model) if output is None else next(o for o in model.outputs if o.name == output)
    if decider is None:
        raise DataError(
            "labels are given, but no output of the model decides anything: all are recurrent states; give targets instead"
        )
    return _of_labels(model, decider, data, blank)


def _one_of(targets: tuple[str, ...], output: str) -> tuple[str, ...]:
    if output not in targets:
        raise DataError(f"output {output!r} has no targets; the data have those of {list(targets)}")
    return (output,)


def _of_labels(model: FloatModel, decider: GraphOutput, data: Mapping[str, Any], blank: int) -> Goal:
    """Return the goal of labels, as their shape says; their values are checked with the data (`qrnn.finetuning.examples`)."""
    ranks = as_array(LABELS, data[LABELS]).ndim
    threshold = threshold_of(model, decider)
    if threshold is not None and decider.features > 1:
        raise DataError(
            f"labels are given, but output {decider.name!r} has {decider.features} decisions a step; give targets, an array under its name"
        )
    classes = 2 if threshold is not None else decider.features
    values = values_of(model, decider)
    if LABEL_LENGTHS in data:
        if not decider.has_time or threshold is not None:
            raise DataError(
                f"{LABEL_LENGTHS} are given, for CTC, but output {decider.name!r} has no scores of classes at every step; leave them out"
            )
        if not 0 <= blank < classes:
            raise DataError(f"blank={blank}, expected a class of output {decider.name!r}, 0…{classes - 1}")
        return Goal("ctc", (decider.name,), classes, values, blank)
    if ranks == 2 and not decider.has_time:
        raise DataError(f"labels: two axes, but output {decider.name!r} is once for each sequence; expected labels [N]")
    kind: Kind = "each" if ranks == 2 else "last"
    return Goal(kind, (decider.name,), classes, values, threshold=threshold)


def outputs_to_follow(model: FloatModel) -> tuple[str, ...]:
    """Return the outputs that distillation follows: those that are no recurrent states, or all where there is no other."""
    states = {tensor for layer in model.recurrent_layers for tensor in layer.outputs}
    chosen = tuple(o.name for o in model.outputs if not {name for name, _, _ in o.parts} & states)
    return chosen or tuple(o.name for o in model.outputs)


def values_of(model: FloatModel, output: GraphOutput) -> Values:
    """Return what an output's features are, by the layer that wrote them; layers that only copy steps are passed over."""
    writers = {tensor: layer for layer in model.layers for tensor in layer.outputs}
    name = output.parts[0][0]
    while name in writers and writers[name].carries_offset and len(writers[name].inputs) == 1:
        name = writers[name].inputs[0]
    writer = writers.get(name)
    if isinstance(writer, Softmax) or (writer is not None and writer.decides_by_half):
        return "probabilities"
    return "logarithms" if isinstance(writer, LogSoftmax) else "scores"
