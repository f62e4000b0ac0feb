"""Give arrays of every kind to sessions: they must be refused with DataError, or give the reference's result for the same values, plain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from fuzzing import archives, array_edits, quant_corpus
from fuzzing.outcome import FaultError
from fuzzing.quant_corpus import Entry
from fuzzing.watch import Unwatched, Watch
from qrnn.errors import DataError
from qrnn.model.float_model import GraphInput
from qrnn.running.session import Session
from qrnn.running.state import State

ARCHIVES = 0.1
"""Share of cases that are .npz files for the command line's reader."""

WAYS = ("run", "run", "step", "stream", "pool")

CALLS = 3
"""Calls of a case on one session: the second and third of a shape may take other ways than the first."""


@dataclass
class Call:
    """What is given to one call, and what an equal plain call would be given; ``legal`` is true where it must be accepted."""

    inputs: Any
    lengths: Any = None
    state: Any = None
    keep_state: bool = False
    legal: bool = True


@dataclass
class Made:
    """A case: calls of one way to run one model with N streams or sequences."""

    entry: Entry
    backend: str
    way: str
    count: int
    calls: list[Call]


@cache
def reference(k: int) -> Session:
    """Return the reference's session of a model."""
    return Session(quant_corpus.entries()[k].model, "reference")


def valid(rng: Random, entry: Entry, lead: tuple[int, ...], stepwise: bool) -> dict[str, Any]:
    """Draw plain arrays for every input that the way to run reads."""
    draws = np.random.default_rng(rng.getrandbits(32))
    data: dict[str, Any] = {}
    for i in entry.model.inputs:
        own = lead if i.has_time and not stepwise else lead[:1]
        if i.kind == "tokens":
            data[i.name] = draws.integers(0, i.vocabulary, own)
        elif i.kind == "features" or (i.kind == "state" and not stepwise and rng.random() < 0.3):
            data[i.name] = draws.normal(size=(*own, *i.shape)) * rng.choice((1.0, 1.0, 30.0))
    return data


def edited(rng: Random, plain: dict[str, Any]) -> tuple[Any, bool]:
    """Return a mapping of edited arrays, and whether it still must be accepted."""
    given, legal = dict(plain), True
    for name in list(given):
        for _ in range(rng.choice((0, 1, 1, 2))):
            given[name] = rng.choice(array_edits.LAYOUTS)(rng, given[name])
    if rng.random() < 0.55:
        name = rng.choice(list(given))
        _, edit = rng.choices(array_edits.BREAKS, [w for w, _ in array_edits.BREAKS])[0]
        with np.errstate(all="ignore"):
            given[name] = edit(rng, given[name])
        legal = False
        if isinstance(given[name], np.ndarray) and given[name].size < 1000 and rng.random() < 0.3:
            given[name] = rng.choice(array_edits.LAYOUTS)(rng, given[name])
    if rng.random() < 0.12:
        return array_edits.mapping(rng, given), False
    return given, legal


def some_lengths(rng: Random, count: int, steps: int) -> tuple[Any, bool]:
    """Draw lengths of every type, and whether they must be accepted."""
    good = np.array([rng.randint(0, steps) for _ in range(count)])
    if rng.random() < 0.5:
        kind = rng.choice(("i4", "i8", "u1", "u8", ">i4", ">i8", "i2"))
        return good.astype(kind), True
    bad = [
        good.tolist(),
        tuple(good.tolist()),
        good.astype(float),
        good + steps,
        good - steps - 1,
        good[:-1],
        good[None],
        [None] * count,
        "ab",
        np.array(["1"] * count),
        good.astype("m8[s]"),
        good > 0,
        good.astype("O"),
        float("nan"),
        steps,
        np.full(count, 2**63, np.uint64),
        {},
    ]
    return rng.choice(bad), False


def some_state(rng: Random, entry: Entry, count: int) -> tuple[Any, bool]:
    """Draw a state of the model's own shape with values and types of every kind, and whether it must be accepted."""
    draws = np.random.default_rng(rng.getrandbits(32))
    layers: dict[Any, Any] = {}
    for layer in entry.model.recurrent_layers:
        h = draws.integers(-32767, 32768, (count, len(layer.directions), layer.output_size)).astype(np.int16)
        width = layer.hidden_size if layer.cell == "lstm" else 0
        c = draws.integers(-(2**31) + 1, 2**31, (count, len(layer.directions), width)).astype(np.int32)
        layers[layer.name] = (h, c)
    how = rng.randrange(14)
    name = rng.choice(list(layers))
    h, c = layers[name]
    if how <= 4:
        if how == 1:
            layers[name] = (np.asfortranarray(h), c[::-1].copy()[::-1])
        elif how == 2:
            layers["foo"] = layers[name]
            return State(layers), False
        return State(layers), True
    if how == 5:
        h[0, 0, 0] = -32768
    elif how == 6:
        c.reshape(-1)[:1] = -(2**31)
    elif how == 7:
        layers[name] = (h.astype(rng.choice((">i2", "i4", "f8", "u2"))), c)
    elif how == 8:
        layers[name] = (h[:-1], c) if rng.random() < 0.5 else (h, c.astype(rng.choice((">i4", "i8", "f4"))))
    elif how == 9:
        del layers[name]
    elif how == 10:
        layers[name] = rng.choice(((h.tolist(), c.tolist()), (h,), h, None, (h, c, c)))
    elif how == 11:
        return rng.choice(({}, layers, [], "state", 3, (h, c), h)), False
    elif how == 12:
        return State(rng.choice(({}, None, [], {0: (h, c)}))), False
    else:
        layers[name] = (h.view(array_edits.Sub), c)
    return State(layers), False


class ArraysFuzzer:
    """The fuzzer of arrays; see the module."""

    def prepare(self, folder: Path) -> None:
        archives.bomb()
        self._command = archives.CommandLine(folder)
        for dtype in ("f8", "f4", "i2"):
            self._command.judge(archives.valid(dtype), Unwatched(), [])
        for k, entry in enumerate(quant_corpus.entries()):
            rng = Random(entry.name)
            for way in dict.fromkeys(WAYS):
                if way == "run" or entry.streams:
                    plain = valid(rng, entry, (2, 2), way != "run")
                    judge_calls(Made(entry, "cpu", way, 2, [Call(plain)] * CALLS), [])
            reference(k)

    def make(self, seed: int, case: int) -> Any:
        rng = Random(f"arrays {seed} {case}")
        if rng.random() < ARCHIVES:
            return archives.make(rng)
        entry = rng.choice(quant_corpus.entries())
        way = rng.choice(WAYS) if entry.streams else "run"
        count, steps = rng.choice((1, 2, 2, 3, 5)), rng.choice((1, 2, 3))
        calls = []
        for _ in range(CALLS):
            plain = valid(rng, entry, (count, steps), way != "run")
            inputs, legal = edited(rng, plain)
            call = Call(inputs, legal=legal)
            if way == "run" and rng.random() < 0.25:
                call.lengths, taken = some_lengths(rng, count, steps)
                call.legal &= taken
            states = isinstance(inputs, Mapping) and any(
                i.kind == "state" and i.name in plain for i in entry.model.inputs
            )
            if rng.random() < 0.25:
                call.state, taken = some_state(rng, entry, count)
                call.legal &= taken and not states
            calls.append(call)
        return Made(entry, rng.choice(("cpu", "cpu", "cpu", "reference")), way, count, calls)

    def size(self, made: Any) -> int:
        return len(made) if isinstance(made, bytes) else 0

    def judge(self, made: Any, watch: Watch, facts: list[str]) -> str:
        if isinstance(made, bytes):
            return self._command.judge(made, watch, facts)
        with watch.running():
            return judge_calls(made, facts)

    def write(self, made: Any, stem: Path) -> list[Path]:
        path = stem.with_suffix(".npz" if isinstance(made, bytes) else ".txt")
        path.write_bytes(made if isinstance(made, bytes) else describe(made).encode())
        return [path]


FUZZER = ArraysFuzzer()


def describe(made: Made) -> str:
    """Return the calls of a case in words."""
    lines = [f"model {made.entry.name!r}, backend {made.backend}, {made.way}, {made.count} sequences or streams"]
    for number, call in enumerate(made.calls):
        lines.append(f"call {number}: must be taken: {call.legal}; lengths {call.lengths!r}; state {call.state!r}")
        items = call.inputs.items() if isinstance(call.inputs, Mapping) else [("(no mapping)", call.inputs)]
        for name, value in items:
            layout = f"{value.dtype} {value.shape} strides {value.strides} " if isinstance(value, np.ndarray) else ""
            shown = repr(value) if getattr(value, "size", 0) < 1000 else "…"
            lines.append(f"  {name!r}: {type(value).__name__} {layout}{shown}")
    return "\n".join(lines) + "\n"


def plain_array(value: Any, graph_input: GraphInput | None) -> Any:
    """Return the same values as C-contiguous native float64 or int64; None for an object without such numbers."""
    try:
        found = np.asarray(value)
    except Exception:  # noqa: BLE001  # not an array
        return None
    if graph_input is not None and graph_input.kind in ("tokens", "lengths"):
        if found.dtype.kind not in "iu" or (found.dtype == np.uint64 and found.size and found.max() >= 2**63):
            return None
        return np.array(found.tolist(), np.int64).reshape(found.shape)
    if found.dtype.kind not in "fiu" or found.size > 10_000:
        return None
    with np.errstate(all="ignore"):
        return np.array(found.astype(np.float64), np.float64, order="C")


def plain_inputs(made: Made, inputs: Any) -> dict[str, Any] | None:
    """Return the plain equivalent of a call's inputs; None where there is none."""
    if not isinstance(inputs, Mapping):
        return None
    known = {i.name: i for i in made.entry.model.inputs}
    timed = {i.name for i in made.entry.model.inputs if i.has_time}
    plain: dict[str, Any] = {}
    for name, value in inputs.items():
        if name in ("labels", "lengths") and name not in known:
            if name == "lengths":
                plain[name] = value
            continue
        if name not in known:
            return None
        found = plain_array(value, known[name])
        if found is None:
            return None
        plain[name] = found[:, None] if made.way != "run" and name in timed and found.ndim else found
    return plain


def plain_state(made: Made, state: Any) -> State | None:
    """Return the same state as C-contiguous native arrays; None for an object that is no state."""
    try:
        layers = {
            layer.name: (
                np.array(state.layers[layer.name][0], np.int16, order="C", subok=False),
                np.array(state.layers[layer.name][1], np.int32, order="C", subok=False),
            )
            for layer in made.entry.model.recurrent_layers
        }
    except Exception:  # noqa: BLE001  # no state
        return None
    return State(layers)


def judge_calls(made: Made, facts: list[str]) -> str:
    """Compare every call with its plain equivalent, and return the outcome of the last one as the kind of the case."""
    session, plain_session = (
        Session(made.entry.model, made.backend, 1),
        reference(quant_corpus.entries().index(made.entry)),
    )
    runner = Runner(session, made)
    refusal: DataError | None = None
    for number, call in enumerate(made.calls):
        refusal = None
        before = runner.state(call)
        try:
            outputs, after = runner.call(call)
        except DataError as error:
            if call.legal:
                raise FaultError(f"{made.way} refused valid arrays\ncall {number}: {error}") from error
            refusal = error
            facts.append("call refused")
            continue
        facts.append("call taken")
        plain = plain_inputs(made, call.inputs)
        state = None if before is None else plain_state(made, before)
        if plain is None or (before is not None and state is None):
            raise FaultError(f"{made.way} took what holds no numbers\ncall {number}")
        lengths = None if call.lengths is None else plain_array(call.lengths, None)
        try:
            want = plain_session.run(plain, None if lengths is None else lengths.astype(np.int64), state)
        except DataError as error:
            raise FaultError(f"{made.way} took what is refused plain\ncall {number}: {error}") from error
        _equal(made, number, want, outputs, after)
    if refusal is not None:
        raise refusal
    return made.way


def _equal(made: Made, number: int, want: Any, outputs: dict[str, Any], after: State) -> None:
    over_time = {o.name for o in made.entry.model.outputs if o.has_time}
    for name, value in want.outputs.items():
        expected = value[:, 0] if made.way != "run" and name in over_time else value
        got = outputs[name]
        if got.shape != expected.shape or not np.array_equal(got, expected):
            raise FaultError(f"{made.way}: another result than plain arrays give\ncall {number}, output {name}")
    for name, (h, c) in want.state.layers.items():
        if not (np.array_equal(h, after.layers[name][0]) and np.array_equal(c, after.layers[name][1])):
            raise FaultError(f"{made.way}: another state than plain arrays give\ncall {number}, layer {name}")


class Runner:
    """One way to run a session, call after call."""

    def __init__(self, session: Session, made: Made) -> None:
        self._session, self._way, self._count = session, made.way, made.count
        self._stream = session.stream(made.count) if made.way == "stream" else None
        self._pool = session.pool(2) if made.way == "pool" else None
        self._ids = [self._pool.open() for _ in range(made.count)] if self._pool is not None else []

    def state(self, call: Call) -> Any:
        """Return the state that the call starts from, where it is not the model's own."""
        if self._stream is not None:
            return call.state if call.state is not None else self._stream.state
        if self._pool is not None:
            return self._pooled()
        return call.state

    def _pooled(self) -> State:
        assert self._pool is not None
        every = [self._pool.state(k) for k in self._ids]
        names = every[0].layers
        return State({n: tuple(np.concatenate([s.layers[n][p] for s in every]) for p in (0, 1)) for n in names})  # type: ignore[misc]

    def call(self, call: Call) -> tuple[dict[str, Any], State]:
        """Return outputs and the state after a call."""
        if self._stream is not None:
            if call.state is not None:
                self._stream.reset(call.state)
            outputs = self._stream.step(call.inputs)
            return outputs, self._stream.state
        if self._pool is not None:
            outputs = self._pool.step(self._ids, call.inputs)
            return outputs, self._pooled()
        if self._way == "step":
            result = self._session.step(call.inputs, call.state)
        else:
            result = self._session.run(call.inputs, call.lengths, call.state)
        return result.outputs, result.state
