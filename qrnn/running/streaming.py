"""A stream is fed one time step at a time, alone or with thousands of others, and has the bits of the whole run.

`Stream` and `StreamPool` keep their states inside, in the rows of one `StreamRows`; `Session.step` takes and returns them as values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

from qrnn.errors import DataError
from qrnn.model.in_words import counted
from qrnn.model.parts import IndexArray
from qrnn.model.real_types import asked_type
from qrnn.running.integers import Integers
from qrnn.running.state import Runner, RunResult, State
from qrnn.running.stream_io import StreamIO
from qrnn.system.brief import Described, array_text


class Stream(Described):
    """``size`` streams that step together and keep their state between calls: `Session.step` at the least cost.

    A stream is not for several threads at once; a `Session` makes as many streams as are wanted.
    """

    def __init__(
        self,
        session: Runner,
        size: int = 1,
        state: State | None = None,
        integers: Integers | None = None,
        real: str | None = None,
    ) -> None:
        """Make the buffers of ``size`` streams.

        ``state``, of as many streams, is from `Session.initial_state`, `Session.run` or another stream; without it they begin with the
        model's own start. With ``integers``, the formats of the session's model, steps take and give integers. ``real`` is the type of
        ``inputs`` and of all outputs; without it `step` gives the type that it is given, and `advance` goes from float64 to float64.
        """
        if size < 1:
            raise DataError(f"size={size}, expected at least 1")
        asked_type(real, integers is not None)
        self._session, self.size = session, size
        self._io = StreamIO(session, size, real if integers is None else "float64")
        self._run = self._io.runner(size)
        inputs, outputs = self._real = self._io.places(size)
        self._integers = integers
        if integers is not None:
            inputs, outputs = integers.zeros(size)
        self.inputs: Mapping[str, npt.NDArray[Any]] = MappingProxyType(inputs)
        """Where `advance` reads: arrays [size, *shape] by graph input name, float64 or the type that was asked for (tokens int64, integers
        int16 or int32), that stay the same for as long as the stream. Write into them, as in ``stream.inputs["x"][...] = frame``; another
        array cannot take their place."""
        self.outputs: Mapping[str, npt.NDArray[Any]] = MappingProxyType(outputs)
        """Where `advance` writes, by graph output name; copy what is to outlive the next step."""
        self.lengths: Mapping[str, IndexArray] = MappingProxyType(self._io.streams.lengths)
        """How many steps of each output came out of each stream in the latest step, [size], by graph output name: 1 for an output that is new,
        and 0 for one that is not, which then holds zeros. Always 1 where no layer takes several steps for one or has a delay. An output of
        which several steps may come out at once has an axis for them, [size, steps, *shape], with zeros behind those that did."""
        self.reset(state)

    def describe_lines(self) -> Iterator[str]:
        """Return how many streams of which model these are, and the arrays that steps read and write."""
        yield f"Stream of {self._session.model.name!r}: {counted(self.size, 'sequence')} at a time"
        for what, arrays in (("input", self.inputs), ("output", self.outputs)):
            yield from (f"  {what:<6} {name} {array_text(array)}" for name, array in arrays.items())

    def step(self, inputs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Take one time step: float arrays (or integers) [size, *shape] by graph input name in, and by graph output name out.

        Outputs are float32 where the real inputs are, unless the stream was made with ``real``.
        DataError for what does not fit; the state then stays as it was.
        """
        if self._integers is not None:
            return self._integers.of_outputs(self._io.step(self._integers.reals(inputs), self.size))
        return self._io.step(inputs, self.size)

    def advance(self) -> None:
        """Take one time step from ``inputs`` to ``outputs``, in place: as `step`, with nothing looked up, allocated or copied.

        DataError for values that are out of range; the state then stays as it was.
        """
        if self._integers is not None:
            self._advance_integers(self._integers)
        elif self._run():
            self._io.refuse(self.inputs)

    def _advance_integers(self, integers: Integers) -> None:
        inputs, outputs = self._real
        for name, values in integers.reals(self.inputs).items():
            inputs[name][...] = values
        if self._run():
            self._io.refuse(inputs)
        for name, q in integers.of_outputs(outputs).items():
            self.outputs[name][...] = q

    def finish(self) -> RunResult:
        """Return what the layers still hold back where the streams end here, as `Session.finish` does; then begin anew."""
        integers = self._integers is not None
        result = self._session.finish(self.state, integers, None if integers else self._io.real)
        self.reset()
        return result

    @property
    def state(self) -> State:
        """Return the state now, as a value."""
        return self._io.state(slice(None))

    def reset(self, state: State | None = None) -> None:
        """Begin anew, from ``state`` or from the model's own start."""
        if state is None:
            state = self._session.initial_state(self.size)
        else:
            self._session.check_state(state, self.size)
        self._io.set_state(slice(None), state)
