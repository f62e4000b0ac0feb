"""A model generates a sequence where its output is fed back to its input, step by step (docs/decoding.md).

`Session.generate` does so for a batch, each sequence with a prompt, a seed and an end of its own. What has ended takes no further step.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.model.batch import check_fits, check_names
from qrnn.model.boundary import quantize_array
from qrnn.model.choosing import Sampling
from qrnn.model.feedback import Feedback, check_vocabulary, find_feedback
from qrnn.model.float_model import GraphInput
from qrnn.model.given_lengths import checked_lengths, time_axes
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.user_values import as_array, check_count, check_mapping, real_values, token_values
from qrnn.running.choosing import Chooser, Rows, check_each_step, checked_blank, checked_draws
from qrnn.running.generated import Generated
from qrnn.running.integers import Integers
from qrnn.running.state import Runner, State
from qrnn.running.stream_io import StreamIO
from qrnn.running.streamable import check_remembers, check_streamable

MOST_SYMBOLS = 10
"""The most tokens that a transducer may give in one frame, where nothing else is said."""

FIRST_ROOM = 256
"""The steps for which there is room at first; arrays grow with what is generated."""


@dataclass(frozen=True)
class Wanted:
    """What a call of `Session.generate` asks for; see there."""

    steps: int | None
    sampling: Sampling | None = None
    seed: Any = 0
    drawn: Any = 0
    stop: Any = ()
    feed: Mapping[str, str] | None = None
    one_hot: bool | None = None
    blank: int | None = None
    most_symbols: int = MOST_SYMBOLS
    scores: bool = False


def check_generates(model: QuantModel, feedback: Feedback) -> None:
    """Raise DataError where a step of the model does not give the output that its next step reads."""
    check_streamable(model)
    check_remembers(model)
    if len(axes := time_axes(model.inputs)) > 1:
        raise DataError(
            f"the inputs go over {len(axes)} time axes, {', '.join(axes)}, and generated steps have one; convert what follows the other "
            "sequence as a model of its own, and give it states"
        )
    check_each_step(model, feedback.output)


def check_frames(model: QuantModel, feedback: Feedback) -> None:
    """Raise DataError for a model that is no transducer: it has no input over time but the one that is fed."""
    if not any(i.has_time and i.kind in ("features", "tokens") for i in model.inputs if i is not feedback.input):
        raise DataError(
            f"blank: no input but {feedback.input.name!r} goes over time, so that there are no frames to go through; leave blank out"
        )


class Generator:
    """One call of `Session.generate`: its checked inputs, its streams, and what they have generated."""

    def __init__(
        self, session: Runner, inputs: Mapping[str, Any], lengths: Any, state: State | None, wanted: Wanted
    ) -> None:
        """Check everything, and take the steps of the prompts but their last ones."""
        model = session.model
        self._session, self._wanted = session, wanted
        self._feedback = feedback = find_feedback(model, wanted.feed, wanted.one_hot)
        check_generates(model, feedback)
        self._stop = _checked_stop(feedback, wanted.stop)
        self._transducer = wanted.blank is not None
        self._check_wanted()
        self._ends = np.zeros(0 if feedback.scored is None else feedback.scored.count, np.bool_)
        """Whether a token ends a sequence, by the token."""
        self._ends[self._stop] = True
        self._chooser = None if feedback.scored is None else Chooser(session.engine, feedback.scored, wanted.sampling)
        given = self._checked(inputs)
        prompt = given.pop(feedback.input.name)
        size, longest = prompt.shape[:2]
        self._own = {
            i.name: given[i.name] for i in model.inputs if i.kind in ("features", "tokens") and i.name in given
        }
        states = {i.name: inputs[i.name] for i in model.inputs if i.kind == "state" and i.name in inputs}
        if state is not None:
            if states:
                raise DataError(f"both state= and the graph state input {next(iter(states))!r} are given; give one")
            session.check_state(state, size)
        counts = self._counts(lengths, size, longest)
        if not self._transducer:
            state, prompt = self._take_prompt(prompt, counts, state or session.initial_state(size, states or None))
        self._io = StreamIO(session, size)
        self._io.set_state(slice(None), state or session.initial_state(size, states or None))
        self._draws = checked_draws(wanted.seed, wanted.drawn, size)
        self._current = prompt[:, 0].copy()
        self._at = np.zeros(size, np.int64) if self._transducer else counts - 1
        self._frames = counts
        most = int(counts.max()) * wanted.most_symbols if wanted.steps is None else wanted.steps
        self._most, self._lengths = most, np.zeros(size, np.int64)
        room = min(most, FIRST_ROOM)
        self._tokens = np.zeros((size, room if self._chooser else 0), np.int64)
        self._values = None if self._chooser else np.zeros((size, room, *feedback.output.shape))
        self._scores = np.zeros((size, room)) if wanted.scores else None
        self._given_in = np.zeros((size, room), np.int64) if self._transducer else None
        self._stopped = np.zeros(size, np.bool_)

    # --- checks ---------------------------------------------------------------------------------------------------------------------------

    def _check_wanted(self) -> None:
        wanted, feedback = self._wanted, self._feedback
        if wanted.steps is not None or not self._transducer:
            check_count("steps", wanted.steps)
        check_count("most_symbols", wanted.most_symbols)
        if feedback.scored is None:
            refused = {
                "sampling": wanted.sampling is not None,
                "stop": bool(len(self._stop)),
                "blank": self._transducer,
                "scores": wanted.scores,
            }
            if any(refused.values()):
                name = next(name for name, asked in refused.items() if asked)
                raise DataError(
                    f"{name}: the values of output {feedback.output.name!r} are fed back, and no token is chosen; leave it out"
                )
            return
        if wanted.scores and feedback.scored.kind == "index":
            raise DataError(
                f"scores=True: output {feedback.output.name!r} is the index of the largest score; it has no probabilities"
            )
        ending = set(self._stop.tolist())
        if wanted.blank is not None:
            blank = checked_blank(wanted.blank, feedback.scored)
            if blank in ending:
                raise DataError(f"stop: token {blank} is the blank, which ends no sequence; leave it out of stop")
            check_frames(self._session.model, feedback)
            ending.add(blank)
        check_vocabulary(feedback, ending)

    def _checked(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of features and tokens, [N, T, F], [N, T], [N, F] or [N], all of one N."""
        check_mapping(inputs)
        model = self._session.model
        check_names(tuple(i for i in model.inputs if i.kind != "lengths"), inputs)
        if "lengths" in inputs:
            raise DataError("lengths: give the lengths of prompts by lengths=, not among the inputs")
        found: dict[str, npt.NDArray[Any]] = {}
        for i in model.inputs:
            if i.kind in ("features", "tokens"):
                one_hot = i is self._feedback.input and self._feedback.kind == "one_hot"
                found[i.name] = _checked_input(i, inputs[i.name], one_hot)
        sizes = {name: len(values) for name, values in found.items()}
        first = self._feedback.input.name
        for name, size in sizes.items():
            if size != sizes[first]:
                raise DataError(
                    f"input {name!r} has {size} sequences, input {first!r} has {sizes[first]}; expected the same N"
                )
        return found

    def _counts(self, lengths: Any, size: int, longest: int) -> IndexArray:
        """Return how many steps of its prompt each sequence has, or, of a transducer, how many frames."""
        model, own = self._session.model, self._feedback.input.name
        timed = {i.name: self._own[i.name].shape[1] for i in model.inputs if i.has_time and i.name in self._own}
        if self._transducer:
            if longest != 1:
                raise DataError(
                    f"input {own!r} has {longest} steps, expected one, the token before the first, where blank is given"
                )
            frames = next(iter(timed.values()))
            for name, steps in timed.items():
                if steps != frames:
                    raise DataError(f"input {name!r} has {steps} frames, others have {frames}; expected as many")
            return checked_lengths(lengths, size, frames)
        counts = checked_lengths(lengths, size, longest)
        if (empty := np.flatnonzero(counts == 0)).size:
            raise DataError(
                f"the prompt of sequence {empty[0]} is empty; expected at least one step, such as the token that begins a sequence"
            )
        needed = int(counts.max()) + (self._wanted.steps or 1) - 1
        for name, steps in timed.items():
            if steps < needed:
                raise DataError(
                    f"input {name!r} has {steps} steps, expected {needed}: one for each step of the prompt and each further one but the last"
                )
        return counts

    def _take_prompt(
        self, prompt: npt.NDArray[Any], counts: IndexArray, state: State
    ) -> tuple[State, npt.NDArray[Any]]:
        """Take all steps of the prompts but their last ones; return the state then, and the last ones [N, 1, …]."""
        longest, model, own = int(counts.max()), self._session.model, self._feedback.input
        last = np.take_along_axis(prompt, (counts - 1).reshape(-1, *[1] * (prompt.ndim - 1)), 1)
        if longest > 1:
            arrays = {own.name: prompt[:, : longest - 1]}
            timed = {i.name for i in model.inputs if i.has_time}
            arrays |= {name: v[:, : longest - 1] if name in timed else v for name, v in self._own.items()}
            state = self._session.run(arrays, counts - 1, state, end=False, integers=False).state
        return state, last

    # --- steps ----------------------------------------------------------------------------------------------------------------------------

    def run(self, formats: Integers | None = None) -> Generated:
        """Take steps until every sequence has ended; with ``formats``, return integers in the place of real numbers."""
        active = np.flatnonzero(self._frames > 0) if self._transducer else np.arange(len(self._current))
        while len(active):
            active = self._steps_of(active)
        longest = int(self._lengths.max())
        own, output = self._feedback.input, self._feedback.output.name
        following, values = self._current[:, None], None if self._values is None else self._values[:, :longest].copy()
        if own.kind == "features":
            if formats is not None:
                following = quantize_array(following, self._session.model.tensors[own.name])
                values = None if values is None else formats.of_outputs({output: values})[output]
            following = following.reshape(-1, 1, *own.shape)
        return Generated(
            self._tokens[:, :longest].copy(), self._lengths, self._stopped, self._io.state(slice(None)), {own.name: following},
            self._draws[:, 1].copy(),
            values,
            None if self._scores is None else self._scores[:, :longest].copy(),
            None if self._given_in is None else self._given_in[:, :longest].copy(),
        )  # fmt: skip

    def _steps_of(self, active: IndexArray) -> IndexArray:
        """Take steps of the sequences ``active`` until one of them ends; return those that go on."""
        count, io, own = len(active), self._io, self._feedback.input
        io.streams.rows[:count] = active
        inputs, outputs = io.places(count)
        fed, run, out = inputs[own.name], io.runner(count), outputs[self._feedback.output.name].reshape(count, -1)
        timed = [
            (inputs[i.name], self._own[i.name])
            for i in self._session.model.inputs
            if i.has_time and i.name in self._own
        ]
        for i in self._session.model.inputs:
            if not i.has_time and i.name in self._own:
                inputs[i.name][...] = self._own[i.name][active].reshape(inputs[i.name].shape)
        every = count == len(self._lengths)  # a slice takes less time than as many indices
        rows: Rows = slice(None) if every else active
        number, ended = (
            int(self._lengths[active[0]]),
            None,
        )  # of a prompt that goes on, it is the same for all that are active
        while ended is None:
            fed[...] = self._current[rows].reshape(fed.shape)
            for view, values in timed:
                view[...] = values[active, self._at[active]].reshape(view.shape)
            before = io.state(active) if self._transducer else None
            if run():
                io.refuse(inputs)
            if before is not None:
                ended = self._after_frame(active, out, before)
                continue
            ended = self._after(rows, number, out)
            number += 1
            if timed:
                self._at[rows] += 1
        if not self._transducer:
            self._lengths[active] = number
        return active[~ended]

    def _make_room(self, steps: int) -> None:
        """Let the arrays of what is generated have room for one step more than ``steps``."""
        kept = self._tokens if self._values is None else self._values
        if steps < kept.shape[1]:
            return
        more = min(self._most, 2 * kept.shape[1]) - kept.shape[1]

        def longer(values: npt.NDArray[Any] | None) -> Any:
            if values is None or not values.shape[1]:
                return values
            return np.concatenate([values, np.zeros((len(values), more, *values.shape[2:]), values.dtype)], 1)

        self._tokens, self._values = longer(self._tokens), longer(self._values)
        self._scores, self._given_in = longer(self._scores), longer(self._given_in)

    def _after(self, rows: Rows, number: int, out: FloatArray) -> npt.NDArray[np.bool_] | None:
        """Keep what step ``number`` gave, and return which sequences have ended; None where none has."""
        self._make_room(number)
        full = number + 1 == self._most
        if self._values is not None:
            self._values[rows, number] = out.reshape(len(out), *self._values.shape[2:])
            self._current[rows] = out
            return np.ones(len(out), np.bool_) if full else None
        chosen = self._choice(rows, out)
        self._tokens[rows, number] = chosen
        if self._scores is not None and self._chooser is not None:
            self._scores[rows, number] = self._chooser.log_probabilities(out, chosen)
        self._feed(rows, chosen)
        if len(self._stop) and (ended := self._ends[chosen]).any():
            self._stopped[rows] = ended
            return ended | full
        return np.ones(len(out), np.bool_) if full else None

    def _after_frame(self, active: IndexArray, out: FloatArray, before: State) -> npt.NDArray[np.bool_] | None:
        """Keep the tokens of a transducer's step; where the blank was chosen, the state stays what it was and the next frame follows."""
        chosen = self._choice(active, out)
        blank = chosen == self._wanted.blank
        at_blank, given = active[blank], active[~blank]
        if len(at_blank):
            self._io.set_state(at_blank, before.rows(blank))
        number, tokens = self._lengths[given], chosen[~blank]
        self._make_room(int(number.max(initial=0)))
        assert self._given_in is not None
        self._tokens[given, number], self._given_in[given, number] = tokens, self._at[given]
        if self._scores is not None and self._chooser is not None:
            self._scores[given, number] = self._chooser.log_probabilities(out[~blank], tokens)
        self._lengths[given] += 1
        self._feed(given, tokens)
        ended = np.zeros(len(active), np.bool_)
        if len(self._stop):
            ended |= self._ends[chosen]
            self._stopped[active[ended]] = True
        here = self._symbols_of(given)
        over = here >= self._wanted.most_symbols
        self._at[at_blank] += 1
        self._at[given[over]] += 1
        ended |= (self._at[active] >= self._frames[active]) | (self._lengths[active] >= self._most)
        return ended if ended.any() else None

    def _symbols_of(self, rows: IndexArray) -> IndexArray:
        """Return how many tokens each sequence has given in its present frame, which are the last ones."""
        assert self._given_in is not None
        within = np.arange(self._given_in.shape[1]) < self._lengths[rows][:, None]
        found: IndexArray = ((self._given_in[rows] == self._at[rows][:, None]) & within).sum(axis=1)
        return found

    def _choice(self, rows: Rows, out: FloatArray) -> IndexArray:
        assert self._chooser is not None
        chosen = self._chooser.tokens(out, self._draws, rows)
        if self._chooser.draws:
            self._draws[rows, 1] += np.uint64(1)
        return chosen

    def _feed(self, rows: Rows, tokens: IndexArray) -> None:
        """Let sequences be fed these tokens next."""
        if self._feedback.kind == "one_hot":
            width = self._current.shape[1]
            self._current[rows] = np.arange(width) == tokens[:, None]
        else:
            self._current[rows] = tokens


def _checked_input(given: GraphInput, value: Any, one_hot: bool) -> npt.NDArray[Any]:
    """Return an input's array as the numbers that streams take, with its features flat; tokens [N, P] may stand for one-hot features."""
    where = f"input {given.name!r}"
    array = as_array(where, value)
    if one_hot and array.ndim == 2 and array.dtype.kind in "iu" and array.size:
        found: npt.NDArray[Any] = np.arange(given.features) == token_values(where, array, given.features)[..., None]
        return found.astype(np.float64)
    if given.kind == "tokens":
        check_fits(given, array, np.integer)
        return token_values(where, array, given.vocabulary)
    lead = check_fits(given, array, np.floating)
    return real_values(where, array).reshape(*lead, given.features)


def _checked_stop(feedback: Feedback, stop: int | Collection[int]) -> IndexArray:
    """Return the stop tokens as an array; DataError for one that is never chosen."""
    if stop is None:
        raise DataError("stop=None, expected a token, or several; leave it out for none")
    array = as_array("stop", [stop] if isinstance(stop, (int, np.integer)) else list(stop))
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(f"stop={stop!r}, expected a token, or several")
    count = 0 if feedback.scored is None else feedback.scored.count
    for token in array.tolist():
        if feedback.scored is not None and not 0 <= token < count:
            raise DataError(
                f"stop: token {token}, expected tokens in 0…{count - 1}, which output {feedback.output.name!r} scores"
            )
    return array.astype(np.int64)
