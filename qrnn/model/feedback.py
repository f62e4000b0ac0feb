"""Which output of a model is fed back to which of its inputs, and how what is fed back follows from the output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qrnn.errors import DataError
from qrnn.model.choosing import check_choices
from qrnn.model.float_model import GraphInput, GraphOutput
from qrnn.model.kinds.argmax import QuantArgMax
from qrnn.model.layer import QuantLayer
from qrnn.model.quant_model import QuantModel
from qrnn.model.softmax_rows import SoftmaxOfRows

Kind = Literal["tokens", "one_hot", "values"]
"""What is fed: a token that is chosen; 1 at its place and 0 elsewhere; or the output's own values."""

Scores = Literal["scores", "probabilities", "index"]
"""What a token is chosen by: scores, whose softmax is its distribution; probabilities; or nothing more, where the output is the token."""


@dataclass(frozen=True)
class Scored:
    """An output by which a token is chosen: among ``count`` ones, by numbers of which one unit is worth ``unit``."""

    output: GraphOutput
    kind: Scores
    count: int
    unit: float


@dataclass(frozen=True)
class Feedback:
    """A graph output that is fed back to a graph input, at the next step; ``scored`` says how a token is chosen, None for values."""

    input: GraphInput
    output: GraphOutput
    kind: Kind
    scored: Scored | None


def find_feedback(model: QuantModel, feed: Mapping[str, str] | None = None, one_hot: bool | None = None) -> Feedback:
    """Return which output is fed back to which input.

    ``feed`` names them, as in ``{"tokens": "logits"}``. Without it there has to be one pair that fits: an output with a score for each token
    of an input's vocabulary, or for more, or the index of one; or, where no input takes tokens, an output with the features of an input.
    ``one_hot`` says whether the latter holds scores of a token that is fed as 1 at its place; left open, that is so of an output of
    probabilities. DataError names what does not fit.
    """
    timed = [i for i in model.inputs if i.has_time and i.kind in ("tokens", "features")]
    if feed is not None:
        given, output = _named(model, feed)
        if given not in timed:
            raise DataError(
                f"feed: input {given.name!r} is {'of kind ' + given.kind if given.has_time else 'without time'}, expected one "
                f"of {[i.name for i in timed]}, of which each step has an own value"
            )
        return _paired(model, given, output, one_hot)
    tokens = [i for i in timed if i.kind == "tokens"]
    pairs = [(i, o) for i in tokens or timed for o in model.outputs if _fits(model, i, o)]
    if not pairs:  # a transducer scores its blank, too
        pairs = [
            (i, o) for i in tokens for o in model.outputs if o.features > i.vocabulary and not _reads_cells(model, o)
        ]
    if len(pairs) != 1:
        found = ", ".join(f"{{{i.name!r}: {o.name!r}}}" for i, o in pairs)
        what = f"{len(pairs)} pairs of an input and an output fit, {found}" if pairs else "no output fits an input"
        names = f"inputs {[i.name for i in timed]}, outputs {[o.name for o in model.outputs]}"
        raise DataError(f"model {model.name!r}: {what}; name the pair by feed={{INPUT: OUTPUT}} ({names})")
    return _paired(model, *pairs[0], one_hot)


def find_scored(model: QuantModel, name: str | None = None) -> Scored:
    """Return the output by which tokens are chosen: that of a name, or the one that is fed back."""
    if name is None:
        scored = find_feedback(model).scored
        if scored is None:
            raise DataError(f"model {model.name!r} feeds values back and chooses no tokens; name an output of scores")
        return scored
    output = next((o for o in model.outputs if o.name == name), None)
    if output is None:
        raise DataError(f"output {name!r} is none of the model's; expected one of {[o.name for o in model.outputs]}")
    return _scored(model, output)


def check_vocabulary(feedback: Feedback, ending: Collection[int]) -> None:
    """Raise DataError where a token may be chosen that the input does not take, and that is none of ``ending``, which are not fed."""
    scored = feedback.scored
    if scored is None:
        return
    most = feedback.input.vocabulary if feedback.kind == "tokens" else feedback.input.features
    beyond = sorted(set(range(most, scored.count)) - set(ending))
    if beyond:
        raise DataError(
            f"output {feedback.output.name!r} has {scored.count} scores and input {feedback.input.name!r} takes {most} tokens; "
            f"token {beyond[0]} could be chosen and not fed back, unless it is the blank or a stop token"
        )


def _named(model: QuantModel, feed: Mapping[str, str]) -> tuple[GraphInput, GraphOutput]:
    if not isinstance(feed, Mapping) or len(feed) != 1:
        raise DataError(f"feed={feed!r}, expected a mapping with one input and the output that is fed back to it")
    ((first, second),) = feed.items()
    given = next((i for i in model.inputs if i.name == first), None)
    output = next((o for o in model.outputs if o.name == second), None)
    if given is None:
        raise DataError(f"feed: {first!r} is no input of the model; expected one of {[i.name for i in model.inputs]}")
    if output is None:
        raise DataError(
            f"feed: {second!r} is no output of the model; expected one of {[o.name for o in model.outputs]}"
        )
    return given, output


def _writer(model: QuantModel, tensor: str) -> QuantLayer | None:
    """Return the layer that makes a tensor's values, behind those that copy all features."""
    found = next((layer for layer in model.layers if tensor in layer.outputs), None)
    while found is not None and found.carries_offset and len(found.inputs) == 1:
        source = found.inputs[0]
        if source not in model.tensors or model.tensors[source].features != model.tensors[found.output].features:
            break
        before = next((layer for layer in model.layers if source in layer.outputs), None)
        if before is None:
            break
        found = before
    return found


def _reads_cells(model: QuantModel, output: GraphOutput) -> bool:
    cells = {cell for layer in model.layers for cell in layer.cells}
    return any(tensor in cells for tensor, _, _ in output.parts)


def _scores_of(model: QuantModel, output: GraphOutput) -> Scores:
    writers = [_writer(model, tensor) for tensor, _, _ in output.parts]
    if len(writers) == 1 and isinstance(writers[0], QuantArgMax):
        return "index"
    if len(writers) == 1 and isinstance(writers[0], SoftmaxOfRows) and writers[0].groups == 1:
        return "probabilities"
    return "scores"


def _fits(model: QuantModel, given: GraphInput, output: GraphOutput) -> bool:
    """Return whether an output may be meant for an input."""
    if given.kind == "features":
        return output.features == given.features and not _reads_cells(model, output)
    wanted = 1 if _scores_of(model, output) == "index" else given.vocabulary
    return output.features == wanted and not _reads_cells(model, output)


def _paired(model: QuantModel, given: GraphInput, output: GraphOutput, one_hot: bool | None) -> Feedback:
    if given.kind == "tokens":
        if one_hot:
            raise DataError(f"one_hot=True: input {given.name!r} takes tokens; leave it out")
        return Feedback(given, output, "tokens", _scored(model, output))
    chosen = _scores_of(model, output) == "probabilities" if one_hot is None else one_hot
    if chosen:
        return Feedback(given, output, "one_hot", _scored(model, output))
    if output.features != given.features:
        raise DataError(
            f"output {output.name!r} has {output.features} features and input {given.name!r} has {given.features}; "
            "expected as many, or one_hot=True for a token that is chosen"
        )
    if _reads_cells(model, output):
        raise DataError(
            f"output {output.name!r} holds states of LSTM cells, of 32 bits, which no input takes; choose another"
        )
    return Feedback(given, output, "values", None)


def _scored(model: QuantModel, output: GraphOutput) -> Scored:
    """Return how a token is chosen by an output; DataError where its numbers cannot be compared."""
    where = f"output {output.name!r}"
    if _reads_cells(model, output):
        raise DataError(f"{where} holds states of LSTM cells, of 32 bits, which are no scores; choose another output")
    kind = _scores_of(model, output)
    scales, offsets = model.scales_and_offsets(output)
    if kind == "index":
        writer = _writer(model, output.parts[0][0])
        assert writer is not None
        return Scored(output, kind, model.tensors[writer.inputs[0]].features, 1.0)
    check_choices(where, output.features)
    if (scales != scales[0]).any():
        other = int(np.argmax(scales != scales[0]))
        raise DataError(
            f"{where}: its element 0 has the unit {scales[0]:.3g} and element {other} {scales[other]:.3g}, expected one unit, so that "
            "scores can be compared; make one layer's output the scores"
        )
    if kind == "probabilities" and offsets.any():
        raise DataError(f"{where}: probabilities with offsets cannot be compared; make the softmax itself an output")
    return Scored(output, kind, output.features, float(scales[0]))
