"""Mutate ONNX files: each must be refused by name, or imported as ONNX Runtime computes it and run with the same bits by every backend."""

from __future__ import annotations

import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import checker

from fuzzing import onnx_corpus, onnx_insertions, onnx_oracle, onnx_traps
from fuzzing.bytes_edits import edit_bytes
from fuzzing.onnx_edits import EDITS
from fuzzing.outcome import FaultError
from fuzzing.watch import Unwatched, Watch
from qrnn.conversion import quantize, random_inputs
from qrnn.errors import QrnnError
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session

assert onnx_insertions, "imported for its edits"
assert onnx_traps, "imported for its edits"

WEIGHTS = [weight for weight, _ in EDITS]

SHARED_EVERY = 16
"""One case in so many starts from a given trained model, where there are any, so that the others are the same everywhere."""

BYTES, COMPARED, QUANTIZED = 0.15, 0.6, 0.25
"""Shares: of cases whose bytes are edited; of imported models compared with ONNX Runtime; of those quantized and run."""

LARGEST_RUN = 4096
"""Features of the widest tensor of a model that is still compared and run: the reference backend is slow."""

SCHEMES = (
    Scheme(input="8"),
    Scheme(input="8"),
    Scheme(activations=16),
    Scheme(input="16"),
    Scheme(input="8", weights=4),
)


class OnnxFuzzer:
    """The fuzzer of ONNX files; see the module."""

    def prepare(self, folder: Path) -> None:
        onnx_corpus.side_files(folder)
        self._file = folder / "models" / "case.onnx"
        onnx_corpus.shared_files()
        watch, graphs = Unwatched(), onnx_corpus.graph_count()
        for _, content in (*onnx_corpus.corpus()[:graphs:9], *onnx_corpus.corpus()[graphs::70]):
            try:
                self._use(content, 0, watch, [], 1.0)
            except (QrnnError, FaultError):
                continue

    def make(self, seed: int, case: int) -> bytes:
        return make_file(seed, case)[0]

    def size(self, made: bytes) -> int:
        return len(made)

    def judge(self, made: bytes, watch: Watch, facts: list[str]) -> str:
        if is_valid(made, watch, facts):
            facts.append("valid")
        return self._use(made, hash_of(made), watch, facts, QUANTIZED)

    def _use(self, content: bytes, draw: int, watch: Any, facts: list[str], share: float) -> str:
        self._file.write_bytes(content)
        with watch.loading(self._file.parent):
            model = load_onnx(self._file)
        facts.append("imported")
        rng = Random(draw)
        if model_size(model) <= LARGEST_RUN:
            if rng.random() < COMPARED or share == 1.0:
                facts.append(onnx_oracle.compare(model, content, draw, watch, self._file.parent))
            if rng.random() < share:
                facts.append(run_quantized(model, rng, watch))
        return "imported"

    def write(self, made: bytes, stem: Path) -> list[Path]:
        path = stem.with_suffix(".onnx")
        path.write_bytes(made)
        return [path]


FUZZER = OnnxFuzzer()


def hash_of(content: bytes) -> int:
    """Return a number that only the content decides."""
    return zlib.crc32(content)


def make_file(seed: int, case: int) -> tuple[bytes, list[str]]:
    """Return the file of a case, and the names of its model and of the edits that made it."""
    rng = Random(f"onnx {seed} {case}")
    name, content = pick(rng, case)
    _, other = pick(rng, 1)
    if rng.random() < BYTES:
        return edit_bytes(rng, content, other), [name, "bytes"]
    model = onnx.ModelProto()
    model.ParseFromString(content)
    done = [name]
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        _, edit = rng.choices(EDITS, WEIGHTS)[0]
        try:
            edit(rng, model)
            done.append(edit.__name__)
        except Exception as error:  # noqa: BLE001  # an edit of what an earlier one has spoilt
            done.append(f"{edit.__name__} failed: {error}")
    return model.SerializeToString(), done


def pick(rng: Random, case: int) -> tuple[str, bytes]:
    """Return a model to start from: a trained one, a graph, or a single node."""
    shared = onnx_corpus.shared_files()
    draw = rng.random()
    if shared and case % SHARED_EVERY == 0:
        return shared[int(draw * len(shared))]
    corpus, graphs = onnx_corpus.corpus(), onnx_corpus.graph_count()
    if rng.random() < 0.6:
        return corpus[int(draw * graphs)]
    return corpus[graphs + int(draw * (len(corpus) - graphs))]


def is_valid(content: bytes, watch: Any, facts: list[str]) -> bool:
    """Return whether protobuf parses the file and onnx.checker accepts it, which is the fuzzer's own judgement."""
    model = onnx.ModelProto()
    with watch.other_runtime():
        try:
            model.ParseFromString(content)
        except Exception:  # noqa: BLE001  # protobuf's DecodeError, and what it raises on text that is none
            return False
        facts.append("parsed")
        try:
            checker.check_model(model)
        except Exception:  # noqa: BLE001  # the checker's error, and what its bindings raise
            return False
    return True


def model_size(model: FloatModel) -> int:
    """Return the largest number of features of a tensor."""
    return max((info.features for info in model.tensors.values()), default=0)


def run_quantized(model: FloatModel, rng: Random, watch: Any) -> str:
    """Quantize on little data and run on both backends, which must give the same bits."""
    data = random_inputs(model, 2, 3, rng.randrange(1 << 30))
    for graph_input in model.inputs:
        if graph_input.kind == "lengths":
            data[graph_input.name] = np.array([3, rng.choice((0, 1, 2, 3))])
    with watch.running():
        try:
            quantized = quantize(model, data, rng.choice(SCHEMES))
        except QrnnError:
            return "quantizer refused"
        results = [Session(quantized, backend, 1).run(data) for backend in ("reference", "cpu")]
    want, got = results
    for name, value in want.outputs.items():
        if not np.array_equal(value, got.outputs[name]):
            raise FaultError(f"backends differ after import and quantization: output {name!r}")
    for name, arrays in want.state.layers.items():  # those of a recurrent layer are h and c, of other kinds any number
        if not all(map(np.array_equal, arrays, got.state.layers[name])):
            raise FaultError("backends differ after import and quantization: state")
    return "quantized and run"
