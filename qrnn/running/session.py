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

from qrnn.backends import DEFAULT_BACKEND, create_engine
from qrnn.backends.base import Trace
from qrnn.errors import DataError
from qrnn.model.batch import Batch, with_time_axis, without_time_axis
from qrnn.model.choosing import Sampling
from qrnn.model.in_words import port_lines
from qrnn.model.needed_steps import steps_for
from qrnn.model.pad_values import is_padded, require_lengths
from qrnn.model.parts import FloatArray, Int16Array, Int32Array
from qrnn.model.quant_model import QuantModel
from qrnn.model.real_types import FLOAT64, asked_type
from qrnn.model.user_values import check_count, check_mapping, on_cuda_device
from qrnn.running.batch_runs import BatchRuns, zero_inputs
from qrnn.running.decoder import decoder_stream
from qrnn.running.device_runs import DeviceRuns
from qrnn.running.device_stream import DeviceStream
from qrnn.running.generated import Generated
from qrnn.running.generating import MOST_SYMBOLS, Generator, Wanted
from qrnn.running.host_runs import HostRuns
from qrnn.running.in_pieces import HasArrays, PieceRuns, arrays_of
from qrnn.running.integers import Integers
from qrnn.running.kept_buffers import KeptBuffers
from qrnn.running.model_states import ModelStates, on_host, streams_of
from qrnn.running.one_step import no_steps, of_one_step, one_step
from qrnn.running.pool import StreamPool
from qrnn.running.single_steps import SingleSteps
from qrnn.running.state import RunResult, State, checked_steps
from qrnn.running.step_limits import StepLimits
from qrnn.running.streamable import check_streamable
from qrnn.running.streaming import Stream
from qrnn.system.brief import Described


class NamesItsSession(Protocol):
    """A model whose sessions are of a class of their own, such as one with float parts (`qrnn.hybrid`)."""

    session_class: ClassVar[str]
    """The module and the name of the class, with a colon between."""


class Session(Described):
    """A model ready to run.

    Parameters
    ----------
    model: what `qrnn.quantize` or `qrnn.load` gave.
    backend: one of `qrnn.backends.backend_names`; every backend gives the same bits.
    threads: the most cores that a call uses, at least 1; all of them where it is None.
    isa: the instruction set of the cpu backend (`qrnn.backends.cpu.isa.available_isas`), which the environment variable ``QRNN_CPU_ISA`` sets
        too; the best that the machine has where neither says one.
    cache: the folder of the cpu backend's compiled code, such as one that ``qrnn compile`` made; that of ``QRNN_CACHE_DIR`` or the user's own
        where it is None.
    tuning: thresholds of the backend (cpu: `qrnn.backends.cpu.tuning.Tuning`, cuda: `qrnn.backends.cuda.tuning.Tuning`).
    integers: whether inputs and outputs are the integers of their tensors, as exported C takes and gives them, in the place of real numbers;
        `run`, `step`, `stream` and `pool` can be told otherwise.

    Raises DataError for a number of threads and a model that are none, and BackendError for a backend that is unknown or cannot run here, or
    that does not take what it is given.
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
        if threads is not None:
            check_count("threads", threads)
        if not isinstance(model, QuantModel):
            raise DataError(f"model: {type(model).__name__}, expected one that qrnn.quantize or qrnn.load gave")
        self.model, self.backend = model, backend
        folder = None if cache is None else Path(cache).absolute()
        self._made_with = backend, threads, isa, cache, tuning
        self.engine = create_engine(backend, model, threads, isa, tuning, folder)
        self._states = ModelStates(model)
        limits, kept = StepLimits(model), KeptBuffers[Any]()
        self._batches = BatchRuns(self.engine, self._states, limits)
        self._on_device = DeviceRuns(self.engine, self._states, limits)
        self._host_runs, self._single_steps = HostRuns(model, kept), SingleSteps(model, kept)
        self._padded = is_padded(model.inputs)
        self.integers = integers
        self._formats: Integers | None = None

    def describe_lines(self) -> Iterator[str]:
        """Yield what runs where, and what it takes and gives."""
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
            if number is not None:
                check_count(name, number)
        if not self.engine.warm_up(batch, steps, streams):
            self.run(zero_inputs(self.model, batch or 1, steps or steps_for(self.model, 1)), integers=False)
            return
        if batch is not None and steps is not None:
            self._host_runs.prepare(self, batch, steps)

    def initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """Return the state before the first step of ``size`` sequences.

        ``states`` gives graph state inputs by name, [N, F] or [N, *shape] each. Raises DataError for a state input that the model lacks, or
        one whose shape, type or values do not fit.
        """
        check_count("size", size)
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

        Parameters
        ----------
        inputs: arrays by graph input name, batch first: [N, T, *shape], or [N, *shape] without time. A model without memory takes rows
            [N, …] or [N, 1, …], and its outputs have as many axes.
        lengths: [N], the steps of each sequence, 0 … T; those behind are padding, which changes nothing. Of a model with several time axes, a
            mapping from their names to such arrays. Without it every sequence has T steps, but for an input whose padding has a value of its
            own, as Keras's masks do: such steps at the end are padding then.
        state: the state with which an earlier call ended, in the place of the model's own. Graph state inputs among ``inputs`` say by real
            numbers with what the sequences begin.
        progress: called with (done, all) sequences; the batch is then run in more pieces.
        end: False where the sequences go on in a later call, so that a layer with a delay holds back what it cannot give yet.
        integers: whether inputs and outputs are integers; as the session's where it is None.
        steps: "all", or "last" for the last real step of each sequence alone of outputs over time, [N, *shape], zero for a sequence without
            steps. Large batches then never have an array of all steps.
        real: the type of outputs, "float32" or "float64"; without it float32 where all real inputs are float32 or float16, and else float64.
            A float32 is the float64 of the same output, rounded.

        With backend cuda, arrays that lie on the device (PyTorch's, CuPy's: the CUDA array interface or DLPack) are read where they are,
        and the result's outputs and state lie there too (docs/cuda.md). Raises DataError, which names the array, for what does not fit.
        """
        if (formats := self._formats_of(integers)) is not None:
            require_lengths(self.model.inputs, lengths, "integers do not tell it")
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
            require_lengths(self.model.inputs, lengths, "arrays on the device are not read for it")
            if last:
                raise DataError(
                    "steps='last' takes arrays of the host; take the last steps of the result on the device"
                )
            return self._on_device.run(inputs, lengths, state, one_step=False, end=end, kind=kind)
        if self.model.rows:
            inputs, without = with_time_axis(self.model.inputs, inputs)
            result = self._host_runs.run(self, inputs, lengths, state, progress, end, kind=kind)
            without_steps = without or last
            outputs = without_time_axis(self.model.outputs, result.outputs) if without_steps else result.outputs
            return replace(result, outputs=outputs)
        return self._host_runs.run(self, inputs, lengths, state, progress, end, last=last, kind=kind)

    def run_chunks(
        self, chunks: Iterable[Mapping[str, Any] | HasArrays], steps: str = "all", real: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Run sequences that come in chunks, and yield the outputs of each as it is done: memory does not grow with their number.

        Each chunk holds arrays as `run` takes them, of any number of sequences, with ``lengths`` (and ``labels``, which are not read) beside
        them where there are any. ``qrnn.open_data(path, model).chunks()`` gives the pieces of a file; these may be given as they are. The
        outputs are those of `run` of all sequences, cut at the same places; ``steps`` and ``real`` are as there. DataError as from `run`; its
        places count from the first sequence.
        """
        runs = PieceRuns(self, steps, real)
        for chunk in chunks:
            yield runs.outputs(arrays_of(chunk), runs.sequences)

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
            return self._on_device.run(inputs, None, state, one_step=True, end=False, kind=asked_type(real))
        if state is not None:
            state = on_host(self.engine, state)
        if (result := self._single_steps.step(self, inputs, state, real)) is not None:
            return result
        given = one_step(self.model, inputs)
        if self._padded:
            result = self._host_runs.run(self, given, None, state, None, end=False, as_step=True, kind=asked_type(real))
        else:
            result = self.run(given, state=state, end=False, integers=False, real=real)
        return replace(result, outputs=of_one_step(self.model, result))

    def finish(self, state: State, integers: bool | None = None, real: str | None = None) -> RunResult:
        """Return what the layers of streams that end in ``state`` still hold back: outputs over time are [N, steps, …].

        They are float64, as there are no inputs, unless ``real`` says otherwise; see `run`.

        Only a layer with a delay holds something back; for other models there are no steps. The state of the result is of no further use.
        """
        check_streamable(self.model)
        state = on_host(self.engine, state)
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

        Parameters
        ----------
        inputs: a prompt of at least one step for the input that is fed, [N, P, …], and every other input; those over time have a row for
            each step of the prompt and each further step but the last.
        lengths: [N], the steps of each prompt, where they differ.
        steps: the most tokens or values that follow, at least 1.
        sampling: how tokens are drawn; without it the largest score is chosen, of equal ones the first.
        seed: the draws of sequence n are those of the seed ``seed`` + n, or ``seed``[n], whatever the batch is; 0 … 2^64 - 1.
        stop: a token, or several, after which a sequence ends; the one that was chosen is its last.
        state: the state with which an earlier call ended, in the place of the model's own.
        feed: output by input, as in ``{"tokens": "logits"}``, where it is not the only pair that fits.
        one_hot: True where an input of features is fed 1 at the place of a token.
        blank: the blank token of a transducer. The model is then its prediction and joint network, and the other inputs over time are its
            frames, ``lengths`` of them: a token is chosen in the same frame again until it is the blank, at which the state stays what it
            was and the next frame follows.
        most_symbols: the most tokens of a transducer in one frame, at least 1.
        scores: whether log probabilities are returned too.
        drawn: how many draws of each sequence were taken before.
        integers: as in `run`.

        Raises DataError for what does not fit.
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
        return decoder_stream(self, self._alike, inputs, lengths, self._formats_of(integers), real)

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
        return self._batches.run(batch, state, trace, steps, end, kind)

    def check_state(self, state: State, size: int, on_device: bool = False) -> None:
        """Raise DataError unless ``state`` is of ``size`` streams of this model, with values that a run or an initial state may have.

        With ``on_device`` its arrays may lie on the device, where the backend checks their values.
        """
        self._states.check(state, size, on_device)

    def save_state(self, state: State) -> bytes:
        """Return a state as bytes, which `load_state` of a session of the same model takes, on any machine and backend.

        They hold the version of their layout, a digest of the model and a checksum. Raises DataError for a state that is not of this model.
        """
        return self._states.to_bytes(on_host(self.engine, state))

    def load_state(self, content: bytes) -> State:
        """Return the state that `save_state` wrote; DataError for bytes of another model or layout, and for damaged ones."""
        return self._states.from_bytes(content)
