"""Offer qrnn through ONNX's own backend interface, ``onnx.backend.base``: arrays in and out as the graph declares them.

    import qrnn.onnx_backend as backend
    rep = backend.prepare(model, engine="float")      # the float64 oracle
    y, y_h = rep.run([x, w, r])                       # the graph's order, layout and types

``engine`` may also be a backend of integers (`qrnn.backends.backend_names`): the model is then quantized with ranges measured on the very
inputs of the run (`Bound.calibration`). Weights that are graph inputs, as in ONNX's node tests, are bound to the values of the run before
the import; initial states and sequence_lens stay inputs.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.backend.base import Backend, BackendRep

from qrnn.backends import backend_names
from qrnn.conversion import quantize
from qrnn.equations.oracle import run_oracle
from qrnn.errors import BackendError, DataError, QrnnError
from qrnn.model.axes import from_graph, to_graph
from qrnn.model.float_model import FloatModel
from qrnn.model.user_values import as_array
from qrnn.onnx_import import import_model
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.structure import LONGEST_NAME, check_structure
from qrnn.quantization.scheme import Scheme

__all__ = ["Bound", "QrnnBackend", "QrnnRep", "is_compatible", "prepare", "run_model", "run_node", "supports_device"]

FLOAT = "float"
"""The engine that is the float64 oracle."""

REMEMBERED = 8
"""Imported models that a `QrnnRep` keeps, one for each content of the weights that are inputs."""

LARGEST_BLANK = 1 << 24
"""Most elements of zeros that a model is tried with before its weights are given."""

_RECURRENT = ("LSTM", "GRU", "RNN")

_WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "LSTM": (1, 2, 3, 7),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
    "Gemm": (1, 2),
    "MatMul": (1,),
    "ConvTranspose": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
}
"""Which inputs of an operator are weights: those that the importer wants constant."""

_DYNAMIC_AXES: Mapping[int, Mapping[int, tuple[int, ...]]] = {
    0: {0: (0, 1), 4: (0,), 5: (1,), 6: (1,)},
    1: {0: (0, 1), 4: (0,), 5: (0,), 6: (0,)},
}
"""By layout: the axes of X, sequence_lens, initial_h and initial_c that are batch or time."""


@dataclass(frozen=True)
class Bound:
    """A model with the weights of one run in it, and the run's other inputs, batch first."""

    model: FloatModel
    data: dict[str, Any]

    @property
    def calibration(self) -> dict[str, Any]:
        """Return the ``data`` from which ranges are measured; with all padding where every sequence is empty, since nothing else is there."""
        lengths = {i.name for i in self.model.inputs if i.kind == "lengths"} & self.data.keys()
        if any(np.asarray(self.data[name]).any() for name in lengths):
            return self.data
        return {name: array for name, array in self.data.items() if name not in lengths}


class QrnnRep(BackendRep):  # type: ignore[misc]  # onnx is untyped
    """A model ready to run; made by `QrnnBackend.prepare`."""

    def __init__(self, model: onnx.ModelProto, engine: str = FLOAT, scheme: Scheme | None = None) -> None:
        self.engine = engine
        self._scheme = scheme
        check_structure(model, model.graph.name[:LONGEST_NAME] or "model", Budget(0))  # before anything goes through it
        self._proto = _with_dynamic_axes(model)
        self._types = {
            o.name: helper.tensor_dtype_to_np_dtype(o.type.tensor_type.elem_type or onnx.TensorProto.FLOAT)
            for o in model.graph.output
        }
        self._initialized = {t.name for t in model.graph.initializer}
        self._inputs = [i.name for i in model.graph.input]
        self._weights = weight_inputs(model.graph)
        self._imported: OrderedDict[bytes, FloatModel] = OrderedDict()
        blank = _blank(model.graph, self._weights)
        if blank is not None:  # so that what cannot be imported is refused before the first run
            self._import(blank)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return the graph's outputs in its own order, layout and types.

        ``inputs`` are arrays by name, or in the order of the graph's inputs; initial states may be left out of a mapping.
        """
        bound = self.bind(inputs)
        if self.engine == FLOAT:
            outputs = run_oracle(bound.model, bound.data).outputs
        else:
            from qrnn.running.session import Session  # sessions pull in the compiler, which the oracle does not need

            quantized = quantize(bound.model, bound.calibration, self._scheme)
            outputs = Session(quantized, self.engine).run(bound.data, real="float64").outputs
        return self.in_graph_form(bound.model, outputs)

    def bind(self, inputs: Any) -> Bound:
        """Return the model with this run's weights, and the run's other inputs, batch first."""
        arrays = self._named(inputs)
        missing = [name for name in self._weights if name not in arrays]
        if missing:
            raise DataError(f"input {missing[0]!r} is missing; expected the weights {sorted(self._weights)}")
        bound = self._weights | (self._initialized & arrays.keys())
        model = self._import({name: arrays[name] for name in self._inputs if name in bound})
        data = {}
        for place in model.inputs:
            if place.name in arrays:
                array = arrays[place.name]
                rank = (place.batch_axis is not None) + (place.time_axis is not None) + len(place.shape)
                if array.ndim != rank:
                    raise DataError(
                        f"input {place.name!r} has shape {list(array.shape)}, expected {rank} axes as in the graph"
                    )
                data[place.name] = from_graph(place, array)
        return Bound(model, data)

    def in_graph_form(self, model: FloatModel, outputs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return batch-first ``outputs`` by name in the graph's own form."""
        return tuple(
            np.ascontiguousarray(to_graph(o, outputs[o.name]).astype(self._types[o.name])) for o in model.outputs
        )

    def _named(self, inputs: Any) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            unknown = sorted(set(inputs) - set(self._inputs))
            if unknown:
                raise DataError(f"array {unknown[0]!r} is not an input of the model; expected {self._inputs}")
            return {name: as_array(f"input {name!r}", value) for name, value in inputs.items()}
        if isinstance(inputs, np.ndarray) or not isinstance(inputs, Iterable):
            inputs = [inputs]
        values = [as_array(f"input {number}", value) for number, value in enumerate(inputs)]
        wanted = [name for name in self._inputs if name not in self._initialized]
        # files before IR version 4 list their initializers as inputs: given them all, the values given count
        names = wanted if len(values) == len(wanted) else self._inputs
        if len(values) != len(names):
            raise DataError(f"{len(values)} arrays are given, expected {len(wanted)} in the order {wanted}")
        return dict(zip(names, values, strict=True))

    def _import(self, weights: Mapping[str, Any]) -> FloatModel:
        """Import the model with ``weights`` as initializers, once for each content."""
        digest = hashlib.sha256()
        for name, array in weights.items():
            digest.update(f"{name} {array.dtype} {array.shape};".encode() + np.ascontiguousarray(array).tobytes())
        key = digest.digest()
        if key not in self._imported:
            proto = _with_initializers(self._proto, weights) if weights else self._proto
            name = proto.graph.name or "model"
            content = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
            self._imported[key] = import_model(proto, name, content)
            if len(self._imported) > REMEMBERED:
                self._imported.popitem(last=False)
        self._imported.move_to_end(key)
        return self._imported[key]


class QrnnBackend(Backend):  # type: ignore[misc]
    """The interface of ``onnx.backend.base.Backend``. Keywords that are not named here have no meaning and are ignored."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> bool:
        """Return whether `prepare` takes the model; problems with weights of unknown shape show only when they are given."""
        try:
            cls.prepare(model, device, **kwargs)
        except QrnnError:
            return False
        return True

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto,
        device: str = "CPU",
        engine: str = FLOAT,
        scheme: Scheme | None = None,
        **kwargs: Any,
    ) -> QrnnRep:
        """Return the model ready to run on ``engine``, quantized by ``scheme`` where that is an engine of integers.

        Raises `UnsupportedError` for what is not implemented, `ModelFileError` for a damaged model, and `BackendError` for another device
        or an unknown engine.
        """
        if not cls.supports_device(device):
            raise BackendError(f"device {device!r} is not supported; expected CPU")
        if engine not in (FLOAT, *backend_names()):
            raise BackendError(f"engine {engine!r} is unknown; expected one of {', '.join((FLOAT, *backend_names()))}")
        return QrnnRep(model, engine, scheme)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Prepare a model and run it once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node on arrays by name, or in the order of its inputs without the absent ones.

        ``opset_version`` is that of the operator.
        """
        opset = int(kwargs.pop("opset_version", onnx.defs.onnx_opset_version()))
        names = list(dict.fromkeys(name for name in node.input if name))
        if not isinstance(inputs, Mapping):
            values = list(inputs)
            if len(values) != len(names):
                raise DataError(f"{len(values)} arrays are given, expected {len(names)} in the order {names}")
            inputs = dict(zip(names, values, strict=True))
        arrays = {name: as_array(f"input {name!r}", inputs[name]) for name in names if name in inputs}
        declared = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in arrays.items()
        ]
        types = iter(np.dtype(kind) for kind, _ in outputs_info or ())
        outputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(next(types, np.dtype(np.float32))), None
            )
            for name in node.output
            if name
        ]
        graph = helper.make_graph([node], node.name or node.op_type, declared, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, opset)])
        model = shape_inference.infer_shapes(model)
        for output in model.graph.output:
            output.type.tensor_type.shape.SetInParent()  # a declared output has a shape, if only an empty one
        return cls.run_model(model, arrays, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Return whether a device is supported; only CPU is."""
        return device.split(":")[0] == "CPU"


def weight_inputs(graph: onnx.GraphProto) -> set[str]:
    """Return the graph inputs that are weights of a node, directly or through nodes that rearrange them."""
    declared = {i.name: len(i.type.tensor_type.shape.dim) for i in graph.input}
    initialized = {t.name for t in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    open_names = [name for node in graph.node for name in _weights_of(node, declared, initialized, made_by)]
    found: set[str] = set()
    while open_names:
        name = open_names.pop()
        node = made_by.get(name)
        if name and name not in found and (node is None or node.op_type != "Shape"):
            found.add(name)
            open_names.extend(node.input if node is not None else ())
    return (found & declared.keys()) - initialized


def _weights_of(
    node: onnx.NodeProto, rank: Mapping[str, int], initialized: set[str], made_by: Mapping[str, onnx.NodeProto]
) -> list[str]:
    """Return the names that a node reads as weights; ``rank`` is that of each graph input."""
    read = list(node.input)
    if node.op_type == "Add":  # a vector is a bias: what has a batch axis and features has two axes or more
        return [name for name in read if rank.get(name) == 1]
    if node.op_type == "Gather" and len(read) == 2 and rank.get(read[0]) == 2:
        constant = read[1] in initialized or (read[1] in made_by and made_by[read[1]].op_type == "Constant")
        return [] if constant else read[:1]  # a table of embeddings, unless it is a step that is chosen
    return [read[k] for k in _WEIGHTS.get(node.op_type, ()) if k < len(read)]


def _with_dynamic_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which the inputs that recurrent nodes read have no literal batch or time sizes.

    ONNX's node tests bake them in, and a single step would be taken for a graph that runs one step per call.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inputs = {i.name: i for i in copy.graph.input}
    for node in copy.graph.node:
        if node.op_type not in _RECURRENT:
            continue
        layout = next((a.i for a in node.attribute if a.name == "layout"), 0)
        for position, axes in _DYNAMIC_AXES.get(layout, {}).items():
            name = node.input[position] if position < len(node.input) else ""
            dims = inputs[name].type.tensor_type.shape.dim if name in inputs else ()
            for axis in axes:
                if axis < len(dims) and dims[axis].dim_value > 0:
                    dims[axis].dim_param = f"{name}_{axis}"
    return copy


def _with_initializers(model: onnx.ModelProto, weights: Mapping[str, Any]) -> onnx.ModelProto:
    """Return a copy with ``weights`` as initializers, in place of inputs and of initializers of their names."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for values in (copy.graph.input, copy.graph.initializer):
        kept = [v for v in values if v.name not in weights]
        del values[:]
        values.extend(kept)
    copy.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()
    )
    return copy


def _blank(graph: onnx.GraphProto, weights: set[str]) -> dict[str, Any] | None:
    """Return zeros for the weights that are inputs.

    None where a shape is not declared, or is so large that only a run's own arrays say whether it is meant.
    """
    blank = {}
    elements = 0
    for declared in graph.input:
        if declared.name not in weights:
            continue
        kind = declared.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        if not kind.HasField("shape") or not kind.elem_type or not all(size > 0 for size in shape):
            return None
        elements += math.prod(shape)
        if elements > LARGEST_BLANK:
            return None
        blank[declared.name] = np.zeros(shape, helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return blank


is_compatible = QrnnBackend.is_compatible
prepare = QrnnBackend.prepare
run_model = QrnnBackend.run_model
run_node = QrnnBackend.run_node
supports_device = QrnnBackend.supports_device
