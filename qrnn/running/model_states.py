"""The states of a model's layers are made, checked and written as bytes here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sized
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.backends.base import Engine, LayerState
from qrnn.errors import DataError
from qrnn.model.batch import check_fits
from qrnn.model.boundary import to_integers
from qrnn.model.file import model_digest
from qrnn.model.layer_facts import StateArray
from qrnn.model.parts import FloatArray
from qrnn.model.quant_model import QuantModel
from qrnn.model.user_values import as_array, check_mapping, on_cuda_device, real_values
from qrnn.running.state import State

MAGIC = b"qrnn state 1\n"
"""The first bytes of a saved state; the number is the version of their layout."""

_DIGEST_BYTES = 32
_SIZE_BYTES = 8


class ModelStates:
    """The states of the layers of ``model``: what they begin with, checks of them, and their bytes."""

    def __init__(self, model: QuantModel) -> None:
        self.model = model
        self.arrays: dict[str, tuple[StateArray, ...]] = {
            layer.name: layer.states() for layer in model.layers_with_states
        }

    def initial(self, size: int, given: Mapping[str, FloatArray] | None = None) -> State:
        """Return the state before the first step of ``size`` sequences; ``given`` has checked values of graph state inputs, [size, F]."""
        return State({name: tuple(_initial(a, size, given or {}) for a in own) for name, own in self.arrays.items()})

    def checked_inputs(self, size: int, states: Mapping[str, Any]) -> dict[str, FloatArray]:
        """Return a user's graph state inputs, [size, F] float64 each; DataError for what does not fit."""
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

    def check(self, state: State, size: int, on_device: bool = False) -> None:
        """Raise DataError unless ``state`` is of ``size`` streams of this model, with values that a run or an initial state may have.

        With ``on_device`` its arrays may lie on the device, where the backend checks their values.
        """
        if not isinstance(state, State) or not isinstance(state.layers, Mapping):
            raise DataError(
                f"state: {type(state).__name__}, expected a State from this model's own run, step, initial_state or stream"
            )
        if len(state.layers) > len(self.arrays):
            known = list(self.arrays)
            extra = next(name for name in state.layers if name not in known)
            raise DataError(f"state of layer {extra!r}: no layer of the model with a state; expected {known}")
        for name, own in self.arrays.items():
            given = state.layers.get(name, ())
            if not isinstance(given, tuple) or len(given) != len(own):
                length = f" of {len(given)}" if isinstance(given, Sized) else ""
                found = f"{type(given).__name__}{length}" if name in state.layers else "missing"
                expected = " and ".join(a.name for a in own)
                arrays = "the array" if len(own) == 1 else f"the {'two' if len(own) == 2 else len(own)} arrays"
                raise DataError(f"state of layer {name!r} is {found}, expected {arrays} {expected}")
            for declared, array in zip(own, given, strict=True):
                _check_array(name, declared, array, (size, *declared.shape), on_device)

    @cached_property
    def _digest(self) -> bytes:
        return bytes.fromhex(model_digest(self.model))

    def to_bytes(self, state: State) -> bytes:
        """Return a state on the host as bytes; see `Session.save_state`."""
        self.check(state, size := streams_of(state))
        parts = [MAGIC, self._digest, size.to_bytes(_SIZE_BYTES, "little")]
        for name, own in self.arrays.items():
            for declared, array in zip(own, state.layers[name], strict=True):
                parts.append(np.ascontiguousarray(array, _stored_type(declared)).tobytes())
        content = b"".join(parts)
        return content + hashlib.sha256(content).digest()

    def from_bytes(self, content: bytes) -> State:
        """Return the state that `to_bytes` wrote; see `Session.load_state`."""
        if not isinstance(content, (bytes, bytearray, memoryview)):
            raise DataError(f"a saved state: {type(content).__name__}, expected the bytes that save_state gave")
        content = bytes(content)
        if not content.startswith(MAGIC):
            raise DataError(
                f"a saved state begins with {content[: len(MAGIC)]!r}, expected {MAGIC!r}; give the bytes that save_state gave"
            )
        at = len(MAGIC)
        if len(content) < at + 2 * _DIGEST_BYTES + _SIZE_BYTES or (
            hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]
        ):
            raise DataError(f"a saved state of {len(content)} bytes is damaged or cut off; save it again")
        digest = content[at : at + _DIGEST_BYTES]
        if digest != self._digest:
            raise DataError(
                f"a saved state of another model ({digest.hex()[:12]}…, this one is {self._digest.hex()[:12]}…); load it with the model "
                "that it was saved from"
            )
        at += _DIGEST_BYTES
        size = int.from_bytes(content[at : at + _SIZE_BYTES], "little")
        each = sum(_bytes_of(a) for own in self.arrays.values() for a in own)
        at += _SIZE_BYTES
        if size < 1 or len(content) != at + size * each + _DIGEST_BYTES:
            raise DataError(
                f"a saved state of {size} streams has {len(content)} bytes, expected {at + size * each + _DIGEST_BYTES}"
            )
        layers: dict[str, LayerState] = {}
        for name, own in self.arrays.items():
            arrays = []
            for declared in own:
                count = size * _bytes_of(declared)
                values = np.frombuffer(content[at : at + count], _stored_type(declared))
                arrays.append(values.astype(declared.dtype).reshape(size, *declared.shape))
                at += count
            layers[name] = tuple(arrays)
        state = State(layers)
        self.check(state, size)
        return state


def streams_of(state: Any) -> int:
    """Return the number of streams of what should be a state; 1 where it is none, so that `ModelStates.check` can say why."""
    try:
        return int(state.size)
    except (AttributeError, StopIteration, TypeError, IndexError):
        return 1


def on_host(engine: Engine, state: State) -> State:
    """Return ``state`` with arrays of the host, where the engine may have left it on its device."""
    if not engine.takes_device_arrays or not isinstance(state, State):
        return state
    layers = state.layers
    if not any(on_cuda_device(array) for arrays in layers.values() for array in arrays):
        return state
    return State({name: tuple(map(engine.to_host, arrays)) for name, arrays in layers.items()})


def check_one_state(given: Mapping[str, Any]) -> None:
    """Raise DataError where graph state inputs, by name, are given beside ``state=``."""
    if given:
        raise DataError(f"both state= and the graph state input {next(iter(given))!r} are given; give one")


def _stored_type(declared: StateArray) -> np.dtype[Any]:
    """Return the type of an array among saved bytes, whose lowest byte comes first."""
    return np.dtype(declared.dtype).newbyteorder("<")


def _bytes_of(declared: StateArray) -> int:
    return int(np.prod(declared.shape, dtype=np.int64)) * np.dtype(declared.dtype).itemsize


def _initial(declared: StateArray, size: int, given: Mapping[str, FloatArray]) -> npt.NDArray[Any]:
    """Return one state array before the first step."""
    values = np.zeros((size, *declared.shape), declared.dtype)
    for index, start in enumerate(declared.starts):
        if start.source is not None and start.source in given:
            assert start.indices is not None
            real = given[start.source][:, start.indices]
            values[:, index] = to_integers(real, 2.0**-declared.frac, declared.limit)
        elif start.value.any():
            values[:, index] = start.value
    return values


def _check_array(layer: str, declared: StateArray, array: Any, shape: tuple[int, ...], on_device: bool) -> None:
    """Check one array of a layer's state: its kind, type and shape, and that its values are such that a step could have ended with."""
    if type(array) is not np.ndarray:
        if on_device and on_cuda_device(array):
            found_shape, found_dtype = tuple(array.shape), getattr(array, "dtype", None)
            if found_shape != shape or found_dtype != declared.dtype:
                _refuse(layer, declared, f"{found_dtype}{list(found_shape)}", shape)
            return
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            _refuse(layer, declared, type(array).__name__, shape)
    if array.shape != shape or array.dtype != declared.dtype:
        _refuse(layer, declared, f"{array.dtype}{list(array.shape)}", shape)
    least, most = declared.range
    holds = np.iinfo(declared.dtype)
    below = array.size and holds.min < least and array.min() < least
    if below or (array.size and holds.max > most and array.max() > most):
        position = [int(i) for i in np.argwhere((array < least) | (array > most))[0]]
        raise DataError(
            f"state of layer {layer!r}: {declared.name} is {int(array[tuple(position)])} at {position}, expected {least}…{most}; "
            "give a state from this model's own run, step, initial_state or stream"
        )


def _refuse(layer: str, declared: StateArray, found: str, shape: tuple[int, ...]) -> None:
    raise DataError(
        f"state of layer {layer!r}: {declared.name} is {found}, expected {np.dtype(declared.dtype)}{list(shape)} from this model's own run, "
        "step, initial_state or stream"
    )
