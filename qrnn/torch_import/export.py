"""Export a module to ONNX in memory, by PyTorch's older exporter (torchscript) or its newer one (dynamo)."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
from collections.abc import Mapping
from typing import Any

import onnx

from qrnn.errors import QrnnError, UnsupportedError
from qrnn.onnx_import.node import first_line
from qrnn.torch_import.surroundings import exportable
from qrnn.torch_import.values import Called, adapter

OPSET = 17

NEWER_OPSET = 18
"""The opset of the newer exporter, which writes no older one."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

Axes = Mapping[str, Mapping[int, str]]
"""The axes of each input whose size is left open, with a name."""


class ExportError(UnsupportedError):
    """An exporter of PyTorch cannot write a module."""


def has_onnxscript() -> bool:
    """Return whether the newer exporter can run."""
    return importlib.util.find_spec("onnxscript") is not None


def export(called: Called, exporter: str, axes: Axes) -> onnx.ModelProto:
    """Return the graph of a module; UnsupportedError where PyTorch cannot write it."""
    tensors = _sorted_lengths(called)
    write = _dynamo if exporter == "dynamo" else _torchscript
    try:
        with _quiet(), exportable(called.module, called.name):
            return write(called, tensors, axes)
    except QrnnError:
        raise
    except Exception as error:  # the exporters' errors have no common base but Exception
        if isinstance(cause := _cause(error), QrnnError):
            raise cause from error
        why = _COLOURS.sub("", first_line(error))[:300]
        raise ExportError(f"PyTorch cannot export module '{called.name}': {why}") from error


def _cause(error: BaseException) -> BaseException:
    """Return the first error of a chain."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return error


@contextlib.contextmanager
def _quiet() -> Any:
    """Hide what the exporters print and log."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            open(os.devnull, "w", encoding="utf-8") as nothing,
            contextlib.redirect_stdout(nothing),
            contextlib.redirect_stderr(nothing),
        ):
            yield
    finally:
        logging.disable(before)


def _sorted_lengths(called: Called) -> dict[str, Any]:
    """Return the example's tensors; whole numbers [N] come from the largest to the smallest, as packed sequences have to be."""
    found = {}
    for key, value in called.inputs.items():
        whole = value.dim() == 1 and not value.is_floating_point() and not value.is_complex()
        found[key] = value.sort(descending=True).values if whole else value
    return found


def _torchscript(called: Called, tensors: Mapping[str, Any], axes: Axes) -> onnx.ModelProto:
    import torch

    buffer = io.BytesIO()
    torch.onnx.export(
        adapter(called).eval(),
        tuple(tensors.values()),
        buffer,
        input_names=list(tensors),
        output_names=list(called.outputs),
        dynamic_axes={key: dict(own) for key, own in axes.items()},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_from_string(buffer.getvalue())


def _dynamo(called: Called, tensors: Mapping[str, Any], axes: Axes) -> onnx.ModelProto:
    import torch

    open_axes = tuple(dict.fromkeys(axes.get(key, {}), torch.export.Dim.DYNAMIC) or None for key in tensors)
    program = torch.onnx.export(
        adapter(called).eval(),
        tuple(tensors.values()),
        None,
        input_names=list(tensors),
        output_names=list(called.outputs),
        dynamic_shapes={"tensors": open_axes} if any(open_axes) else None,
        opset_version=NEWER_OPSET,
        dynamo=True,
        verbose=False,
    )
    model: onnx.ModelProto = program.model_proto
    return model
