"""Small quantized models of every kind, as .qrnn files and as models, that the fuzzers of files and of arrays start from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from backends.generators import Case
from model.qrnn_files import QrnnFile
from models import Shape

from fuzzing import onnx_corpus
from qrnn.conversion import quantize, random_inputs
from qrnn.model.activation import Activation
from qrnn.model.file import save
from qrnn.model.quant_model import QuantModel
from qrnn.onnx_import import import_model
from qrnn.quantization.scheme import Scheme

UNBOUNDED = {"gate": Activation("softplus"), "candidate": Activation("elu", 1.0), "output": Activation("relu")}

CASES = {
    "gru, states, concat": Case(Shape("gru", states=True), head="tanh", concat=True),
    "gru, reset first": Case(Shape("gru", linear_before_reset=False), head="dense", last_step=True),
    "lstm, two ways": Case(Shape("lstm", directions=(False, True)), head="softmax", scheme=Scheme(input="8-per-feature")),
    "lstm, states": Case(Shape("lstm", states=True), head="sigmoid", scheme=Scheme(activations=16)),
    "lstm, two layers": Case(Shape("lstm", layers=2), scheme=Scheme(input="16")),
    "rnn": Case(Shape("rnn", layers=2), head="hard_sigmoid"),
    "lstm, peepholes": Case(Shape("lstm", forget="coupled", peephole=0.5, clip=3.0), head="elu"),
    "lstm, projection": Case(Shape("lstm", 6, 4, projection=3, projected=Activation("leaky_relu", 0.1), states=True)),
    "rnn, softmax fed back": Case(Shape("rnn", 4, 5, projection=4, projected="softmax", residual=True), head="dense"),
    "lstm, no forget gate": Case(Shape("lstm", forget="one", activations=UNBOUNDED, weight=0.2), head="affine"),
    "lstm, four bits": Case(Shape("lstm", 35, 5), head="dense", scheme=Scheme(input="8", weights=4)),
    "gru, thresholds": Case(Shape("gru", update_keeps=False), head="step", scheme=Scheme(input="8", gates="step")),
}  # fmt: skip

GRAPHS = (
    "tokens",
    "two_ways",
    "one step LSTM",
    "exported states GRU",
    "head LSTM two ways",
    "single GRU 0 True forward",
)
"""Models of the ONNX corpus that are quantized as well: tokens, two inputs, states, lengths."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A model and its file's content."""

    name: str
    model: QuantModel
    metadata: dict[str, str]
    tensors: dict[str, Any]
    content: bytes

    @property
    def structure(self) -> Any:
        """Return the model's JSON, parsed anew."""
        return json.loads(self.metadata["model"])

    @property
    def streams(self) -> bool:
        """Whether no layer reads the sequence backwards."""
        return not any(d.reverse for layer in self.model.recurrent_layers for d in layer.directions)


@cache
def entries() -> tuple[Entry, ...]:
    """Return all entries."""
    return tuple(_entries())


def _entries() -> Iterator[Entry]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.qrnn"
        for name, model in _models():
            save(model, path)
            file = QrnnFile(path)
            yield Entry(name, model, file.metadata, file.tensors, path.read_bytes())


def _models() -> Iterator[tuple[str, QuantModel]]:
    for name, case in CASES.items():
        yield name, quantize(case.model(), case.data(), case.scheme)
    known = dict(onnx_corpus.corpus())
    for name in GRAPHS:
        proto = onnx.ModelProto()
        proto.ParseFromString(known[name])
        model = import_model(proto, name)
        data = random_inputs(model, 4, 5)
        for graph_input in model.inputs:
            if graph_input.kind == "lengths":
                data[graph_input.name] = np.array([5, 4, 3, 5])
        yield name, quantize(model, data, Scheme(input="8"))
