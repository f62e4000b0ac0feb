"""Edit .qrnn files: each must be refused as a model file, or run without harm and with the same bits on every backend and as a stream."""

from __future__ import annotations

import contextlib
import copy
import json
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy
from model.qrnn_files import digest_of

from fuzzing import quant_corpus
from fuzzing.bytes_edits import edit_bytes
from fuzzing.outcome import FaultError
from fuzzing.quant_corpus import Entry
from fuzzing.watch import Watch
from qrnn.errors import DataError, ModelFileError, QrnnError
from qrnn.model.codec import decode
from qrnn.model.file import load
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session
from qrnn.running.streamable import check_streamable

N, T = 2, 3

BYTES, HEADER, FITTING_PROOF, FITTING_DIGEST = 0.08, 0.05, 0.9, 0.97
"""Shares of cases: bytes are edited; the header of the file is; the overflow proof is made right; the checksum is."""

INTS = (-2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 14, 15, 16, 17, 23, 24, 30, 31, 32, 126, 127, 128, 32767, 32768, 65535, 65536)
LARGE = (2**31 - 1, 2**31, -(2**31), 2**61, 2**62, -(2**61), 10**400)
REALS = (0.0, -1.0, 1e-320, 1e-60, 1e-30, 0.3, 3.0, 1e30, 1e60, 1e308, float("nan"), float("inf"))
DTYPES = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.float32, np.float64, np.bool_)
LARGEST = 1000
"""Features of an input that is still made."""

AMPLITUDES = (1.0, 1e-3, 1e3, 1e30)


class Parts:
    """A file taken apart: ``structure`` (the model's JSON), ``tensors`` and further ``metadata``."""

    def __init__(self, entry: Entry) -> None:
        self.structure = entry.structure
        self.tensors = dict(entry.tensors)
        self.metadata = dict(entry.metadata)

    def content(self, rng: Random) -> bytes:
        """Return the file, mostly with a proof and a checksum that fit."""
        if rng.random() < FITTING_PROOF:
            with contextlib.suppress(
                Exception
            ):  # what cannot be decoded is refused, or found at fault, when it is loaded
                made: QuantModel = decode(copy.deepcopy(self.structure), QuantModel, self.tensors, "model")
                self.metadata["proof"] = json.dumps(dict(made.proof))
        text = json.dumps(self.structure, sort_keys=rng.random() < 0.9)
        metadata = self.metadata | {"model": text}
        if rng.random() < FITTING_DIGEST:
            metadata["sha256"] = digest_of(text, self.tensors)
        return safetensors.numpy.save(self.tensors, metadata)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the path of every value in the structure."""
    found = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
    return found


def owner(structure: Any, path: tuple[Any, ...]) -> Any:
    """Return the container that holds the value at a path."""
    for key in path[:-1]:
        structure = structure[key]
    return structure


def at(structure: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at a path."""
    return owner(structure, path)[path[-1]]


def like(value: Any) -> Any:
    """Return what two values have in common that may stand in each other's place."""
    return value.get("type", "tensor" if "tensor" in value else "object") if isinstance(value, dict) else type(value)


def texts(value: Any) -> list[str]:
    """List every text in the structure, as names to confuse."""
    if isinstance(value, dict | list):
        return [t for item in (value.values() if isinstance(value, dict) else value) for t in texts(item)]
    return [value] if isinstance(value, str) else []


def edit_structure(rng: Random, parts: Parts) -> None:
    """Change one place of the model's JSON."""
    every = [p for p in places(parts.structure) if p[0] != "provenance" or rng.random() < 0.1]
    path = rng.choice(every)
    where, key = owner(parts.structure, path), path[-1]
    old = where[key]
    draw = rng.random()
    if draw < 0.1:
        where[key] = rng.choice((None, True, False, [], {}, "", 0, -1, 0.5, 10**400, [[]], "x" * 2000))
    elif draw < 0.25 and isinstance(old, dict | list):
        transplant(rng, parts, where, key, every)
    elif draw < 0.3 and isinstance(where, dict):
        if rng.random() < 0.6:
            del where[key]
        else:
            where[rng.choice(("foo", "type", "name", "limit"))] = old
    elif isinstance(old, bool):
        where[key] = not old
    elif isinstance(old, int):
        where[key] = rng.choice((*INTS, old - 1, old + 1, old * 2)) if rng.random() < 0.85 else rng.choice(LARGE)
    elif isinstance(old, float):
        where[key] = rng.choice((*REALS, old * 2, old / 2, -old))
    elif isinstance(old, str):
        where[key] = rng.choice(sorted(set(texts(parts.structure)))) if rng.random() < 0.9 else old + "é\n"
    elif isinstance(old, list):
        where[key] = edit_list(rng, old)
    elif isinstance(old, dict) and set(old) == {"tensor"}:
        where[key] = {"tensor": rng.choice(sorted(parts.tensors))}
    elif old is None:
        same = [at(parts.structure, p) for p in every if p[-1] == key]
        where[key] = copy.deepcopy(rng.choice(same or [0]))
    else:
        transplant(rng, parts, where, key, every)


def edit_list(rng: Random, old: list[Any]) -> list[Any]:
    """Lose, double, reverse or exchange entries."""
    if not old:
        return [rng.choice((0, None, "x", [], {}))]
    k, j = rng.randrange(len(old)), rng.randrange(len(old))
    swapped = list(old)
    swapped[k], swapped[j] = old[j], old[k]
    return rng.choice([old[:k] + old[k + 1 :], [*old, old[k]], old[::-1], swapped, [], old[:1] * 2, old[:1] * 3])


def transplant(rng: Random, parts: Parts, where: Any, key: Any, every: list[tuple[Any, ...]]) -> None:
    """Put in a part of the same kind from elsewhere in this model, or from another one with its tensors."""
    old = where[key]
    if rng.random() < 0.5:
        same = [p for p in every if like(at(parts.structure, p)) == like(old)]
        other = rng.choice(same)
        new = copy.deepcopy(at(parts.structure, other))
        if rng.random() < 0.3:  # exchange
            with contextlib.suppress(KeyError, IndexError, TypeError):
                owner(parts.structure, other)[other[-1]] = copy.deepcopy(old)
        where[key] = new
        return
    entry = rng.choice(quant_corpus.entries())
    structure = entry.structure
    same = [p for p in places(structure) if like(at(structure, p)) == like(old)]
    if not same:
        return
    new = at(structure, rng.choice(same))
    prefix = f"t{rng.getrandbits(20)}."
    for tensor in references(new):
        name = tensor["tensor"]
        parts.tensors[prefix + name] = entry.tensors[name]
        tensor["tensor"] = prefix + name
    where[key] = new


def references(value: Any) -> list[dict[str, Any]]:
    """List the places of a structure that name a tensor."""
    if isinstance(value, dict) and set(value) == {"tensor"}:
        return [value]
    if isinstance(value, dict | list):
        return [r for item in (value.values() if isinstance(value, dict) else value) for r in references(item)]
    return []


def rename(rng: Random, parts: Parts) -> None:
    """Change a name everywhere to another one of the model, or to a new one."""
    names = sorted({t for t in texts(parts.structure) if t})
    old, new = rng.choice(names), rng.choice((*names, "", "new", "é"))

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {(new if k == old else k): renamed(v) for k, v in value.items()}
        if isinstance(value, list):
            return [renamed(v) for v in value]
        return new if value == old else value

    if old not in parts.tensors:
        parts.structure = renamed(parts.structure)


def edit_tensor(rng: Random, parts: Parts) -> None:
    """Change values, shape or type of one tensor."""
    key = rng.choice(sorted(parts.tensors))
    array = parts.tensors[key].copy()
    draw = rng.random()
    limits = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
    if draw < 0.45 and array.size and limits is not None:
        ends = [int(limits.min), int(limits.min) + 1, int(limits.max), int(limits.max) - 1]
        values = [v for v in (*INTS, *LARGE) if limits.min <= v <= limits.max]
        for _ in range(rng.choice((1, 1, 2, 8))):
            array.reshape(-1)[rng.randrange(array.size)] = rng.choice(ends if rng.random() < 0.4 else values)
    elif draw < 0.55 and limits is not None:
        array[...] = rng.choice([int(limits.min), int(limits.max), 0, 1])
    elif draw < 0.65 and array.size:
        array = rng.choice([array[:-1], array[..., :-1], np.concatenate([array, array]), array[:1]])
    elif draw < 0.75:
        array = rng.choice(
            [array[None], array.reshape(-1), array.T, array[..., None], array.reshape(-1)[:1].reshape(())]
        )
    elif draw < 0.85:
        with np.errstate(all="ignore"):
            array = array.astype(rng.choice(DTYPES))
    elif draw < 0.95 and array.ndim:
        np.random.default_rng(rng.getrandbits(32)).shuffle(array)
    elif rng.random() < 0.5:
        del parts.tensors[key]
        return
    else:
        key = f"extra{rng.getrandbits(10)}"
    parts.tensors[key] = np.ascontiguousarray(array)


def within(name: str, rng: Random, array: Any) -> int:
    """Draw a value that the tensors of a name may hold."""
    match name.rsplit(".", 1)[-1]:
        case "weight" | "bias":
            most = 127 if array.dtype == np.int8 else 32767
            return rng.choice((-most, most, rng.randint(-most, most)))
        case "multiplier":
            return 2 * rng.choice((0, 1, (1 << 30) - 1, rng.randrange(1 << 30)))
        case "left_shift" | "pre_shift":
            return rng.randrange(8)
        case "scale":
            return rng.choice((-15, -1, 1, 15))
        case "shift":
            return rng.randint(0, 46)
        case "value":
            return rng.choice((-32767, 32767, rng.randint(-32767, 32767)))
    old = array.reshape(-1)[rng.randrange(array.size)]
    return int(old) + rng.choice((-1, 0, 1))


def edit_values(rng: Random, parts: Parts) -> None:
    """Replace some or all values of one tensor by others that it may hold, so that the file mostly loads."""
    key = rng.choice(sorted(parts.tensors))
    array = parts.tensors[key].copy()
    if not array.size or array.dtype.kind not in "iu":
        return
    limits = np.iinfo(array.dtype)
    for _ in range(rng.choice((1, 4, min(array.size, 200)))):
        new = within(key, rng, array)
        array.reshape(-1)[rng.randrange(array.size)] = min(max(new, int(limits.min)), int(limits.max))
    parts.tensors[key] = array


def edit_choice(rng: Random, parts: Parts) -> None:
    """Replace a small integer, a flag or a choice of the layers by a neighbour, so that the file often loads."""
    found = [
        p
        for p in places(parts.structure)
        if p[0] != "provenance" and isinstance(at(parts.structure, p), int | float | str)
    ]
    flags = [p for p in found if isinstance(at(parts.structure, p), bool) or p[-1] in ("cell", "forget", "kind")]
    path = rng.choice(flags if rng.random() < 0.5 else found)
    where, key = owner(parts.structure, path), path[-1]
    old = where[key]
    if isinstance(old, bool):
        where[key] = not old
    elif isinstance(old, int):
        where[key] = old + rng.choice((-2, -1, 1, 2))
    elif isinstance(old, float):
        where[key] = old * rng.choice((0.5, 2.0, 1.1, 1e6, 1e-6))
    else:
        words = {
            "cell": ("lstm", "gru", "rnn"),
            "forget": ("gate", "one", "coupled"),
            "kind": ("features", "tokens", "lengths", "state"),
        }
        where[key] = rng.choice(words.get(key, tuple(sorted(set(texts(parts.structure))))))


def edit_metadata(rng: Random, parts: Parts) -> None:
    """Change the entries beside the model."""
    key = rng.choice(("format", "schema", "contract", "proof", "foo"))
    if rng.random() < 0.4:
        parts.metadata.pop(key, None)
    else:
        parts.metadata[key] = rng.choice(("", "1", "2", "1.0", "qrnn", "{}", "[" * 5000, "null", "NaN", '{"a": 1e999}'))


def edit_header(rng: Random, content: bytes) -> bytes:
    """Change types, shapes and offsets in the safetensors header, or its size."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    name = rng.choice(sorted(k for k in header if k != "__metadata__"))
    entry = header[name]
    how = rng.randrange(7)
    big = rng.choice((0, 1, 1 << 20, 1 << 40, (1 << 63) - 1, (1 << 64) - 1))
    if how == 0:
        entry["dtype"] = rng.choice(("I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F8_E4M3", "BOOL", "X", "U64"))
    elif how == 1:
        entry["shape"] = rng.choice(([], [big], [big, big], [0], [1, *entry["shape"]], [-1]))
    elif how == 2:
        entry["data_offsets"] = rng.choice(([0, big], [big, big], [0, 0], entry["data_offsets"][::-1]))
    elif how == 3:
        header["__metadata__"] = rng.choice((None, {}, [], {"format": 1}, {"model": "{}"}))
    elif how == 4:
        del header[name]
    elif how == 5:
        header[rng.choice(("", "é", "model", name + "x"))] = entry
    text = json.dumps(header).encode()
    return struct.pack("<Q", big if how == 6 else len(text)) + text + content[8 + size :]


EDITS = ((7, edit_structure), (3, edit_tensor), (12, edit_values), (8, edit_choice), (2, rename), (1, edit_metadata))


def make_file(seed: int, case: int) -> bytes:
    """Return the file of a case."""
    rng = Random(f"qrnn {seed} {case}")
    entries = quant_corpus.entries()
    entry = rng.choice(entries)
    draw = rng.random()
    if draw < BYTES:
        return edit_bytes(rng, entry.content, rng.choice(entries).content)
    if draw < BYTES + HEADER:
        return edit_header(rng, entry.content)
    parts = Parts(entry)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        _, edit = rng.choices(EDITS, [weight for weight, _ in EDITS])[0]
        with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):  # what an earlier edit has spoilt
            edit(rng, parts)
    return parts.content(rng)


class QrnnFuzzer:
    """The fuzzer of .qrnn files; see the module."""

    def prepare(self, folder: Path) -> None:
        self._file = folder / "case.qrnn"
        for entry in quant_corpus.entries():
            run_alike(entry.model, Random(entry.name))

    def make(self, seed: int, case: int) -> bytes:
        return make_file(seed, case)

    def size(self, made: bytes) -> int:
        return len(made)

    def judge(self, made: bytes, watch: Watch, facts: list[str]) -> str:
        self._file.write_bytes(made)
        try:
            with watch.loading(self._file):
                model = load(self._file)
        except ModelFileError:
            raise
        except QrnnError as error:
            raise FaultError(f"refused as {type(error).__name__}, expected ModelFileError\n{error}") from error
        facts.append("loaded")
        with watch.running():
            facts.append(run_alike(model, Random(len(made))))
        return "loaded"

    def write(self, made: bytes, stem: Path) -> list[Path]:
        path = stem.with_suffix(".qrnn")
        path.write_bytes(made)
        return [path]


FUZZER = QrnnFuzzer()


def data_for(model: QuantModel, rng: Random, amplitude: float) -> dict[str, Any] | None:
    """Draw sequences with values of a size; None where the model asks for too much."""
    draws = np.random.default_rng(rng.getrandbits(32))
    data: dict[str, Any] = {}
    for i in model.inputs:
        if not 0 <= i.features <= LARGEST or len(i.shape) > 30:
            return None
        lead = (N, T) if i.has_time else (N,)
        if i.kind == "tokens":
            data[i.name] = draws.integers(0, max(1, min(i.vocabulary, 1 << 40)), lead)
        elif i.kind != "lengths":
            data[i.name] = (
                draws.normal(size=(*lead, i.features)) * amplitude * 10.0 ** draws.integers(-2, 3, (*lead, 1))
            )
    return data


def run_alike(model: QuantModel, rng: Random) -> str:
    """Run on both backends and as a stream, with lengths and without: all must give the same bits, or all refuse."""
    amplitude = rng.choice(AMPLITUDES)
    data = data_for(model, rng, amplitude)
    if data is None:
        return "too large to run"
    sessions = [_session(model, backend) for backend in ("reference", "cpu")]
    for lengths in ([T, rng.choice((0, 1, T))], None):
        results = [_run(session, data, lengths) for session in sessions]
        _same(*results, "backends differ")
    reference, cpu = sessions
    if isinstance(reference, str) or isinstance(cpu, str) or isinstance(results[0], str):
        return "refused when run"
    _same(results[0], _run(cpu, data, None), "a second run differs")
    try:
        check_streamable(model)
    except DataError:
        return "run"
    stream = cpu.stream(N, cpu.initial_state(N, _states(model, data)))
    timed = {i.name for i in model.inputs if i.has_time}
    given = {i.name: i for i in model.inputs if i.kind in ("features", "tokens")}
    over_time = {o.name for o in model.outputs if o.has_time}
    want = results[0].outputs
    for t in range(T):
        inputs = {name: _shaped(data[name][:, t] if name in timed else data[name], given[name]) for name in given}
        for name, value in stream.step(inputs).items():
            if name in over_time:
                if not np.array_equal(value, want[name][:, t]):
                    raise FaultError(f"a stream differs\noutput {name} at step {t}")
            elif t == T - 1 and not np.array_equal(value, want[name]):
                raise FaultError(f"a stream differs\noutput {name}")
    return "run and streamed"


def _states(model: QuantModel, data: dict[str, Any]) -> dict[str, Any]:
    return {i.name: data[i.name] for i in model.inputs if i.kind == "state"}


def _shaped(value: Any, graph_input: Any) -> Any:
    return value.reshape(N, *graph_input.shape)


def _session(model: QuantModel, backend: str) -> Session | str:
    try:
        return Session(model, backend, 1)
    except QrnnError as error:
        return type(error).__name__


def _run(session: Session | str, data: dict[str, Any], lengths: Any) -> Any:
    """Return the result of a run, or the type of its refusal."""
    if isinstance(session, str):
        return session
    try:
        return session.run(data, lengths)
    except QrnnError as error:
        return type(error).__name__


def _same(want: Any, got: Any, what: str) -> None:
    if isinstance(want, str) or isinstance(got, str):
        if isinstance(want, str) != isinstance(got, str):
            raise FaultError(f"{what}: one refuses\n{want} and {got}")
        return
    for name, value in want.outputs.items():
        if not np.array_equal(value, got.outputs[name]):
            raise FaultError(f"{what}\noutput {name}")
    for name, (h, c) in want.state.layers.items():
        if not (np.array_equal(h, got.state.layers[name][0]) and np.array_equal(c, got.state.layers[name][1])):
            raise FaultError(f"{what}: state\nlayer {name}")
