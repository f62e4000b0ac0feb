"""Read .keras and .h5 files, which may be missing, damaged or hostile, as a graph for the ONNX importer. No code of a file is run."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.keras_import import layers
from qrnn.keras_import.archive import SIGNATURE as ZIP
from qrnn.keras_import.archive import open_archive
from qrnn.keras_import.config import LayerConfig, layer_config, parse_json
from qrnn.keras_import.graph import Graph
from qrnn.keras_import.hdf5 import Datasets
from qrnn.keras_import.hdf5_blocks import SIGNATURE as HDF5
from qrnn.keras_import.models import MODELS, write_model
from qrnn.keras_import.settings import short
from qrnn.keras_import.tensors import Mask, Value
from qrnn.keras_import.weights import NamedGroups, PathWeights, Weights
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.external import LARGEST_FILE
from qrnn.onnx_import.source import Source
from qrnn.onnx_import.structure import check_structure
from qrnn.system.files import read_regular

assert layers  # imported for its registrations


def load_keras(
    path: str | os.PathLike[str],
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    window: int | None = None,
) -> FloatModel:
    """Import a Keras model from a .keras file, or from an .h5 file of Keras 2 or 3, without Keras.

    The layers are written as an ONNX graph of float32, batch first, which is then imported as by `qrnn.load_onnx`; arguments are as there.
    Inputs have the names of the InputLayers, outputs those of the layers that give them. docs/keras.md lists the layers.

    A Masking layer, or an Embedding with mask_zero, on an input leaves out the steps at the end of a sequence that have the mask's value, as
    lengths do; `qrnn.Session` and the commands find these lengths in the data.

    Raises `ModelFileError` when the file is missing, damaged or inconsistent, and `UnsupportedError` with every layer and setting that is
    not supported.
    """
    return read_keras(path).imported(stream, state, values, shapes, window)


@dataclass(frozen=True)
class KerasSource(Source):
    """A Keras file as a graph: its masks by graph input, its layers by class.

    ``remembers`` says that all recurrent layers of a graph of one step per call are stateful.
    """

    masks: Mapping[str, Mask] = field(default_factory=dict)
    kinds: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    remembers: bool = False

    @property
    def operators(self) -> dict[str, int]:
        """Return how many layers of each class the file has."""
        return dict(self.kinds)

    def imported(
        self,
        stream: bool = False,
        state: Mapping[str, str] | None = None,
        values: Mapping[str, FixedValue] | None = None,
        shapes: Mapping[str, Sequence[int]] | None = None,
        window: int | None = None,
    ) -> FloatModel:
        """Import the graph, and give its inputs the values of the steps that only pad them."""
        model = super().imported(stream or self.remembers, state, values, shapes, window)
        inputs, notes = [], [*model.notes, *self.notes]
        for given in model.inputs:
            mask = self.masks.get(given.name)
            if mask is not None and (not given.has_time or model.one_step):
                raise UnsupportedError(
                    f"layer '{mask.layer}': it masks steps of input '{given.name}', which has no time axis of several steps; leave the mask out"
                )
            inputs.append(given if mask is None else replace(given, padding=mask.value))
            if mask is not None:
                notes.append(
                    f"input '{given.name}': steps of {mask.value:g} at the end of a sequence are padding ('{mask.layer}'), left out as by "
                    "lengths; outputs have zeros there"
                )
        return replace(model, inputs=tuple(inputs), notes=tuple(dict.fromkeys(notes)))


def read_keras(path: str | os.PathLike[str]) -> KerasSource:
    """Read a Keras file as a graph; errors are those of `load_keras`, as far as they are not about the graph."""
    file = Path(path)
    what = f"'{file}'"
    try:
        content = read_regular(file, LARGEST_FILE)
    except OSError as error:
        remedy = "save a smaller model" if error.errno == errno.EFBIG else "give the path of a .keras or .h5 file"
        raise ModelFileError(f"cannot read {what}: {error.strerror}; {remedy}") from error
    digest = hashlib.sha256(content).hexdigest()
    name = file.stem.encode(errors="backslashreplace").decode()
    budget = Budget(len(content))
    if content.startswith(ZIP):
        archive = open_archive(content, what, budget)
        config = parse_json(archive.config, f"{what}: its config")
        version = parse_json(archive.metadata, f"{what}: its metadata").get("keras_version")
        datasets = Datasets(archive.weights, f"the weights of {what}", budget)
        weights: Weights = PathWeights(datasets)
    elif content.startswith(HDF5):
        datasets = Datasets(content, what, budget)
        text, version = datasets.text("model_config"), datasets.text("keras_version")
        if text is None:
            raise UnsupportedError(
                f"{what} is an HDF5 file without the config of a Keras model; save the whole model with model.save, not its weights alone"
            )
        config = parse_json(text, f"{what}: its config")
        version = version or datasets.text("keras_version", "model_weights")
        weights = NamedGroups(datasets)
    else:
        raise ModelFileError(
            f"{what} is no Keras model: neither a .keras nor an HDF5 file; save it with model.save('NAME.keras')"
        )
    return _written(config, version if isinstance(version, str) else "", weights, name, digest, budget)


def _written(
    config: Mapping[str, Any], version: str, weights: Weights, name: str, digest: str, budget: Budget
) -> KerasSource:
    """Return the graph of a model's config and weights."""
    entry = config
    if isinstance(config.get("config"), list):  # Keras 2.2 and before
        entry = {**config, "config": {"name": config.get("class_name"), "layers": config["config"]}}
    model = layer_config(entry, f"model '{name}'")
    if model.kind not in MODELS:
        raise UnsupportedError(
            f"model '{name}' is of the class {short(model.kind)}, whose code is not in the file; save a Sequential or a functional model"
        )
    graph = Graph(budget, version)
    results = write_model(graph, model, weights, None)
    names = graph.output_names or [_last_name(model)]
    made = graph.model([(graph.name(wanted), value) for wanted, value in zip(names, results, strict=True)])
    masks = _masks(graph, results)
    check_structure(made, name, budget)
    budget.allow(made.ByteSize())
    notes, remembers = _stateful(graph, name)
    return KerasSource(made, name, digest, budget, masks, dict(Counter(_kinds(model))), notes, remembers)


def _last_name(model: LayerConfig) -> str:
    last = model.config["layers"][-1]
    return layer_config(last, "the last layer").name


def _kinds(model: LayerConfig) -> list[str]:
    """Return the classes of all layers, those inside of models too."""
    found = []
    for entry in model.config.get("layers", ()):
        own = layer_config(entry, "a layer")
        found += _kinds(own) if own.kind in MODELS else [own.kind]
    return found


def _masks(graph: Graph, results: Sequence[Value]) -> dict[str, Mask]:
    """Return the mask of each input; a layer that reads steps of a masked input without its mask is refused."""
    read = [x for _, x in graph.mixed] + list(results)
    masks = {x.mask.source: x.mask for x in read if x.mask is not None}
    for name, x in graph.mixed:
        for source in x.sources & masks.keys():
            if x.mask is None:
                raise UnsupportedError(
                    f"layer '{name}': it reads all steps of input '{source}', also those that '{masks[source].layer}' masks for other layers; "
                    "read the masked value in both, or leave the mask out and give qrnn the lengths"
                )
    values: dict[str, set[float]] = {}
    for x in read:
        if x.mask is not None:
            values.setdefault(x.mask.source, set()).add(x.mask.value)
    for source, found in values.items():
        if len(found) > 1:
            raise UnsupportedError(f"input '{source}' has masks of several values {sorted(found)}; use one of them")
    return masks


def _stateful(graph: Graph, name: str) -> tuple[tuple[str, ...], bool]:
    """Return what is to be said of stateful layers, and whether a graph of one step a call has to carry all states."""
    stateful = [layer for layer, kept in graph.stateful.items() if kept]
    if not stateful:
        return (), False
    one_step = all(
        info.type.tensor_type.shape.dim[1].dim_value == 1
        for info in graph.inputs
        if len(info.type.tensor_type.shape.dim) > 2
    )
    if one_step and len(stateful) < len(graph.stateful):
        others = sorted(graph.stateful.keys() - set(stateful))
        raise UnsupportedError(
            f"layer '{stateful[0]}' is stateful and '{others[0]}' is not, in a model of one step a call; make all of them stateful or none"
        )
    note = (
        f"stateful layers ({', '.join(stateful)}): Keras goes on from the last state in the next call; here run begins with zeros, a stream "
        "carries its state from step to step, and state= goes on from any"
    )
    return (note,), one_step
