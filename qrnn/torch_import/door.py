"""`from_torch`: the ways to export a module, of which the first is taken whose graph computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import onnx

from qrnn.errors import DataError, QrnnError
from qrnn.model.float_model import FloatModel
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.constants import refuse_external
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.graph import Constants, find_roles, import_checked, live_nodes
from qrnn.onnx_import.inputs import declared_inputs
from qrnn.onnx_import.structure import check_structure
from qrnn.torch_import.check import check
from qrnn.torch_import.export import OPSET, Axes, ExportError, export, has_onnxscript
from qrnn.torch_import.projected import projected
from qrnn.torch_import.surroundings import evaluation
from qrnn.torch_import.values import Called, call_of

Exporter = Literal["auto", "torchscript", "dynamo"]


@dataclass(frozen=True)
class Options:
    """What `qrnn.load_onnx` takes beside a path."""

    stream: bool
    state: Mapping[str, str] | None
    values: Mapping[str, FixedValue] | None
    shapes: Mapping[str, Sequence[int]] | None
    window: int | None


def from_torch(
    module: Any,
    example: Any,
    name: str | None = None,
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    window: int | None = None,
    exporter: Exporter = "auto",
) -> FloatModel:
    """Return the float model that ``module`` computes in evaluation mode.

    ``example`` is what ``module`` is called with: a tensor, or a tuple of arguments; a dict in the last place has arguments by name.
    Arguments are tensors, numbers, None, and tuples, lists and dicts of them. Only the shapes and types of tensors matter, and their batch
    and time sizes are not kept; numbers stay as they are. Graph inputs are called as the arguments of ``forward`` (an LSTM's own: ``input``,
    ``h_0``, ``c_0``), with the number or the key behind where an argument holds several. Outputs are called as the keys of a dict or the
    fields of a dataclass, else ``output`` or ``output_0``, ``output_1``, … (an LSTM's own: ``output``, ``h_n``, ``c_n``; an LSTMCell's:
    ``h_1``, ``c_1``). Whatever the layout of the module (batch_first or not), the arrays that qrnn takes and gives are batch first.

    ``stream``, ``state``, ``values``, ``shapes`` and ``window`` are as for `qrnn.load_onnx`. An input that ``values`` fixes is a constant
    while the module is exported too, so that it may choose between branches in Python.

    ``exporter`` is ``"torchscript"`` (PyTorch's older exporter, which needs no further package), ``"dynamo"`` (the newer one, which needs
    onnxscript), or ``"auto"``: the older one, and the newer one where that cannot write the module. Steps in a Python loop
    (torch.nn.LSTMCell and others) are written out over the steps of the example, and found again by their equation; an LSTM with proj_size
    inside of a module has its projection multiplied into its recurrent matrix, and alone it keeps it. Packed sequences are those of
    lengths, in any order.

    The module is left as it was, in training mode where it was. Finally both are run, on the example and on one twice as large in batch
    and time, and must agree; with ``window``, which makes another function, they are not.

    Raises UnsupportedError for what cannot be imported, by name; DataError for an example that does not fit the module; QrnnError when
    PyTorch, or onnxscript where it is asked for, is not installed.
    """
    try:
        import torch
    except ImportError:
        raise QrnnError("from_torch needs PyTorch: pip install torch, or pip install 'qrnn[torch]'") from None
    if not isinstance(module, torch.nn.Module):
        raise DataError(f"module is {type(module).__name__}, expected a torch.nn.Module")
    if exporter not in get_args(Exporter):
        raise DataError(f"exporter={exporter!r}, expected one of {', '.join(map(repr, get_args(Exporter)))}")
    if exporter == "dynamo" and not has_onnxscript():
        raise QrnnError("exporter='dynamo' needs onnxscript: pip install onnxscript")
    name = name or type(module).__name__
    options = Options(stream, state, values, shapes, window)
    with evaluation(module), torch.no_grad():
        called = call_of(module, example, name, values)
        if isinstance(module, torch.nn.LSTM) and module.proj_size > 0:
            model = projected(module, name, called.inputs)
            check(called, model)
            return model
        model = _exported(called, options, exporter)
    return replace(model, values={**model.values, **{key: _plain(value) for key, value in called.fixed.items()}})


def _plain(value: Any) -> Any:
    """Return the numbers of a fixed tensor as a file keeps them."""
    array = value.detach().cpu().numpy()
    return array.item() if array.ndim == 0 else array.tolist()


def _exported(called: Called, options: Options, exporter: Exporter) -> FloatModel:
    """Return the model of the first way to export the module whose graph is imported and agrees with it; the first error where none does."""
    errors: list[QrnnError] = []
    for way in ("torchscript", "dynamo") if exporter == "auto" else (exporter,):
        if errors and not (has_onnxscript() and all(isinstance(error, ExportError) for error in errors)):
            break  # the newer exporter is for what the older one cannot write
        for graph in _graphs(called, way):
            try:
                model = _imported(graph(), called, options)
                if options.window is None:
                    check(called, model)
            except DataError:
                raise
            except QrnnError as error:
                errors.append(error)
            else:
                return model
    raise errors[0]


def _graphs(called: Called, exporter: str) -> Iterator[Callable[[], onnx.ModelProto]]:
    """Iterate over functions that export the module: with batch and time open, with the batch alone, and with the sizes of the example."""
    found: list[Axes] = []

    def both() -> onnx.ModelProto:
        found.append(_roles(called, exporter))
        return export(called, exporter, found[0])

    def batch() -> onnx.ModelProto:
        known = found[0] if found else {}
        axes = {
            key: {axis: label for axis, label in known.get(key, {}).items() if label == "N"} for key in called.inputs
        }
        # where no batch was found, the first axis most likely is one
        first = {key: {0: "N"} for key, value in called.inputs.items() if value.dim()}
        return export(called, exporter, {key: own or first.get(key, {}) for key, own in axes.items()})

    yield both
    yield batch
    yield lambda: export(called, exporter, {})


def _roles(called: Called, exporter: str) -> Axes:
    """Export with every axis open, and return which axes of the inputs are batch and time, with the names N and T."""
    every: dict[str, dict[int, str]] = {
        key: {axis: f"{key}_{axis}" for axis in range(value.dim())} for key, value in called.inputs.items()
    }
    if exporter == "dynamo":  # which takes no open axis that is baked in
        every = {key: {axis: label for axis, label in own.items() if axis == 0} for key, own in every.items()}
    graph = export(called, exporter, every).graph
    constants = Constants(graph, Budget(graph.ByteSize()))
    declared = declared_inputs(graph, constants.names)
    roles, _ = find_roles(live_nodes(graph), OPSET, constants, declared)
    found: dict[str, dict[int, str]] = {}
    for key in declared:
        role = roles.role(key)
        found[key] = {axis: label for axis, label in ((role.batch, "N"), (role.time, "T")) if axis is not None}
        if role.batch is None:  # the importer says what is wrong; a batch baked in would hide it
            found[key] = every[key]
    return found


def _imported(graph: onnx.ModelProto, called: Called, options: Options) -> FloatModel:
    """Import a graph, with what the caller asks for that is not fixed in it already."""
    budget = Budget(0)
    for tensor in check_structure(graph, called.name, budget).tensors:
        refuse_external(tensor, f"model '{called.name}': tensor '{tensor.name}'")
    budget.allow(graph.ByteSize())
    values = {key: value for key, value in (options.values or {}).items() if key not in called.fixed}
    return import_checked(
        graph, called.name, "", budget, options.stream, options.state, values, options.shapes, options.window
    )
