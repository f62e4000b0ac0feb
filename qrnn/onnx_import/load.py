"""Import .onnx files, whole or between cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qrnn.model.float_model import FloatModel
from qrnn.onnx_import.control import FixedValue
from qrnn.onnx_import.parts.cut import cut_model, import_cut
from qrnn.onnx_import.parts.whole import Whole
from qrnn.onnx_import.source import OnnxModel, read_onnx


def load_onnx(
    model: OnnxModel,
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    window: int | None = None,
    cut_from: Sequence[str] = (),
    cut_to: Sequence[str] = (),
) -> FloatModel:
    """Import an ONNX model: an .onnx file with its external data, which must lie in the same folder or below it.

    ``model`` is the path of the file. It may also be its bytes, a file that is open for reading bytes, or an ``onnx.ModelProto``, all of them
    without external data.

    Memory and time are bounded in proportion to the size of these files; see docs/onnx_files.md.

    ``stream`` matters for a graph that runs one time step per call. Without it, a layer carries its states from step to step where they are
    inputs and outputs of the graph; any other layer begins every step with the same states, as the graph does. With it, all states are
    carried.

    ``state`` names graph inputs that hold past steps, each with the graph output that gives it on to the next call; most are found without
    it. They become a part of the model's state, which begins with zeros, and are no inputs and outputs of the model.

    ``values`` fixes inputs of the graph, such as a sampling rate that chooses a branch (``{"sr": 16000}``), and free sizes, by their name in
    the file or as ``"INPUT[AXIS]"``. A fixed input is a constant, and no input of the model.

    ``shapes`` are those of arrays for the inputs, batch first. Where a graph of one step per call, whose input is [N, *features], leaves
    sizes of features free, these are taken from the array [N, T, *features].

    ``window`` makes what the graph normalizes over time a normalization over so many last steps, or with 0 over all steps so far, so that
    it streams; a note of the model says so. Without it, such a model runs over whole sequences alone.

    ``cut_from`` and ``cut_to`` name tensors between which the graph is imported, as if it began and ended there: the former are inputs of
    the model, the latter outputs; see `qrnn.cut_onnx`, which makes the graphs before and behind them.

    Raises `ModelFileError` when the file is missing, damaged or inconsistent, and `UnsupportedError` with everything that is not
    implemented.
    """
    source = read_onnx(model)
    if cut_from or cut_to:
        cut = cut_model(Whole(source), cut_from, cut_to)
        return import_cut(cut, stream, state, values, shapes, window)
    return source.imported(stream, state, values, shapes, window)
