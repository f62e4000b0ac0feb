"""Sessions: a quantized model on a backend, with explicit state. Floats exist only outside the engine.

The state of a stream is a value that ``run`` and ``step`` take and return; a session keeps none, so many threads may share one, and
a sequence run in any chunks equals the whole run bit for bit. The state of a layer without memory is what each of its steps begins with:
a run gives it back as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends import DEFAULT_BACKEND, create_engine
from qrnn.backends.base import LayerState, Trace
from qrnn.errors import DataError
from qrnn.model.batch import (
    Batch,
    as_array,
    check_fits,
    check_mapping,
    make_batch,
    on_cuda_device,
    real_values,
    shortest,
    with_time_axis,
    without_time_axis,
)
from qrnn.model.boundary import to_integers
from qrnn.model.float_model import GraphOutput
from qrnn.model.kinds.recurrent import QuantRecurrent
from qrnn.model.parts import CELL_MAX, STATE_MAX, FloatArray, IndexArray, Int16Array, Int32Array, QuantInitialState
from qrnn.model.quant_model import QuantModel
from qrnn.running.state import RunResult, State
from qrnn.running.streaming import DeviceStream, SequenceIO, Stream, StreamIO, StreamPool, check_streamable, one_step

IDLE_SHAPES = 8
"""Shapes, of steps and of runs, whose buffers are kept."""

PROGRESS_PIECES = 40
"""Pieces of a batch whose progress is watched."""


_STATE_TYPES: tuple[type[np.generic], ...] = (np.int16, np.int32)
"""The types of h and c."""


class Session:
    """A model ready to run.

    ``backend`` is one of `qrnn.backends.backend_names`; every backend gives the same bits. ``threads`` limits the cores used. ``isa`` forces
    an instruction set of the cpu backend (`qrnn.backends.cpu.isa.available_isas`), as does the environment's ``QRNN_CPU_ISA``; the best is
    taken without it. ``cache`` names the folder of its compiled code in the place of the user's own or of ``QRNN_CACHE_DIR``: that which
    ``qrnn compile`` made, for example. ``tuning`` sets thresholds of a backend that has a class of them (cuda:
    `qrnn.backends.cuda.tuning.Tuning`).
    """

    def __init__(
        self,
        model: QuantModel,
        backend: str = DEFAULT_BACKEND,
        threads: int | None = None,
        isa: str | None = None,
        cache: str | PathLike[str] | None = None,
        tuning: object | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise DataError(f"threads={threads}, expected at least 1")
        self.model = model
        folder = None if cache is None else Path(cache).absolute()
        self.engine = create_engine(backend, model, threads, isa, tuning, folder)
        self._begins = {
            (layer.name, number): any(v is not None and (v.source or v.value.any()) for v in (d.h_0, d.c_0))
            for layer in model.recurrent_layers
            for number, d in enumerate(layer.directions)
        }
        self._forgetful = frozenset(layer.name for layer in model.recurrent_layers if not layer.memory)
        self._state_shapes = [_state_shapes(layer) for layer in model.recurrent_layers]
        self._widest = max(fmt.features for fmt in model.tensors.values())
        self._starts = [i.name for i in model.inputs if i.kind in ("state", "lengths")]
        self._timed_input = next((i.name for i in model.inputs if i.has_time and i.kind in ("features", "tokens")), "")
        self._idle: dict[tuple[Any, ...], list[Any]] = {}
        self._last_shape: tuple[Any, ...] = ()
        self._whole = {o.name: model.whole_tensor(o) for o in model.outputs}

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
            self._run_zeros(batch or 1, steps or 1)
            return
        if batch is not None and steps is not None:
            for kind in ("f", "d"):
                shape = (batch, steps, kind)
                if not self._idle.get(shape):
                    self._idle.setdefault(shape, []).append(self._sequences(*shape))

    def _run_zeros(self, batch: int, steps: int) -> None:
        """A run, for a backend that compiles when it runs."""
        inputs: dict[str, Any] = {}
        for i in self.model.inputs:
            lead = (batch, steps) if i.has_time else (batch,)
            if i.kind == "lengths":
                inputs[i.name] = np.full(batch, steps, np.int64)
            else:
                inputs[i.name] = np.zeros((*lead, *i.shape), np.int64 if i.kind == "tokens" else np.float64)
        self.run(inputs)

    def initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """The state before the first step of ``size`` sequences; ``states`` gives graph state inputs by name, [N, F] or [N, *shape] each.

        Raises DataError for a state input that the model lacks, or one whose shape, type or values do not fit.
        """
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise DataError(f"size={size!r}, expected a whole number of at least 1")
        if states is not None:
            states = self._checked_states(size, states)
        return self._initial_state(size, states)

    def _checked_states(self, size: int, states: Mapping[str, Any]) -> dict[str, FloatArray]:
        """Graph state inputs of a user, [size, F] float64 each."""
        check_mapping(states)
        known = {i.name: i for i in self.model.inputs if i.kind == "state"}
        checked: dict[str, FloatArray] = {}
        for name, value in states.items():
            if name not in known:
                raise DataError(f"state {name!r} is not a state input of the model; expected some of {sorted(known)}")
            where = f"input {name!r}"
            array = as_array(where, value)
            (count,) = check_fits(known[name], array, np.floating)
            if count != size:
                raise DataError(f"{where} has {count} sequences, expected {size}")
            checked[name] = real_values(where, array).reshape(size, known[name].features)
        return checked

    def _initial_state(self, size: int, states: Mapping[str, FloatArray] | None = None) -> State:
        """`initial_state` of checked states."""
        layers: dict[str, LayerState] = {}
        for layer in self.model.recurrent_layers:
            _, D, P, H = _state_shapes(layer)
            h, c = np.zeros((size, D, P), np.int16), np.zeros((size, D, H), np.int32)
            for number, d in enumerate(layer.directions):
                if not self._begins[layer.name, number]:
                    continue
                h[:, number] = _initial(d.h_0, states, layer.h_frac, STATE_MAX)
                if d.c_0 is not None:
                    c[:, number] = _initial(d.c_0, states, layer.c_frac, CELL_MAX)
            layers[layer.name] = (h, c)
        return State(layers)

    def run(
        self,
        inputs: Mapping[str, Any],
        lengths: Any = None,
        state: State | None = None,
        progress: Callable[[int, int], Any] | None = None,
    ) -> RunResult:
        """Run whole sequences.

        ``inputs`` maps graph input names to arrays, batch first ([N, T, …]; rows [N, …] or [N, 1, …] of a model without memory, whose
        outputs then have as many axes); ``lengths`` [N] masks padding exactly; ``state`` carries
        on from an earlier call (graph state inputs in ``inputs`` start from values instead). ``progress`` is told (done, all) sequences;
        the batch is then run in more pieces. Raises DataError for what does not fit.

        With backend cuda, arrays that lie on the device (PyTorch's, CuPy's: the CUDA array interface or DLPack) are read where they are,
        and the result's outputs and state lie there too (docs/cuda.md).
        """
        if type(inputs) is not dict:
            check_mapping(inputs)
        if self.engine.takes_device_arrays and any(map(on_cuda_device, inputs.values())):
            return self._run_on_device(inputs, lengths, state, one_step=False)
        if self.model.rows:
            inputs, without = with_time_axis(self.model.inputs, inputs)
            result = self._run(inputs, lengths, state, progress)
            outputs = without_time_axis(self.model.outputs, result.outputs) if without else result.outputs
            return RunResult(outputs, result.state)
        return self._run(inputs, lengths, state, progress)

    def _run(
        self,
        inputs: Mapping[str, Any],
        lengths: Any,
        state: State | None,
        progress: Callable[[int, int], Any] | None,
    ) -> RunResult:
        """`run` of arrays of the host with all of their axes."""
        if state is not None:
            state = self._of_host(state)
        if lengths is None and progress is None and (found := self._run_whole(inputs, state)) is not None:
            return found
        batch = make_batch(self.model.inputs, inputs, lengths, keep_float32=True)
        if state is not None:
            self._check_one_state(batch.states)
            self.check_state(state, batch.size)
        rows = max(1, self.engine.chunk_elements // (4 * self._widest * batch.steps))
        if progress is not None:
            rows = min(rows, -(-batch.size // PROGRESS_PIECES))
        pieces = []
        for start, stop, piece in batch.chunks(rows):
            part = None if state is None else _rows(state, start, stop)
            pieces.append(self.run_batch(piece, part, steps=batch.steps)[0])
            if progress is not None:
                progress(stop, batch.size)
        if len(pieces) == 1:
            return pieces[0]
        outputs = {name: np.concatenate([p.outputs[name] for p in pieces]) for name in pieces[0].outputs}
        final = {
            name: (
                np.concatenate([p.state.layers[name][0] for p in pieces]),
                np.concatenate([p.state.layers[name][1] for p in pieces]),
            )
            for name in pieces[0].state.layers
        }
        return RunResult(outputs, State(final))

    def _run_on_device(self, inputs: Mapping[str, Any], lengths: Any, state: State | None, one_step: bool) -> RunResult:
        """As `run` and `step`, in one piece, for arrays on the backend's device."""

        def begin(size: int, given: Mapping[str, FloatArray]) -> Mapping[str, LayerState]:
            if state is None:
                return self._initial_state(size, given).layers
            self._check_one_state(given)
            self.check_state(state, size, on_device=True)
            return state.layers

        outputs, layers = self.engine.run_on_device(inputs, lengths, begin, one_step)
        return RunResult(outputs, State(layers))

    def _check_one_state(self, given: Mapping[str, FloatArray]) -> None:
        """DataError where states are given beside ``state=``."""
        if given:
            raise DataError(f"both state= and the graph state input {next(iter(given))!r} are given; give one")

    def _run_whole(self, inputs: Mapping[str, Any], state: State | None) -> RunResult | None:
        """Sequences of one length by the backend's own way to run them; None where it has none, or an array is not as it wants it."""
        x = inputs.get(self._timed_input)
        if type(x) is not np.ndarray or x.ndim < 2 or x.size == 0:
            return None
        size, steps = x.shape[:2]
        if state is not None:
            self.check_state(state, size)
        shape = (size, steps, "f" if x.dtype.char == "f" else "d")
        io = self._take(shape) or self._make(shape, lambda: self._sequences(*shape))
        if io is None:
            return None
        found = io.run(inputs, state)
        self._idle.setdefault(shape, []).append(io)
        if found is None:
            return None
        kept = {name: (h.copy(), c.copy()) for name, (h, c) in io.begin(state).items() if name in self._forgetful}
        return RunResult(found[0], State(found[1] | kept))

    def _sequences(self, size: int, steps: int, kind: str) -> SequenceIO | None:
        if self._forgetful and steps > 1:
            return None  # these carry every state on
        rows = self.engine.sequences(size, steps, np.dtype(kind))
        return None if rows is None else SequenceIO(self, rows)

    def _take(self, shape: tuple[Any, ...]) -> Any:
        """The buffers of a shape, which many threads may ask for at once; None where none are idle."""
        try:
            return self._idle[shape].pop()
        except (KeyError, IndexError):
            return None

    def _make(self, shape: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Further buffers; None for a shape that neither has any nor is asked for twice in a row, unless it is the first of all.

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

    def step(self, inputs: Mapping[str, Any], state: State | None = None) -> RunResult:
        """One time step of N streams: arrays [N, …] without a time axis in and out; ``state`` from the step before, None at the start.

        Of a model without memory, N rows, as `run`.
        """
        check_streamable(self.model)
        check_mapping(inputs)
        if self.model.rows:
            return self.run(inputs, state=state)
        if self.engine.takes_device_arrays and any(map(on_cuda_device, inputs.values())):
            return self._run_on_device(inputs, None, state, one_step=True)
        if state is not None:
            state = self._of_host(state)
        first = next(iter(inputs.values()), None)
        size = len(first) if isinstance(first, np.ndarray) and first.ndim else 0
        if not size or any(name in inputs for name in self._starts):
            return self._step_as_run(inputs, state)
        io = self._take((size,)) or self._make((size,), lambda: StreamIO(self, size))
        if io is None:
            return self._step_as_run(inputs, state)
        if state is None:
            state = self._initial_state(size)
        else:
            self.check_state(state, size)
        rows = slice(None)
        io.set_state(rows, state)
        outputs = io.step(inputs, size)
        result = RunResult(outputs, io.state(rows))
        self._idle.setdefault((size,), []).append(io)
        return result

    def _step_as_run(self, inputs: Mapping[str, Any], state: State | None) -> RunResult:
        result = self.run(one_step(self.model, inputs), state=state)
        over_time = {o.name for o in self.model.outputs if o.has_time}
        outputs = {name: value[:, 0] if name in over_time else value for name, value in result.outputs.items()}
        return RunResult(outputs, result.state)

    def stream(self, size: int = 1, state: State | None = None) -> Stream:
        """``size`` streams that keep their state; the least cost a step."""
        return Stream(self, size, state)

    def device_stream(
        self, size: int = 1, state: State | None = None, steps: int | None = None, real: str = "float32"
    ) -> DeviceStream:
        """``size`` streams whose inputs, outputs and state stay on the CUDA device; a call is one launch of a captured CUDA graph.

        Only with backend cuda (docs/cuda.md). Each call takes one time step, or so many ``steps``, and then arrays have an axis of time.
        ``real`` is the type of the real inputs, float32 or float64. DataError for what does not fit, BackendError with another backend.
        """
        return DeviceStream(self, size, state, steps, real)

    def pool(self, capacity: int = 64) -> StreamPool:
        """Streams that open, close and step independently of each other."""
        return StreamPool(self, capacity)

    def run_batch(
        self, batch: Batch, state: State | None = None, trace: Trace | None = None, steps: int | None = None
    ) -> tuple[RunResult, Mapping[str, Int16Array | Int32Array]]:
        """A checked batch: the result, outputs padded to ``steps``, and every integer tensor of the model."""
        model = self.model
        inputs: dict[str, Int16Array | IndexArray] = dict(batch.tokens)
        for name, value in batch.features.items():
            inputs[name] = self.engine.quantize(value, model.tensors[name])
        state = state if state is not None else self._initial_state(batch.size, batch.states)
        tensors, final = self.engine.run(inputs, state.layers, batch.lengths, trace)
        outputs: dict[str, FloatArray] = {}
        padded = shortest(batch.lengths) < batch.steps
        for output in model.outputs:
            lead = (batch.size, steps or batch.steps) if output.has_time else (batch.size,)
            whole = self._whole.get(output.name)
            if whole is not None and lead[-1] == (batch.steps if output.has_time else batch.size):
                value = self.engine.dequantize(tensors[whole], model.tensors[whole])
            else:
                value = self._gathered(output, tensors, lead, batch.steps)
            if output.has_time and padded:
                value[:, : batch.steps][~batch.mask] = 0.0
            outputs[output.name] = value.reshape(*lead, *output.shape)
        return RunResult(outputs, State(final)), tensors

    def _gathered(
        self, output: GraphOutput, tensors: Mapping[str, Int16Array | Int32Array], lead: tuple[int, ...], steps: int
    ) -> FloatArray:
        """An output put together from its parts, [*lead, F]; zero past ``steps``."""
        value = np.zeros((*lead, output.features))
        for name, indices, positions in output.parts:
            part = self.engine.dequantize(tensors[name], self.model.tensors[name])[..., indices]
            if output.has_time:
                value[:, :steps, positions] = part
            else:
                value[:, positions] = part
        return value

    def check_state(self, state: State, size: int, on_device: bool = False) -> None:
        """DataError unless ``state`` is of ``size`` streams of this model, with values that a run or an initial state may have.

        ``on_device``: its arrays may lie on the device, where the backend checks their values.
        """
        if not isinstance(state, State) or not isinstance(state.layers, Mapping):
            raise DataError(
                f"state: {type(state).__name__}, expected a State from this model's own run, step, initial_state or stream"
            )
        if len(state.layers) > len(self.model.recurrent_layers):
            known = [layer.name for layer in self.model.recurrent_layers]
            extra = next(name for name in state.layers if name not in known)
            raise DataError(f"state of layer {extra!r}: no recurrent layer of the model; expected {known}")
        for name, directions, fed_back, cells in self._state_shapes:
            shapes = (size, directions, fed_back), (size, directions, cells)
            pair = state.layers.get(name, ())
            if not isinstance(pair, tuple) or len(pair) != 2:
                length = f" of {len(pair)}" if isinstance(pair, Sized) else ""
                found = f"{type(pair).__name__}{length}" if name in state.layers else "missing"
                raise DataError(f"state of layer {name!r} is {found}, expected the two arrays h and c")
            for letter, array, shape, dtype in zip("hc", pair, shapes, _STATE_TYPES, strict=True):
                _check_state_array(name, letter, array, shape, dtype, on_device)

    def _of_host(self, state: State) -> State:
        """``state`` with arrays of the host, where the backend may have left it on the device."""
        if not self.engine.takes_device_arrays or not isinstance(state, State):
            return state
        layers = state.layers
        if not any(on_cuda_device(array) for pair in layers.values() for array in pair):
            return state
        return State({n: (self.engine.to_host(h), self.engine.to_host(c)) for n, (h, c) in layers.items()})


def _state_shapes(layer: QuantRecurrent) -> tuple[str, int, int, int]:
    """A layer's name and the sizes D, P, H of its state; H is 0 for cells without c."""
    return layer.name, len(layer.directions), layer.output_size, layer.cell_size


def _check_state_array(
    layer: str, letter: str, array: Any, shape: tuple[int, ...], dtype: type[np.generic], on_device: bool
) -> None:
    """One array of a layer's state: its kind, type and shape, and that h is within ±32767. Every int32 is a value of c."""
    if type(array) is not np.ndarray:
        if on_device and on_cuda_device(array):
            found_shape, found_dtype = tuple(array.shape), getattr(array, "dtype", None)
            if found_shape != shape or found_dtype != dtype:
                _refuse_state(layer, letter, f"{found_dtype}{list(found_shape)}", dtype, shape)
            return
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            _refuse_state(layer, letter, type(array).__name__, dtype, shape)
    if array.shape != shape or array.dtype != dtype:
        _refuse_state(layer, letter, f"{array.dtype}{list(array.shape)}", dtype, shape)
    if letter == "h" and array.size and array.min() < -STATE_MAX:
        position = [int(i) for i in np.argwhere(array < -STATE_MAX)[0]]
        raise DataError(
            f"state of layer {layer!r}: h is {int(array[tuple(position)])} at {position}, expected -{STATE_MAX}…{STATE_MAX}; "
            "give a state from this model's own run, step, initial_state or stream"
        )


def _refuse_state(layer: str, letter: str, found: str, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    raise DataError(
        f"state of layer {layer!r}: {letter} is {found}, expected {np.dtype(dtype)}{list(shape)} from this model's own run, step, "
        "initial_state or stream"
    )


def _initial(
    state: QuantInitialState, given: Mapping[str, FloatArray] | None, frac: int, limit: int
) -> npt.NDArray[Any]:
    if given is None or state.source not in given:
        return state.value
    assert state.source is not None
    assert state.indices is not None
    return to_integers(given[state.source][:, state.indices], 2.0**-frac, limit)


def _rows(state: State, start: int, stop: int) -> State:
    return State({name: (h[start:stop], c[start:stop]) for name, (h, c) in state.layers.items()})
