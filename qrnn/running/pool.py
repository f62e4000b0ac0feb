"""A pool holds streams that open, close and step independently of each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.model.choosing import Sampling
from qrnn.model.feedback import find_scored
from qrnn.model.in_words import counted, port_lines
from qrnn.model.parts import IndexArray
from qrnn.model.real_types import asked_type, real_names, type_of_inputs
from qrnn.model.user_values import as_array, check_count, check_mapping
from qrnn.running.choosing import Chooser, check_each_step, checked_blank, checked_draws
from qrnn.running.integers import Integers
from qrnn.running.state import Runner, RunResult, State
from qrnn.running.stream_io import StreamIO
from qrnn.system.brief import Described

_ROW_BITS = 32


class StreamPool(Described):
    """Any number of independent streams of one model, of which any can take a step together in one call of the backend's matrix kernels.

    Streams open and close at any time; each has the bits that it would have alone. A pool is not for several threads at once: a call
    spreads its work over the session's ``threads`` by itself. A stream is known by a number that no later stream gets.
    """

    def __init__(
        self, session: Runner, capacity: int = 64, integers: Integers | None = None, real: str | None = None
    ) -> None:
        """Make room for ``capacity`` streams; the room grows as they open. ``integers`` and ``real``: see `Stream`."""
        check_count("capacity", capacity)
        asked_type(real, integers is not None)
        self._session, self._integers = session, integers
        self._real = real if integers is None else "float64"
        self._io = StreamIO(session, capacity, self._real)
        self._generation = np.zeros(capacity, np.int64)  # odd while the row's stream is open
        self._last_seen = np.zeros(capacity, np.int64)
        self._draws = np.zeros((capacity, 2), np.uint64)  # seeds, and how many draws there were
        self._choosers: dict[tuple[Sampling | None, str | None], Chooser] = {}
        self._free = list(range(capacity - 1, -1, -1))
        self._count = 0
        self._start = session.initial_state(1)

    def describe_lines(self) -> Iterator[str]:
        """Yield how many streams of which model are open."""
        yield f"StreamPool of {self._session.model.name!r}: {len(self)} of {counted(self.capacity, 'stream')} open"
        yield from port_lines(self._session.model)

    def __len__(self) -> int:
        """Return the number of streams that are open."""
        return self.capacity - len(self._free)

    @property
    def capacity(self) -> int:
        """Return the number of streams that there is room for."""
        return len(self._generation)

    def open(self, state: State | None = None, seed: int = 0, drawn: int = 0) -> int:
        """Open a stream that begins with ``state``, or with the model's own start, and return its number.

        ``seed`` is that of the tokens that `choose` draws for it, and ``drawn`` the number of draws that it has had before. Raises DataError
        for what does not fit.
        """
        if state is not None:
            self._session.check_state(state, 1)
        draws = checked_draws(seed, drawn, 1)
        if not self._free:
            self._grow()
        row = self._free.pop()
        self._generation[row] += 1
        self._io.set_state(slice(row, row + 1), state or self._start)
        self._draws[row] = draws[0]
        return int(self._generation[row]) << _ROW_BITS | row

    def close(self, stream: int) -> None:
        """Forget a stream; DataError for one that is not open."""
        row = int(self._rows([stream])[0])
        self._generation[row] += 1
        self._free.append(row)

    def state(self, stream: int) -> State:
        """Return a stream's state, as a value."""
        return self._io.state(self._rows([stream]))

    def set_state(self, stream: int, state: State) -> None:
        """Let a stream go on from ``state``; DataError for a stream that is not open, or a state that does not fit."""
        self._session.check_state(state, 1)
        self._io.set_state(self._rows([stream]), state)

    def check_open(self, streams: Sequence[int] | IndexArray) -> int:
        """Return the number of ``streams``; DataError unless all of them are open and each is named once."""
        return len(self._rows(streams))

    def step(self, streams: Sequence[int] | IndexArray, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Take one time step of ``streams``, each at most once: row k of every array, in and out, is that of streams[k].

        `lengths` then says whose outputs are new. Outputs are float32 where the real inputs are, unless the pool was made with ``real``.
        DataError for what does not fit; no state is changed then.
        """
        rows = self._rows(streams)
        count = len(rows)
        integers = self._integers
        if not count:
            model = self._session.model
            check_mapping(inputs)
            kind = asked_type(self._real) or type_of_inputs(real_names(model.inputs), inputs)
            empty = {o.name: np.zeros((0, *model.step_shape(o)), kind) for o in model.outputs}
            return empty if integers is None else integers.of_outputs(empty)
        if integers is not None:
            inputs = integers.reals(inputs)
        self._io.streams.rows[:count] = rows
        self._count = count
        outputs = self._io.step(inputs, count)
        return outputs if integers is None else integers.of_outputs(outputs)

    def choose(
        self,
        streams: Sequence[int] | IndexArray,
        inputs: Mapping[str, Any],
        sampling: Sampling | None = None,
        output: str | None = None,
        blank: int | None = None,
    ) -> IndexArray:
        """Take one time step of ``streams``, and return the token [n] that is chosen for each by its output, as `Session.generate` chooses.

        ``output`` names the output of scores; without it, it is the one that fits the model's tokens. A token of a stream is the largest score,
        or with ``sampling`` drawn by the stream's seed. Where it is ``blank``, the stream's state stays what it was before the step. DataError
        for what does not fit; no state is changed then.
        """
        chooser = self._chooser(sampling, output)
        if blank is not None:
            blank = checked_blank(blank, chooser.scored)
        rows = self._rows(streams)
        if not len(rows):
            return np.zeros(0, np.int64)
        before = None if blank is None else self._io.state(rows)
        if self._integers is not None:
            inputs = self._integers.reals(inputs)
        self._io.streams.rows[: len(rows)] = rows
        self._count = len(rows)
        values = self._io.exact_step(inputs, len(rows))[chooser.scored.output.name].reshape(len(rows), -1)
        tokens = chooser.tokens(values, self._draws, rows)
        if chooser.draws:
            self._draws[rows, 1] += np.uint64(1)
        if before is not None and (at_blank := tokens == blank).any():
            self._io.set_state(rows[at_blank], before.rows(at_blank))
        return tokens

    def drawn(self, stream: int) -> int:
        """Return how many tokens `choose` has drawn for a stream, those before it was opened too."""
        return int(self._draws[self._rows([stream])[0], 1])

    def _chooser(self, sampling: Sampling | None, output: str | None) -> Chooser:
        key = (sampling, output)
        if key not in self._choosers:
            scored = find_scored(self._session.model, output)
            check_each_step(self._session.model, scored.output)
            self._choosers[key] = Chooser(self._session.engine, scored, sampling)
        return self._choosers[key]

    @property
    def lengths(self) -> dict[str, IndexArray]:
        """Return how many steps of each output came out in the latest call of `step`, [n] for its n streams; see `Stream.lengths`."""
        return self._io.lengths(self._count)

    def finish(self, stream: int) -> RunResult:
        """Return what the layers still hold back of a stream that ends here, as `Session.finish` does, and close the stream."""
        integers = self._integers is not None
        result = self._session.finish(self.state(stream), integers, None if integers else self._io.real)
        self.close(stream)
        return result

    def _rows(self, streams: Sequence[int] | IndexArray) -> IndexArray:
        numbers = as_array("streams", streams)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise DataError(f"streams: {numbers.dtype}{list(numbers.shape)}, expected the numbers of open streams, [n]")
        numbers = numbers.astype(np.int64, copy=False)
        rows: npt.NDArray[np.int64] = numbers & ((1 << _ROW_BITS) - 1)
        generation = numbers >> _ROW_BITS
        if numbers.size and (
            rows.max() >= self.capacity or not ((self._generation[rows] == generation) & (generation & 1)).all()
        ):
            known = (rows < self.capacity) & (generation & 1 == 1)
            known[known] = self._generation[rows[known]] == generation[known]
            raise DataError(
                f"stream {int(numbers[~known][0])} is not open; expected a number that open() gave, of a stream that was not closed"
            )
        order = np.arange(len(rows))
        self._last_seen[rows] = order
        if (twice := self._last_seen[rows] != order).any():
            raise DataError(f"stream {int(numbers[twice][0])} is given twice; a stream takes one step a call")
        return rows

    def _grow(self) -> None:
        old, size = self._io, self.capacity
        self._io = StreamIO(self._session, 2 * size, self._real)
        for name, arrays in old.streams.layers.items():
            for new, array in zip(self._io.streams.layers[name], arrays, strict=True):
                new[:size] = array
        self._generation = np.concatenate([self._generation, np.zeros(size, np.int64)])
        self._last_seen = np.zeros(2 * size, np.int64)
        self._draws = np.concatenate([self._draws, np.zeros((size, 2), np.uint64)])
        self._free = list(range(2 * size - 1, size - 1, -1))
