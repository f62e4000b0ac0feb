"""Users' arrays of every type, byte order and layout, wherever arrays are taken: converted right, or refused, on every call of a shape.

The first, second and third call of a shape go different ways (checked in Python, through buffers that are made, through buffers that are kept),
so each case is called three times.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Shape, make_model

import qrnn.layers as ql
from qrnn import DataError, Session
from qrnn.accuracy.compare import compare
from qrnn.conversion import quantize
from qrnn.model.batch import make_batch
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.model.user_values import as_array
from qrnn.quantization.scheme import Scheme

N, T, F, VOCABULARY = 2, 3, 3, 7
REAL, WHOLE = "efdg", "bhilqnpBHILQNP"
OTHERS = [np.dtype(c) for c in "?FDGO"] + [np.dtype(c) for c in ("M8[s]", "m8[s]", "S4", "U4", "V4")]
OTHERS += [np.dtype([("a", "f8")]), np.dtype("m8"), np.dtype("M8"), np.dtype("S0"), np.dtypes.StringDType()]
VALUES = np.array([0, 1, 2, 5, 3, 1, 4, 0, 6, 2, 2, 1, 6, 5, 0, 3, 3, 4]).reshape(N, T, F)
"""Small whole numbers: every type of numbers has them, and they are tokens too."""


class Sub(np.ndarray):  # type: ignore[type-arg]
    """A subclass of NumPy's arrays."""


class Offers:
    """An object that is no array and gives one when asked."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._array


def unaligned(a: Any) -> Any:
    return np.frombuffer(b"\0" + a.tobytes(), a.dtype, offset=1).reshape(a.shape)


def read_only(a: Any) -> Any:
    copy = a.copy()
    copy.setflags(write=False)
    return copy


def spread(a: Any) -> Any:
    """Every second element of a larger array."""
    large = np.zeros((*a.shape[:-1], 2 * a.shape[-1]) if a.ndim else (), a.dtype)
    large[..., ::2] = a
    return large[..., ::2]


def mapped(a: Any) -> Any:
    """A memory map, which nothing writes to a disk."""
    import mmap

    size = max(a.nbytes, 1)
    buffer = mmap.mmap(-1, size)
    buffer[: a.nbytes] = a.tobytes()
    return np.frombuffer(buffer, a.dtype, a.size).reshape(a.shape)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "backwards": lambda a: a[::-1].copy()[::-1],
    "axes turned": lambda a: np.ascontiguousarray(a.T).T,
    "spread": spread,
    "read-only": read_only,
    "unaligned": unaligned,
    "memory map": mapped,
    "subclass": lambda a: a.view(Sub),
    "object with __array__": Offers,
    "list": lambda a: a.tolist(),
    "list of arrays": list,
}


@cache
def real_model() -> tuple[FloatModel, QuantModel]:
    model = make_model(Shape("gru", F, 4, states=True), np.random.default_rng(0))
    return model, quantize(model, {"x": VALUES.astype(float), "state": np.ones((N, 2, 1, 1, 4))}, Scheme(input="8"))


@cache
def token_model() -> tuple[FloatModel, QuantModel]:
    rng = np.random.default_rng(1)
    embedded = ql.embedding(ql.tokens("x", VOCABULARY), rng.normal(size=(VOCABULARY, 4)))
    y = ql.gru(embedded, rng.normal(size=(12, 4)), rng.normal(size=(12, 4)))
    model = ql.model("tokens", {"y": y.output})
    return model, quantize(model, {"x": VALUES[:, 0]}, Scheme(input="8"))


SESSIONS: dict[tuple[str, bool], Session] = {}


def session_of(backend: str, tokens: bool) -> Session:
    """One session for all cases, as a server has it: buffers of a shape outlive the case."""
    key = backend, tokens
    if key not in SESSIONS:
        SESSIONS[key] = Session((token_model() if tokens else real_model())[1], backend, 1)
    return SESSIONS[key]


# --- what takes arrays: each gives what comes out for a value, [N, T, F] for those with time, else [N, F] or [N] ------------------


def run(backend: str, value: Any) -> Any:
    return session_of(backend, False).run({"x": value}).outputs["y"]


def run_tokens(backend: str, value: Any) -> Any:
    return session_of(backend, True).run({"x": value}).outputs["y"]


def step(backend: str, value: Any) -> Any:
    return session_of(backend, False).step({"x": value}).outputs["y"]


def stream(backend: str, value: Any) -> Any:
    return session_of(backend, False).stream(N).step({"x": value})["y"]


def stream_tokens(backend: str, value: Any) -> Any:
    return session_of(backend, True).stream(N).step({"x": value})["y"]


def in_place(backend: str, value: Any) -> Any:
    own = session_of(backend, False).stream(N)
    own.inputs["x"][...] = value
    own.advance()
    return own.outputs["y"].copy()


def pool(backend: str, value: Any) -> Any:
    streams = session_of(backend, False).pool(N)
    return streams.step([streams.open() for _ in range(N)], {"x": value})["y"]


def pool_numbers(backend: str, value: Any) -> Any:
    """Streams by number: 0 and 1 … are the rows of streams that are not open, so these are opened first."""
    streams = session_of(backend, False).pool(N)
    opened = [streams.open() for _ in range(N)]
    real = as_array("numbers", value)
    good = real.dtype.kind in "iu" and real.dtype.itemsize == 8
    numbers = np.asarray(opened).astype(real.dtype) if good else value
    return streams.step(numbers, {"x": VALUES[:, 0]})["y"]


def state_input(backend: str, value: Any) -> Any:
    return session_of(backend, False).run({"x": VALUES, "state": value}).outputs["y"]


def initial_state(backend: str, value: Any) -> Any:
    session = session_of(backend, False)
    return session.run({"x": VALUES}, state=session.initial_state(N, {"state": value})).outputs["y"]


def lengths(backend: str, value: Any) -> Any:
    return session_of(backend, False).run({"x": VALUES}, value).outputs["y"]


def lengths_beside(backend: str, value: Any) -> Any:
    return session_of(backend, False).run({"x": VALUES, "lengths": value}).outputs["y"]


def calibration(backend: str, value: Any) -> Any:
    return np.array(quantize(real_model()[0], {"x": value}, Scheme(input="8")).tensors["x"].scale)


def compared(backend: str, value: Any) -> Any:
    return np.array(compare(*real_model(), {"x": value}, backend=backend).to_dict()["outputs"]["y"]["sqnr_db"])


STATE = (VALUES.reshape(-1)[: N * 8] / 8).reshape(N, 2, 1, 1, 4)
TAKES: dict[str, tuple[Callable[[str, Any], Any], Any, str]] = {
    "run": (run, VALUES, REAL + WHOLE),
    "step": (step, VALUES[:, 0], REAL + WHOLE),
    "stream": (stream, VALUES[:, 0], REAL + WHOLE),
    "pool": (pool, VALUES[:, 0], REAL + WHOLE),
    "state input": (state_input, np.ones((N, 2, 1, 1, 4)), REAL + WHOLE),
    "initial state": (initial_state, np.ones((N, 2, 1, 1, 4)), REAL + WHOLE),
    "tokens": (run_tokens, VALUES[:, 0], WHOLE),
    "stream of tokens": (stream_tokens, VALUES[:, 0, 0], WHOLE),
    "lengths": (lengths, np.array([3, 1]), WHOLE),
    "lengths beside": (lengths_beside, np.array([2, 0]), WHOLE),
}
SLOW: dict[str, tuple[Callable[[str, Any], Any], Any, str]] = {
    "calibration": (calibration, VALUES, REAL + WHOLE),
    "compare": (compared, VALUES, REAL + WHOLE),
}


@cache
def wanted(take: str) -> Any:
    """Return the reference's result for plain arrays of the machine's own widest types."""
    function, value, kinds = (TAKES | SLOW)[take]
    return function("reference", value.astype(np.float64 if "d" in kinds else np.int64))


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def other_values(value: Any, dtype: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return value.astype(dtype)
        except (TypeError, ValueError):
            return np.zeros(value.shape, dtype)


def layouts_for(a: Any) -> list[str]:
    return [name for name in LAYOUTS if a.dtype.kind != "T" or name not in ("unaligned", "memory map")]


@pytest.mark.shard_by("take")
@pytest.mark.wide
@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("char", REAL + WHOLE)
def test_types_of_numbers(take: str, char: str) -> None:
    """Every type runs in both byte orders and every layout, in three calls of the shape, on the compiled backend."""
    function, value, kinds = TAKES[take]
    for order in "<>":
        typed = value.astype(np.dtype(char).newbyteorder(order))
        for layout, place in LAYOUTS.items():
            if layout.startswith("list") and (char not in kinds or (char == "g")):
                continue  # a list has Python's own types; NumPy keeps long doubles as objects of its own
            given_value = place(typed)
            for _ in range(3):
                if char in kinds:
                    np.testing.assert_array_equal(
                        function("cpu", given_value), wanted(take), err_msg=f"{order}{layout}"
                    )
                else:
                    assert "expected integers" in refused(lambda v=given_value: function("cpu", v))


@pytest.mark.shard_by("take")
@pytest.mark.wide
@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("dtype", OTHERS, ids=str)
def test_types_that_are_no_numbers(take: str, dtype: Any) -> None:
    function, value, _ = TAKES[take]
    for order in "<>":
        kind = dtype.newbyteorder(order) if dtype.kind != "T" else dtype
        typed = other_values(value, kind)
        for layout in ("C", "Fortran", "backwards", "read-only", "subclass", "object with __array__"):
            for _ in range(3):
                given_value = LAYOUTS[layout](typed)
                said = refused(lambda v=given_value: function("cpu", v))
                assert "type" in said or "lengths" in said
    np.testing.assert_array_equal(function("cpu", value), wanted(take))  # what was refused left nothing behind


@pytest.mark.parametrize("take", SLOW)
def test_calibration_and_comparison(take: str) -> None:
    function, value, kinds = SLOW[take]
    for char in kinds:
        if char in "npNPlL":
            continue  # the same as q, Q
        typed = value.astype(np.dtype(char).newbyteorder(">"))
        np.testing.assert_array_equal(function("cpu", unaligned(typed)), wanted(take))
    for dtype in OTHERS:
        refused(lambda d=dtype: function("cpu", other_values(value, d)))
    refused(lambda: function("cpu", np.ma.masked_array(value)))


@pytest.mark.parametrize("take", TAKES)
def test_masks_are_never_dropped(take: str) -> None:
    function, value, kinds = TAKES[take]
    typed = value.astype(np.float64 if "d" in kinds else np.int64)
    masked = np.ma.masked_array(typed, np.arange(value.size).reshape(value.shape) % 2)
    for given_value in (masked, np.ma.masked_array(typed), Offers(masked), list(masked), [list(masked[:1]), masked[1]]):
        for _ in range(3):
            said = refused(lambda v=given_value: function("cpu", v))
            assert "mask" in said or "not an array" in said or "lengths" in said


@pytest.mark.parametrize("take", TAKES)
def test_zero_strides(take: str) -> None:
    function, value, kinds = TAKES[take]
    typed = value.astype(np.float64 if "d" in kinds else np.int64)
    for axes in range(1, value.ndim + 1):
        row = typed[(0,) * axes]
        want = function("reference", np.ascontiguousarray(np.broadcast_to(row, value.shape)))
        for char in ("d", "f", ">d") if "d" in kinds else ("q", ">i"):
            for _ in range(3):
                got = function("cpu", np.broadcast_to(row.astype(char), value.shape))
                np.testing.assert_array_equal(got, want)


REAL_TAKES = [name for name, (_, _, kinds) in TAKES.items() if "d" in kinds]


@settings(max_examples=200, deadline=None)
@given(
    take=st.sampled_from(REAL_TAKES),
    char=st.sampled_from(["e", "f", "d", "g", ">f", ">d", ">e", ">g"]),
    bad=st.sampled_from([np.nan, np.inf, -np.inf, 1e39, -1e39]),
    layout=st.sampled_from([name for name in LAYOUTS if name != "list of arrays"]),
    place=st.integers(0, 10**6),
    before=st.integers(0, 3),
)
def test_values_that_are_not_finite(take: str, char: str, bad: float, layout: str, place: int, before: int) -> None:
    """Refused on the first call of a shape and on every later one, and the next good call is as ever."""
    function, value, _ = TAKES[take]
    with np.errstate(over="ignore"):
        typed = value.astype(char)
        flat = typed.reshape(-1)
        flat[place % flat.size] = bad
    for _ in range(before):
        np.testing.assert_array_equal(function("cpu", LAYOUTS[layout](value.astype(char))), wanted(take))
    for _ in range(2):
        assert "expected a finite number" in refused(lambda: function("cpu", LAYOUTS[layout](typed)))
    np.testing.assert_array_equal(function("cpu", value), wanted(take))


@pytest.mark.parametrize("take", ["tokens", "stream of tokens"])
@pytest.mark.parametrize("bad", [-1, VOCABULARY, 2**63, 2**64 - 1, 2**63 - 1, -(2**63), 2**32, 255, -128])
def test_tokens_out_of_range(take: str, bad: int) -> None:
    function, value, _ = TAKES[take]
    for char in "bBhHiIqQ":
        limits = np.iinfo(char)
        if not limits.min <= bad <= limits.max:
            continue
        for order in "<>":
            typed = value.astype(np.dtype(char).newbyteorder(order))
            typed[(0,) * value.ndim] = bad
            for _ in range(3):
                assert f"value {bad} at" in refused(lambda v=typed: function("cpu", v))


@pytest.mark.parametrize("bad", [-1, T + 1, 2**64 - 1, 255, -128])
def test_lengths_out_of_range(bad: int) -> None:
    for char in "bBhHiIqQ":
        if np.iinfo(char).min <= bad <= np.iinfo(char).max:
            for order in "<>":
                value = np.array([1, bad], np.dtype(char).newbyteorder(order))
                assert f"value {bad} at [1]" in refused(lambda v=value: lengths("cpu", v))


def test_numbers_of_streams() -> None:
    want = pool("reference", VALUES[:, 0])
    for char in "qQlL":
        for order in "<>":
            typed = np.zeros(N, np.dtype(char).newbyteorder(order))
            np.testing.assert_array_equal(pool_numbers("cpu", typed), want)
    for dtype in OTHERS:
        refused(lambda d=dtype: pool_numbers("cpu", other_values(np.arange(N), d)))
    refused(lambda: pool_numbers("cpu", np.ma.masked_array([0, 1])))
    streams = session_of("cpu", False).pool(N)
    number = streams.open()
    for wrong in (number + 2**63, 2**64 - 1):
        with pytest.raises(DataError, match="is not open"):
            streams.step(np.array([wrong], np.uint64), {"x": VALUES[:1, 0]})


def test_streams_own_arrays() -> None:
    """NumPy converts what is written into a stream's arrays; another array cannot take their place unseen."""
    for char in ("f", ">f", "d", ">d", "i", ">q", "g"):
        np.testing.assert_array_equal(in_place("cpu", VALUES[:, 0].astype(char)), wanted("stream"))
    own = session_of("cpu", False).stream(N)
    with pytest.raises(TypeError, match="does not support item assignment"):
        own.inputs["x"] = VALUES[:, 0]  # type: ignore[index]
    for bad in (np.nan, np.inf, -np.inf, 1e39):
        own.inputs["x"][...] = 0.0
        own.inputs["x"][1, 2] = bad
        for _ in range(2):
            assert "expected a finite number" in refused(own.advance)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_keys_and_mappings(backend: str) -> None:
    session = session_of(backend, False)
    calls: dict[str, Callable[[Any], Any]] = {
        "run": session.run,
        "step": session.step,
        "stream": session.stream(N).step,
        "pool": lambda inputs: session.pool().step([], inputs) and make_batch(session.model.inputs, inputs),
        "states": lambda inputs: session.initial_state(N, inputs),
        "calibration": lambda inputs: quantize(real_model()[0], inputs, Scheme(input="8")),
    }
    for name, call in calls.items():
        for key in (0, None, b"x", ("x",), 1.5, np.int64(3)):
            for inputs in ({key: VALUES}, {"x": VALUES, key: VALUES}, {"a": VALUES, key: VALUES}):
                said = refused(lambda c=call, i=inputs: c(i))
                assert repr(key) in said, (name, said)
        for inputs in (VALUES, [VALUES], 3, None, "x", {"x"}):
            if (name == "calibration" and isinstance(inputs, str)) or (name == "states" and inputs is None):
                continue
            assert "expected a mapping" in refused(lambda c=call, i=inputs: c(i))


def test_objects_that_are_no_arrays() -> None:
    class Raises:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("no\nway")

    for value in (
        Raises(),
        [Raises()],
        object(),
        {},
        {1, 2},
        "text",
        b"text",
        [[1.0], [1.0, 2.0]],
        [[[]]],
        range(3),
        10**400,
    ):
        for take in TAKES:
            for _ in range(2):
                refused(lambda t=take, v=value: TAKES[t][0]("cpu", v))


def test_a_file_that_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", VALUES.astype(">f4"))
    for _ in range(3):
        np.testing.assert_array_equal(run("cpu", np.load(tmp_path / "x.npy", mmap_mode="r")), wanted("run"))


def test_matrices() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(VALUES[:, 0])
    for take in ("step", "stream", "pool"):
        np.testing.assert_array_equal(TAKES[take][0]("cpu", matrix), wanted(take))
    refused(lambda: run("cpu", matrix))
