"""A session is a quantized model on a backend, with explicit state. Floats exist only outside the engine.

The state of a stream is a value that ``run`` and ``step`` take and return; a session keeps none, so many threads may share one, and a
sequence run in any chunks equals the whole run bit for bit. The state of a layer without memory is what each of its steps begins with: a
run gives it back as it was.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from qrnn.backends import DEFAULT_BACKEND, create_engine
from qrnn.backends.base import LayerState, Trace
from qrnn.errors import DataError
from qrnn.model.batch import (
    Batch,
    check_mapping,
    make_batch,
    on_cuda_device,
    shortest,
    time_axes,
    with_time_axis,
    without_time_axis,
)
from qrnn.model.choosing import Sampling
from qrnn.model.float_model import GraphOutput
from qrnn.model.in_words import port_lines
from qrnn.model.needed_steps import steps_for
from qrnn.model.pad_values import is_padded, without_padding
from qrnn.model.parts import FloatArray, IndexArray, Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import FLOAT64, asked_type, real_names, type_of_inputs
from qrnn.running.decoder import decoder_stream
from qrnn.running.device_stream import DeviceStream
from qrnn.running.generated import Generated
from qrnn.running.generating import MOST_SYMBOLS, Generator, Wanted
from qrnn.running.in_pieces import HasArrays, PieceRuns, arrays_of
from qrnn.running.integers import Integers
from qrnn.running.model_states import ModelStates, streams_of
from qrnn.running.pool import StreamPool
from qrnn.running.state import RunResult, State, checked_steps, joined, last_steps
from qrnn.running.step_limits import StepLimits
from qrnn.running.streaming import (
    SequenceIO,
    Stream,
    StreamIO,
    check_one_row,
    check_streamable,
    no_steps,
    of_one_step,
    one_step,
)
from qrnn.system.brief import Described

IDLE_SHAPES = 8
"""The number of shapes, of steps and of runs, whose buffers are kept."""

PROGRESS_PIECES = 40
"""The number of pieces of a batch whose progress is watched."""


class NamesItsSession(Protocol):
    """A model whose sessions are of a class of their own, such as one with float parts (`qrnn.hybrid`)."""

    session_class: ClassVar[str]
    """The module and the name of the class, with a colon between."""


class Session(Described):
    """A model ready to run.

    ``backend`` is one of `qrnn.backends.backend_names`; every backend gives the same bits. ``threads`` limits the cores used. ``isa`` forces
    an instruction set of the cpu backend (`qrnn.backends.cpu.isa.available_isas`), as does the environment's ``QRNN_CPU_ISA``; the best is
    taken without it. ``cache`` names the folder of its compiled code in the place of the user's own or of ``QRNN_CACHE_DIR``: that which
    ``qrnn compile`` made, for example. ``tuning`` sets thresholds of a backend that has a class of them (cpu:
    `qrnn.backends.cpu.tuning.Tuning`, cuda: `qrnn.backends.cuda.tuning.Tuning`). With ``integers`` inputs and outputs are the integers of
    their tensors, as exported C takes and gives them, in the place of real numbers; `run`, `step`, `stream` and `pool` can be told otherwise.
    """

    def __new__(cls, model: QuantModel | NamesItsSession, *_: Any, **__: Any) -> Session:
        """Return a session of the kind that the model has: one with float parts names a class of its own."""
        own = getattr(model, "session_class", None)
        if cls is Session and own is not None:
            module, _colon, name = own.partition(":")
            kind: type[Session] = getattr(importlib.import_module(module), name)
            return object.__new__(kind)
        return object.__new__(cls)

    def __init__(
        self,
        model: QuantModel | NamesItsSession,
        backend: str = DEFAULT_BACKEND,
        threads: int | None = None,
        isa: str | None = None,
        cache: str | PathLike[str] | None = None,
        tuning: object | None = None,
        integers: bool = False,
    ) -> None:
        if threads is not None and threads < 1:
            raise DataError(f"threads={threads}, expected at least 1")
        if not isinstance(model, QuantModel):
            raise DataError(f"model: {type(model).__name__}, expected one that qrnn.quantize or qrnn.load gave")
        self.model, self.backend = model, backend
        folder = None if cache is None else Path(cache).absolute()
        self._made_with = backend, threads, isa, cache, tuning
        self.engine = create_engine(backend, model, threads, isa, tuning, folder)
        self._states = ModelStates(model)
        self._limits = StepLimits(model)
        self._forgetful = frozenset(layer.name for layer in model.recurrent_layers if not layer.memory)
        self._padded = is_padded(model.inputs)
        self._widest = max(fmt.features for fmt in model.tensors.values())
        self._reals = real_names(model.inputs)
        self._starts = [i.name for i in model.inputs if i.kind in ("state", "lengths")]
        self._timed_input = next((i.name for i in model.inputs if i.has_time and i.kind in ("features", "tokens")), "")
        self._idle: dict[tuple[Any, ...], list[Any]] = {}
        self._last_shape: tuple[Any, ...] = ()
        self._whole = {o.name: model.whole_tensor(o) for o in model.outputs}
        self.integers = integers
        self._formats: Integers | None = None

    def describe_lines(self) -> Iterator[str]:
        """Return what runs where, and what it takes and gives."""
        yield f"Session of {self.model.name!r} on backend {self.backend}" + (", of integers" if self.integers else "")
        yield from port_lines(self.model)

    def _formats_of(self, integers: bool | None) -> Integers | None:
        """Return the formats for a call that is to take and give integers, None for one of real numbers; None means as the session."""
        if not (self.integers if integers is None else integers):
            return None
        if self._formats is None:
            self._formats = Integers(self.model)
        return self._formats

    def warm_up(self, batch: int | None = None, steps: int | None = None, streams: int | None = None) -> None:
        """Bring the compiled code that later calls need, compiling what is not kept, so that none of them waits for it.

        Without arguments that is all that the model's calls can need: runs of any number of sequences, steps and real types, padded or not,
        `step`, `stream` and `pool`. ``batch`` and ``steps`` alone leave out what only streams need, and ``streams`` alone what only runs
        need; where ``batch`` and ``steps`` are both given, the memory of runs of that shape is laid out as well. DataError for numbers
        below 1.
        """
        for name, number in (("batch", batch), ("steps", steps), ("streams", streams)):
            if number is not None and (
                isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1
            ):
                raise DataError(f"{name}={number!r}, expected a whole number of at least 1")
        if not self.engine.warm_up(batch, steps, streams):
            self._run_zeros(batch or 1, steps or steps_for(self.model, 1))
            return
        if batch is not None and steps is not None:
            for kind in ("f", "d"):
                shape = (batch, steps, kind, kind)
                if not self._idle.get(shape):
                    self._idle.setdefault(shape, []).append(self._sequences(*shape))

    def _run_zeros(self, batch: int, steps: int) -> None:
        """Run zeros once, for a backend that compiles when it runs."""
        inputs: dict[str, Any] = {}
        for i in self.model.inputs:
            lead = (batch, steps) if i.has_time else (batch,)
            if i.kind == "lengths":
                inputs[i.name] = np.full(batch, steps, np.int64)
            else:
                real = 0.0 if i.padding is None else i.padding + 1  # steps that are no padding
                inputs[i.name] = np.full((*lead, *i.shape), real, np.int64 if i.kind == "tokens" else np.float64)
        self.run(inputs, integers=False)

    def initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """Return the state before the first step of ``size`` sequences.

        ``states`` gives graph state inputs by name, [N, F] or [N, *shape] each. Raises DataError for a state input that the model lacks, or
        one whose shape, type or values do not fit.
        """
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise DataError(f"size={size!r}, expected a whole number of at least 1")
        given = None if states is None else self._states.checked_inputs(size, states)
        return self._states.initial(size, given)

    def run(
        self,
        inputs: Mapping[str, Any],
        lengths: Any = None,
        state: State | None = None,
        progress: Callable[[int, int], Any] | None = None,
        end: bool = True,
        integers: bool | None = None,
        steps: str = "all",
        real: str | None = None,
    ) -> RunResult:
        """Run whole sequences, and return their outputs and final state.

        ``inputs`` maps graph input names to arrays, batch first ([N, T, …]; rows [N, …] or [N, 1, …] of a model without memory, whose
        outputs then have as many axes); ``lengths`` [N] masks padding exactly, and maps the names of time axes to such arrays where the
        model has several; where an input has a value of steps that pad it, as Keras's masks are, these are left out without lengths;
        ``state`` carries on from an earlier call (graph state inputs in ``inputs`` start from values instead).
        ``progress`` is called with (done, all) sequences; the batch is then run in more pieces. With ``end`` False the sequences go on in a
        later call, so that a layer with a delay holds back what it cannot give yet. ``integers`` True or False takes and gives integers or
        real numbers, whichever the session does. ``steps`` "last" returns the last real step of each sequence alone of outputs over time,
        [N, *shape], zero for a sequence without steps; large batches then never have an array of all steps. Outputs are float32 where all
        real inputs are float32 or float16, and float64 otherwise; ``real``, "float32" or "float64", asks for one of the two. A float32 is the
        float64 of the same output, rounded. Raises DataError for what does not fit.

        With backend cuda, arrays that lie on the device (PyTorch's, CuPy's: the CUDA array interface or DLPack) are read where they are,
        and the result's outputs and state lie there too (docs/cuda.md).
        """
        if (formats := self._formats_of(integers)) is not None:
            self._require_lengths(lengths, "integers do not tell it")
            reals = formats.reals(inputs)
            asked_type(real, integers=True)
            result = self.run(reals, lengths, state, progress, end, integers=False, steps=steps, real="float64")
            return formats.of_result(result)
        last, kind = checked_steps(steps), asked_type(real)
        if type(inputs) is not dict:
            check_mapping(inputs)
        if (self.model.uneven or self.model.waits) and (state is not None or not end):
            check_streamable(self.model)
        if self.engine.takes_device_arrays and any(map(on_cuda_device, inputs.values())):
            self._require_lengths(lengths, "arrays on the device are not read for it")
            if last:
                raise DataError(
                    "steps='last' takes arrays of the host; take the last steps of the result on the device"
                )
            return self._run_on_device(inputs, lengths, state, one_step=False, end=end, kind=kind)
        if self.model.rows:
            inputs, without = with_time_axis(self.model.inputs, inputs)
            result = self._run(inputs, lengths, state, progress, end, kind=kind)
            without_steps = without or last
            outputs = without_time_axis(self.model.outputs, result.outputs) if without_steps else result.outputs
            return replace(result, outputs=outputs)
        return self._run(inputs, lengths, state, progress, end, last=last, kind=kind)

    def run_chunks(
        self, chunks: Iterable[Mapping[str, Any] | HasArrays], steps: str = "all", real: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Run sequences that come in chunks, and return the outputs of each as it is done: memory does not grow with their number.

        Each chunk holds arrays as `run` takes them, of any number of sequences, with ``lengths`` (and ``labels``, which are not read) beside
        them where there are any. ``qrnn.open_data(path, model).chunks()`` gives the pieces of a file; these may be given as they are. The
        outputs are those of `run` of all sequences, cut at the same places; ``steps`` and ``real`` are as there. DataError as from `run`; its
        places count from the first sequence.
        """
        runs = PieceRuns(self, steps, real)
        for chunk in chunks:
            yield runs.outputs(arrays_of(chunk), runs.sequences)

    def _run(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        state: State | None,
        progress: Callable[[int, int], Any] | None,
        end: bool,
        as_step: bool = False,
        last: bool = False,
        kind: str | None = None,
    ) -> RunResult:
        """Run arrays of the host with all of their axes; see `run`. With ``as_step`` they are a step of streams, which is never padding.

        ``kind`` is the character of the type of the outputs, None for that of the inputs.
        """
        if state is not None:
            state = self._of_host(state)
        whole = lengths is None and progress is None and (as_step or not self._padded)
        kind = kind or type_of_inputs(self._reals, inputs)
        if whole and (found := self._run_whole(inputs, state, end, kind)) is not None:
            return last_steps(self.model.outputs, found) if last else found
        declared = without_padding(self.model.inputs) if as_step else self.model.inputs
        batch = make_batch(declared, inputs, lengths, keep_float32=True)
        if state is not None:
            self._check_one_state(batch.states)
            self.check_state(state, batch.size)
        rows = max(1, self.engine.chunk_elements // (4 * self._widest * batch.steps))
        if progress is not None:
            rows = min(rows, -(-batch.size // PROGRESS_PIECES))
        pieces = []
        for start, stop, piece in batch.chunks(rows):
            part = None if state is None else state.rows(slice(start, stop))
            found = self.run_batch(piece, part, steps=batch.steps, end=end, kind=kind)[0]
            pieces.append(last_steps(self.model.outputs, found) if last else found)
            if progress is not None:
                progress(stop, batch.size)
        if len(pieces) == 1:
            return pieces[0]
        return joined(pieces)

    def _run_on_device(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        state: State | None,
        one_step: bool,
        end: bool,
        kind: str | None,
    ) -> RunResult:
        """Run arrays on the backend's device in one piece, as `run` and `step` do."""
        if one_step:
            check_one_row(self.model)
        started: dict[str, LayerState] = {}

        def begin(size: int, given: Mapping[str, FloatArray]) -> Mapping[str, LayerState]:
            if state is None:
                started.update(self._states.initial(size, given).layers)
                return started
            self._check_one_state(given)
            self.check_state(state, size, on_device=True)
            started.update(state.layers)
            return started

        found = self.engine.run_on_device(inputs, lengths, begin, one_step, end, kind)
        if self._limits:
            self._limits.check(started, found.lengths, self.engine.to_host, end)
        return RunResult(found.outputs, State(found.states), output_lengths(self.model, found.lengths))

    def _require_lengths(self, lengths: Any, why: str) -> None:
        """Raise DataError where the value of padding says how long sequences are, and nothing else does; ``why`` it cannot be looked for."""
        if lengths is None and (
            named := next((i for i in self.model.inputs if i.padding is not None and i.kind == "features"), None)
        ):
            raise DataError(
                f"input {named.name!r}: steps of {named.padding:g} at the end of a sequence are padding, and {why}; give lengths"
            )

    def _check_one_state(self, given: Mapping[str, FloatArray]) -> None:
        """Raise DataError where states are given beside ``state=``."""
        if given:
            raise DataError(f"both state= and the graph state input {next(iter(given))!r} are given; give one")

    def _run_whole(self, inputs: Mapping[str, Any], state: State | None, end: bool, kind: str) -> RunResult | None:
        """Run sequences of one length by the backend's own way; None where it has none, or an array is not as it wants it.

        Where layers skip, merge or delay steps, only a sequence from its beginning to its end has as many steps everywhere as its length says.
        """
        if self.model.counted and (state is not None or not end):
            return None
        x = inputs.get(self._timed_input)
        if type(x) is not np.ndarray or x.ndim < 2 or x.size == 0:
            return None
        size, steps = x.shape[:2]
        if state is not None:
            self.check_state(state, size)
        shape = (size, steps, "f" if x.dtype.char == "f" else "d", kind)
        io = self._take(shape) or self._make(shape, lambda: self._sequences(*shape))
        if io is None:
            return None
        found = io.run(inputs, state)
        self._idle.setdefault(shape, []).append(io)
        if found is None:
            return None
        outputs, after = found
        if self._forgetful:
            begin = io.begin(state)
            after = {**after, **{name: tuple(array.copy() for array in begin[name]) for name in self._forgetful}}
        return RunResult(outputs, State(after), io.lengths)

    def _sequences(self, size: int, steps: int, taken: str, given: str) -> SequenceIO | None:
        if (self._forgetful and steps > 1) or len(time_axes(self.model.inputs)) != 1:
            return None  # these carry every state on, and have one time axis
        rows = self.engine.sequences(size, steps, np.dtype(taken), np.dtype(given))
        return None if rows is None else SequenceIO(self, rows)

    def _take(self, shape: tuple[Any, ...]) -> Any:
        """Return the buffers of a shape, which many threads may ask for at once; None where none are idle."""
        try:
            return self._idle[shape].pop()
        except (KeyError, IndexError):
            return None

    def _make(self, shape: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Make further buffers; None for a shape that neither has any nor is asked for twice in a row, unless it is the first of all.

        To make them takes longer than a run without: lengths that always change never pay for it. The first time, what has to be compiled
        takes longer still, and is compiled together where a whole run is laid out.
        """
        again, self._last_shape = shape == self._last_shape or not self._last_shape, shape
        if shape not in self._idle:
            if not again:
                return None
            if len(self._idle) >= IDLE_SHAPES:
                self._idle = {}
            self._idle[shape] = []
        return make()

    def step(
        self,
        inputs: Mapping[str, Any],
        state: State | None = None,
        integers: bool | None = None,
        real: str | None = None,
    ) -> RunResult:
        """Take one time step of N streams: arrays are [N, …], in and out; ``state`` is that of the step before, None at the start.

        Not every step gives an output where a layer takes several steps for one, or has a delay: ``lengths`` of the result is 1 for the
        streams whose output is new, and 0, with an output of zeros, for the others. `finish` gives what a delay holds back. A model without
        memory takes N rows, as in `run`; ``integers`` and ``real`` are as there. Raises DataError for what does not fit.
        """
        check_streamable(self.model)
        if (formats := self._formats_of(integers)) is not None:
            asked_type(real, integers=True)
            return formats.of_result(self.step(formats.reals(inputs), state, integers=False, real="float64"))
        check_mapping(inputs)
        if self.model.rows:
            return self.run(inputs, state=state, integers=False, real=real)
        if self.engine.takes_device_arrays and any(map(on_cuda_device, inputs.values())):
            return self._run_on_device(inputs, None, state, one_step=True, end=False, kind=asked_type(real))
        if state is not None:
            state = self._of_host(state)
        first = next(iter(inputs.values()), None)
        size = len(first) if isinstance(first, np.ndarray) and first.ndim else 0
        if not size or any(name in inputs for name in self._starts):
            return self._step_as_run(inputs, state, real)
        shape = (size, real)
        io = self._take(shape) or self._make(shape, lambda: StreamIO(self, size, real))
        if io is None:
            return self._step_as_run(inputs, state, real)
        if state is None:
            state = self._states.initial(size)
        else:
            self.check_state(state, size)
        rows = slice(None)
        io.set_state(rows, state)
        outputs = io.step(inputs, size)
        result = RunResult(outputs, io.state(rows), io.lengths(size))
        self._idle.setdefault(shape, []).append(io)
        return result

    def _step_as_run(self, inputs: Mapping[str, Any], state: State | None, real: str | None) -> RunResult:
        given = one_step(self.model, inputs)
        if self._padded:
            result = self._run(given, None, state, None, end=False, as_step=True, kind=asked_type(real))
        else:
            result = self.run(given, state=state, end=False, integers=False, real=real)
        return replace(result, outputs=of_one_step(self.model, result))

    def finish(self, state: State, integers: bool | None = None, real: str | None = None) -> RunResult:
        """Return what the layers of streams that end in ``state`` still hold back: outputs over time are [N, steps, …].

        They are float64, as there are no inputs, unless ``real`` says otherwise; see `run`.

        Only a layer with a delay holds something back; for other models there are no steps. The state of the result is of no further use.
        """
        check_streamable(self.model)
        state = self._of_host(state)
        self.check_state(state, size := streams_of(state))
        formats = self._formats_of(integers)
        kind = asked_type(real, formats is not None) or FLOAT64
        result, _ = self.run_batch(no_steps(self.model, size), state, kind=kind)
        timed = {o.name: int(result.lengths[o.name].max()) for o in self.model.outputs if o.has_time}
        outputs = {name: v[:, : timed[name]] if name in timed else v for name, v in result.outputs.items()}
        return replace(result, outputs=outputs if formats is None else formats.of_outputs(outputs))

    def generate(
        self,
        inputs: Mapping[str, Any],
        lengths: Any = None,
        *,
        steps: int | None = None,
        sampling: Sampling | None = None,
        seed: Any = 0,
        stop: Any = (),
        state: State | None = None,
        feed: Mapping[str, str] | None = None,
        one_hot: bool | None = None,
        blank: int | None = None,
        most_symbols: int = MOST_SYMBOLS,
        scores: bool = False,
        drawn: Any = 0,
        integers: bool | None = None,
    ) -> Generated:
        """Feed an output back to an input, and return the tokens or values that follow each prompt (docs/decoding.md).

        ``inputs`` holds a prompt of at least one step for the input that is fed, [N, P, …], with ``lengths`` [N] of them where they differ,
        and every other input: those over time have a row for each step of the prompt and each further step but the last. ``feed`` names the
        pair, as in ``{"tokens": "logits"}``, where it is not the only one that fits; ``one_hot`` says that an input of features is fed 1 at
        the place of a token.

        At most ``steps`` tokens follow, or fewer where one of ``stop`` is chosen, which is the last. Without ``sampling`` the largest score is
        chosen, of equal ones the first. With it, the draws of sequence n are those of the seed ``seed`` + n, or ``seed``[n], whatever the
        batch is; ``drawn`` says how many of them were taken before. ``scores`` asks for log probabilities.

        With ``blank``, the model is the prediction and joint network of a transducer, and the other inputs over time are its frames,
        ``lengths`` of them: a token is chosen in the same frame again until it is the blank, at which the state stays what it was and the next
        frame follows; at most ``most_symbols`` are given in a frame. ``integers`` is as in `run`. Raises DataError for what does not fit.
        """
        formats = self._formats_of(integers)
        if formats is not None:
            inputs = formats.reals(inputs)
        wanted = Wanted(steps, sampling, seed, drawn, stop, feed, one_hot, blank, most_symbols, scores)
        return Generator(self, inputs, lengths, state, wanted).run(formats)

    def stream(
        self,
        size: int = 1,
        state: State | None = None,
        integers: bool | None = None,
        inputs: Mapping[str, Any] | None = None,
        lengths: Any = None,
        real: str | None = None,
    ) -> Stream:
        """Return ``size`` streams that keep their state, which take a step at the least cost; ``integers`` and ``real`` are as in `run`.

        Of a decoder that an encoder starts, ``inputs`` has the encoder's whole sequences, [N, T, …] by graph input name, with ``lengths``
        as in `run`. The N streams then begin with what these end with, take the other inputs step by step, and give the outputs that depend
        on them. DataError, which names the layer, where a step reads the given sequences otherwise.
        """
        if inputs is None:
            return Stream(self, size, state, self._formats_of(integers), real)
        if size != 1 or state is not None:
            raise DataError("size and state follow from the sequences that are given; leave them out beside inputs=")
        formats = self._formats_of(integers)
        return decoder_stream(
            self,
            self._alike,
            inputs,
            lengths,
            lambda model: None if formats is None else Integers(model),
            lambda arrays: arrays if formats is None else formats.reals(arrays),
            real,
        )

    def _alike(self, model: QuantModel) -> Session:
        """Return a session like this one for another model."""
        return Session(model, *self._made_with)

    def device_stream(
        self, size: int = 1, state: State | None = None, steps: int | None = None, real: str = "float32"
    ) -> DeviceStream:
        """Return ``size`` streams whose inputs, outputs and state stay on the CUDA device; a call is one launch of a captured CUDA graph.

        This needs backend cuda (docs/cuda.md). Each call takes one time step, or ``steps`` of them, and then arrays have a time axis.
        ``real`` is the type of the real inputs and of the outputs, float32 or float64. Raises DataError for what does not fit, and in a
        session of integers, BackendError with another backend.
        """
        if self.integers:
            raise DataError("device_stream takes and gives real numbers; make it of a session without integers=True")
        return DeviceStream(self, size, state, steps, real)

    def pool(self, capacity: int = 64, integers: bool | None = None, real: str | None = None) -> StreamPool:
        """Return a pool of streams that open, close and step independently of each other; ``integers`` and ``real`` are as in `run`."""
        return StreamPool(self, capacity, self._formats_of(integers), real)

    def run_batch(
        self,
        batch: Batch,
        state: State | None = None,
        trace: Trace | None = None,
        steps: int | None = None,
        end: bool = True,
        kind: str = FLOAT64,
    ) -> tuple[RunResult, Mapping[str, Int16Array | Int32Array]]:
        """Run a checked batch, and return the result and every integer tensor of the model.

        Outputs are padded to ``steps`` of the batch's axis, and of the type of character ``kind``; ``end`` is that of `run`.
        """
        model = self.model
        inputs: dict[str, Int16Array | IndexArray] = dict(batch.tokens)
        for name, value in batch.features.items():
            inputs[name] = self.engine.quantize(value, model.tensors[name])
        begin = state if state is not None else self._states.initial(batch.size, batch.states)
        ran = self.engine.run(inputs, begin.layers, batch.given_lengths, trace, end)
        if self._limits:
            self._limits.check(begin.layers, ran.lengths, end=end)
        outputs: dict[str, FloatArray] = {}
        came = output_lengths(model, ran.lengths)
        for output in model.outputs:
            count = came[output.name]
            lead: tuple[int, ...] = (batch.size,)
            if output.has_time:
                lead = (
                    batch.size,
                    self._rows_of(output, batch, steps or batch.steps, count, carried=state is not None),
                )
            whole = self._whole.get(output.name)
            if whole is not None and ran.tensors[whole].shape[: len(lead)] == lead:
                value = self.engine.dequantize(ran.tensors[whole], model.tensors[whole], kind)
            else:
                value = self._gathered(output, ran.tensors, lead, kind)
            if output.has_time and shortest(count) < lead[-1]:
                value[np.arange(lead[-1]) >= count[:, None]] = 0.0
            elif not output.has_time and shortest(count) < 1:
                self._without_steps(output, value, ran.lengths)
            outputs[output.name] = value.reshape(*lead, *output.shape)
        return RunResult(outputs, State(ran.states), came), ran.tensors

    def _without_steps(self, output: GraphOutput, value: FloatArray, lengths: Mapping[str, IndexArray]) -> None:
        """Set the last steps of sequences of no steps to 0, where an offset keeps their integers from it; ``value`` [N, F]."""
        for name, _, positions in output.parts:
            if self.model.tensors[name].has_offset and self.model.last_step_behind(name) is not None:
                value[np.ix_(lengths[name] < 1, positions)] = 0.0

    def _rows_of(self, output: GraphOutput, batch: Batch, steps: int, count: IndexArray, carried: bool) -> int:
        """Return the steps of an output's array: those that its arrays would have, or, of a ``carried`` state, those that came out."""
        read = output.parts[0][0]
        if carried and read in self.model.counted:
            return int(count.max())
        rule = self.model.length_rules[read]
        return replace(batch, steps=steps).along(rule).steps

    def _gathered(
        self, output: GraphOutput, tensors: Mapping[str, Int16Array | Int32Array], lead: tuple[int, ...], kind: str
    ) -> FloatArray:
        """Return an output put together from its parts, [*lead, F]; it is zero past the steps that they have."""
        value = np.zeros((*lead, output.features), kind)
        for name, indices, positions in output.parts:
            part = self.engine.dequantize(tensors[name], self.model.tensors[name], kind)[..., indices]
            if output.has_time:
                part = part[:, : lead[1]]
                value[:, : part.shape[1], positions] = part
            else:
                value[:, positions] = part
        return value

    def check_state(self, state: State, size: int, on_device: bool = False) -> None:
        """Raise DataError unless ``state`` is of ``size`` streams of this model, with values that a run or an initial state may have.

        With ``on_device`` its arrays may lie on the device, where the backend checks their values.
        """
        self._states.check(state, size, on_device)

    def save_state(self, state: State) -> bytes:
        """Return a state as bytes, which `load_state` of a session of the same model takes, on any machine and backend.

        They hold the version of their layout, a digest of the model and a checksum. Raises DataError for a state that is not of this model.
        """
        return self._states.to_bytes(self._of_host(state))

    def load_state(self, content: bytes) -> State:
        """Return the state that `save_state` wrote; DataError for bytes of another model or layout, and for damaged ones."""
        return self._states.from_bytes(content)

    def _of_host(self, state: State) -> State:
        """Return ``state`` with arrays of the host, where the backend may have left it on the device."""
        if not self.engine.takes_device_arrays or not isinstance(state, State):
            return state
        layers = state.layers
        if not any(on_cuda_device(array) for arrays in layers.values() for array in arrays):
            return state
        return State({name: tuple(map(self.engine.to_host, arrays)) for name, arrays in layers.items()})


def output_lengths(model: QuantModel, lengths: Mapping[str, IndexArray]) -> dict[str, IndexArray]:
    """`RunResult.lengths`, from how many steps of each tensor came out."""
    found = {}
    for output in model.outputs:
        parts = [lengths[name] for name, _, _ in output.parts]
        found[output.name] = parts[0] if len(parts) == 1 else np.minimum.reduce(parts)
    return found
