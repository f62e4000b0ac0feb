"""Import PyTorch modules as `FloatModel`: they are exported to ONNX in memory with dynamic batch and time, and imported from there.

PyTorch is imported only here and only when `from_torch` is called.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from qrnn import layers
from qrnn.equations.oracle import run_oracle
from qrnn.errors import DataError, QrnnError, UnsupportedError
from qrnn.model.axes import from_graph
from qrnn.model.float_model import FloatModel, GraphInput, GraphOutput
from qrnn.model.kinds.recurrent import Recurrent
from qrnn.model.kinds.recurrent.definition import InitialState
from qrnn.model.layer import Layer
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.graph import Constants, find_roles, import_model, live_nodes
from qrnn.onnx_import.inputs import declared_inputs
from qrnn.onnx_import.node import first_line

OPSET = 17

TOLERANCE = 1e-3
"""Largest accepted difference between the module and what was imported, of the largest value of an output: far above the rounding of
float32, far below what another computation would give."""


def from_torch(module: Any, example: Any, name: str | None = None, stream: bool = False) -> FloatModel:
    """Return the float model that ``module`` computes in evaluation mode.

    ``example`` is what ``module`` is called with: a tensor, or a tuple of arguments (tensors, or tuples of tensors like an LSTM's (h, c)).
    Only its shapes and types matter, and its batch and time sizes are not kept. Graph inputs are called as the arguments of ``forward`` (an
    LSTM's own: ``input``, ``h_0``, ``c_0``), outputs as the keys of a dict, else ``output`` or ``output_0``, ``output_1``, … (an LSTM's
    own: ``output``, ``h_n``, ``c_n``). Whatever the layout of the module (batch_first or not), the arrays that qrnn takes and gives are
    batch first.

    ``stream`` is as for `qrnn.load_onnx`: for a module that computes one time step, it carries every state from step to step.

    It works for torch.nn.LSTM, GRU and RNN and what `qrnn.load_onnx` knows around them; a torch.nn.LSTM with proj_size only as the whole
    module. The module is left as it was, in training mode where it was. Finally both are run, on the example and on one twice as large in
    batch and time, and must agree.

    Raises UnsupportedError for what cannot be imported, by name; DataError for an example that does not fit the module; QrnnError when
    PyTorch is not installed.
    """
    try:
        import torch
    except ImportError:
        raise QrnnError("from_torch needs PyTorch: pip install torch, or pip install 'qrnn[torch]'") from None
    if not isinstance(module, torch.nn.Module):
        raise DataError(f"module is {type(module).__name__}, expected a torch.nn.Module")
    name = name or type(module).__name__
    arguments = example if isinstance(example, tuple) else (example,)
    with _evaluation(module), torch.no_grad():
        results = _called(module, arguments, name)
        _refuse_modules(module, name)
        inputs = _named_inputs(module, arguments)
        outputs = _named_outputs(module, results)
        if isinstance(module, torch.nn.LSTM) and module.proj_size > 0:
            model = _projected(module, name, inputs)
        else:
            model = _exported(module, arguments, name, inputs, list(outputs), stream)
        _check(module, arguments, model, inputs)
    return model


@contextlib.contextmanager
def _evaluation(module: Any) -> Iterator[None]:
    """Switch to evaluation mode, and afterwards return every submodule to its own mode; hide PyTorch's warnings from the caller."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with warnings.catch_warnings():
            # Of the exporter's future, of every size compared in Python, of a batch that may be baked in: `_check` finds what matters.
            warnings.simplefilter("ignore")
            yield
    finally:
        for m, training in modes:
            m.training = training


def _called(module: Any, arguments: tuple[Any, ...], name: str) -> Any:
    """Return the module's results on its arguments; refuse packed sequences that reach a recurrent layer in another order."""
    import torch

    unsorted: list[str] = []

    def look(path: str, given: tuple[Any, ...]) -> None:
        packed = given[0] if given else None
        if isinstance(packed, torch.nn.utils.rnn.PackedSequence) and packed.sorted_indices is not None:
            unsorted.append(path)

    hooks = [
        m.register_forward_pre_hook(lambda _, given, path=path: look(path, given))
        for path, m in module.named_modules()
        if isinstance(m, torch.nn.RNNBase)
    ]
    try:
        results = module(*arguments)
    except Exception as error:  # whatever a module's forward may raise
        raise DataError(f"module '{name}' cannot be called with the example: {first_line(error)}") from error
    finally:
        for hook in hooks:
            hook.remove()
    if unsorted:
        raise UnsupportedError(
            f"submodule '{unsorted[0]}' of '{name}' reads a packed sequence; leave out the packing and give the lengths to qrnn: "
            "Session.run(inputs, lengths=…) masks padding exactly (enforce_sorted=True can be imported)"
        )
    return results


def _refuse_modules(module: Any, name: str) -> None:
    import torch

    for path, m in module.named_modules():
        where = f"submodule '{path}' of '{name}'" if path else f"module '{name}'"
        if isinstance(m, torch.nn.RNNCellBase):
            kind = type(m).__name__
            raise UnsupportedError(
                f"{where} is a {kind}, one step of a loop that the export would unroll; use torch.nn.{kind.removesuffix('Cell')}, whose "
                "weights have the same names followed by _l0"
            )
        if path and isinstance(m, torch.nn.LSTM) and m.proj_size > 0:
            raise UnsupportedError(
                f"{where} is an LSTM with proj_size={m.proj_size}, which PyTorch cannot export; give that LSTM alone to from_torch, or "
                "write the model with qrnn.layers (lstm(…, projection=weight_hr))"
            )


def _named_inputs(module: Any, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Return the example's tensors by graph input name, in the order of the export."""
    import torch

    names = list(inspect.signature(module.forward).parameters)
    names += [f"input_{k}" for k in range(len(names), len(arguments))]
    if isinstance(module, torch.nn.RNNBase):
        names = ["input", "h_0"]
    inputs: dict[str, Any] = {}
    for parameter, value in zip(names, arguments, strict=False):
        if isinstance(value, (tuple, list)):
            own = (
                ["h_0", "c_0"] if isinstance(module, torch.nn.LSTM) else [f"{parameter}_{k}" for k in range(len(value))]
            )
            inputs.update(zip(own, value, strict=True))
        elif value is not None:
            inputs[parameter] = value
    for key, value in inputs.items():
        if not isinstance(value, torch.Tensor):
            raise DataError(f"example: {key} is {type(value).__name__}, expected a tensor or a tuple of tensors")
    return inputs


def _named_outputs(module: Any, results: Any) -> dict[str, Any]:
    """Return the results' tensors by graph output name, in the order of the export, which goes into tuples and dicts."""
    import torch

    if isinstance(module, torch.nn.RNNBase):
        y, state = results
        return dict(
            zip(("output", "h_n", "c_n"), (y, *(state if isinstance(state, tuple) else (state,))), strict=False)
        )
    if isinstance(results, Mapping) and all(isinstance(value, torch.Tensor) for value in results.values()):
        return dict(zip(map(str, results), _flat(results), strict=True))
    flat = list(_flat(results))
    return {"output": flat[0]} if len(flat) == 1 else {f"output_{k}": value for k, value in enumerate(flat)}


def _flat(results: Any) -> Iterator[Any]:
    if isinstance(results, Mapping):
        results = tuple(results.values())
    if isinstance(results, (tuple, list)):
        for part in results:
            yield from _flat(part)
    elif results is not None:
        yield results


def _exported(
    module: Any, arguments: tuple[Any, ...], name: str, inputs: dict[str, Any], outputs: list[str], stream: bool
) -> FloatModel:
    """Export twice: first with every axis dynamic, to learn which are batch and time, then with these alone."""
    every = {key: {axis: f"{key}_{axis}" for axis in range(value.dim())} for key, value in inputs.items()}
    graph = _export(module, arguments, name, list(inputs), outputs, every).graph
    constants = Constants(graph, Budget(graph.ByteSize()))
    declared = declared_inputs(graph, constants.names)
    roles, _ = find_roles(live_nodes(graph), OPSET, constants, declared)
    dynamic: dict[str, dict[int, str]] = {}
    for key in declared:
        role = roles.role(key)
        dynamic[key] = {axis: label for axis, label in ((role.batch, "N"), (role.time, "T")) if axis is not None}
        if role.batch is None:  # the importer says what is wrong; a batch baked in would hide it
            dynamic[key] = every[key]
    return import_model(_export(module, arguments, name, list(inputs), outputs, dynamic), name, stream=stream)


def _export(
    module: Any,
    arguments: tuple[Any, ...],
    name: str,
    inputs: list[str],
    outputs: list[str],
    axes: dict[str, dict[int, str]],
) -> onnx.ModelProto:
    """Export with the exporter that needs no further package.

    The newer one needs onnxscript and bakes the sizes of states into the graph.
    """
    import torch

    buffer = io.BytesIO()
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        try:
            torch.onnx.export(
                module,
                arguments,
                buffer,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # its errors have no common base but Exception
            raise UnsupportedError(f"PyTorch cannot export module '{name}': {first_line(error)[:300]}") from error
    return onnx.load_from_string(buffer.getvalue())


def _projected(module: Any, name: str, inputs: dict[str, Any]) -> FloatModel:
    """Build a torch.nn.LSTM with proj_size, which ONNX cannot write, by `qrnn.layers`."""
    if inputs["input"].dim() != 3:
        raise UnsupportedError(f"module '{name}' reads {inputs['input'].dim()} axes; give the example a batch axis")
    L, D, H, P = module.num_layers, 2 if module.bidirectional else 1, module.hidden_size, module.proj_size
    x = layers.input("input", module.input_size)
    stack: list[layers.Recurrent] = []
    for level in range(L):
        source = stack[-1].output if stack else x
        forward, *backward = [_projected_direction(module, source, level, reverse) for reverse in (False, True)[:D]]
        stack.append(layers.bidirectional(forward, *backward) if backward else forward)
    cells = tuple(layer.c_n for layer in stack if layer.c_n is not None)
    model = layers.model(name, {"output": stack[-1].output, "h_n": tuple(layer.h_n for layer in stack), "c_n": cells})
    # PyTorch's own layout: [L·D, N, P] for states, time first unless batch_first.
    batch, time = (0, 1) if module.batch_first else (1, 0)
    graph_inputs = [replace(model.inputs[0], batch_axis=batch, time_axis=time)]
    recurrent = list(model.layers)
    for key, size in (("h_0", P), ("c_0", H)):
        if key in inputs:
            graph_inputs.append(GraphInput(key, "state", (L * D, size), False, batch_axis=1))
            recurrent = [_started(layer, level * D, key, size) for level, layer in enumerate(recurrent)]
    y, *states = model.outputs
    states = [replace(o, shape=(L * D, o.features // (L * D)), batch_axis=1) for o in states]
    outputs = (replace(y, batch_axis=batch, time_axis=time), *states)
    return replace(model, inputs=tuple(graph_inputs), layers=tuple(recurrent), outputs=outputs)


def _projected_direction(module: Any, source: layers.Tensor, level: int, reverse: bool) -> layers.Recurrent:
    def weight(key: str) -> Any:
        parameter = getattr(module, f"{key}_l{level}{'_reverse' if reverse else ''}", None)
        return None if parameter is None else parameter.detach().cpu().double().numpy()

    arrays = [weight(key) for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    return layers.lstm(source, *arrays, projection=weight("weight_hr"), reverse=reverse)


def _started(layer: Layer, first: int, key: str, size: int) -> Layer:
    """Return the layer with each direction's initial state from its own rows, ``first`` and following, of a state input [L·D, N, size]."""
    assert isinstance(layer, Recurrent)
    states = [
        InitialState(np.zeros(size), key, np.arange((first + d) * size, (first + d + 1) * size))
        for d in range(len(layer.directions))
    ]
    both = zip(layer.directions, states, strict=True)
    return replace(layer, directions=tuple(replace(d, h_0=s) if key == "h_0" else replace(d, c_0=s) for d, s in both))


def _check(module: Any, arguments: tuple[Any, ...], model: FloatModel, inputs: dict[str, Any]) -> None:
    """Compare both on the example and on one of twice the batch and time: no size of the example may be baked in."""
    known = {i.name: i for i in model.inputs}
    has_lengths = any(i.kind == "lengths" for i in model.inputs)
    for factor in (1, 2):
        if factor == 2 and set(known) != set(inputs):
            return  # an input that is not read has axes unknown
        sizes: dict[int, Any] = {}
        for key, value in inputs.items():
            grown = value
            for axis in (known[key].batch_axis, known[key].time_axis) if key in known else ():
                # Padded sequences keep their lengths, and packed ones come back as long as the longest.
                if axis is not None and not (has_lengths and axis == known[key].time_axis):
                    grown = grown.repeat_interleave(factor, dim=axis)
            sizes[id(value)] = grown
        call = _replaced(arguments, sizes)
        try:
            want = _named_outputs(module, module(*call))
        except Exception as error:  # whatever a module's forward may raise
            raise UnsupportedError(
                f"module '{model.name}' cannot be called with twice the example's batch and time: {first_line(error)}; make it take any size"
            ) from error
        arrays = {key: sizes[id(value)].detach().cpu().numpy() for key, value in inputs.items() if key in known}
        data = {key: from_graph(known[key], array) for key, array in arrays.items()}
        got = run_oracle(model, data).outputs
        for output in model.outputs:
            _compare(model, output, want[output.name], got[output.name], factor)


def _replaced(value: Any, by_id: Mapping[int, Any]) -> Any:
    if isinstance(value, (tuple, list)):
        parts = [_replaced(part, by_id) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return by_id.get(id(value), value)


def _compare(model: FloatModel, output: GraphOutput, tensor: Any, got: Any, factor: int) -> None:
    array = from_graph(output, tensor.detach().cpu().double().numpy(), len(got))
    got = got[:, : array.shape[1]] if output.has_time else got
    if array.shape == got.shape and np.abs(array - got).max() <= TOLERANCE * max(1.0, np.abs(array).max()):
        return
    found = f"shape {list(got.shape)} for {list(array.shape)}"
    if array.shape == got.shape:
        found = f"a difference of {np.abs(array - got).max():.3g}"
    size = "the example" if factor == 1 else "twice the example's batch and time"
    raise UnsupportedError(
        f"module '{model.name}': the exported graph computes something else than the module, {found} in output '{output.name}' on "
        f"{size}; take out what depends on sizes or values in Python (if, loops)"
    )
