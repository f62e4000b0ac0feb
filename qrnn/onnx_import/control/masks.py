"""States that are kept behind the end of each sequence: where the iteration is not below its length."""

from __future__ import annotations

import onnx

from qrnn.onnx_import.control.body import Body, NotRecognised, root, writers
from qrnn.onnx_import.control.counting import Count, Counts
from qrnn.onnx_import.control.node_cells import SHAPES
from qrnn.onnx_import.control.writer import Writer


def take_lengths(flat: Writer, body: Body) -> str:
    """Return the lengths [N] of sequences by which all states of a body are kept, and let the states be those without; nothing without any."""
    if body.counts is None:
        return ""
    written = writers(body.nodes)
    found: dict[str, str] = {}
    for state in body.states:
        node = written.get(root(state.after, written))
        if node is None or node.op_type != "Where" or root(node.input[2], written) != state.before:
            continue
        lengths = _lengths(flat, body.counts, body, node.input[0], written)
        if lengths:
            found[state.before] = lengths
            state.after = node.input[1]
    if not found:
        return ""
    if len(found) < len(body.states) or len(set(found.values())) > 1:
        raise NotRecognised("it keeps only some of its states behind the end of a sequence, or by different lengths")
    if any(read.reverse for read in body.reads):
        raise NotRecognised("it reads padded sequences from their last step to their first")
    lengths = next(iter(found.values()))
    made = flat.names.unique(f"{lengths}_int32")
    flat.node("Cast", [lengths], [made], made, to=onnx.TensorProto.INT32)
    return made


def _lengths(flat: Writer, counts: Counts, body: Body, mask: str, written: dict[str, onnx.NodeProto]) -> str:
    """Return the lengths of which a mask says whether the iteration is below them, nothing for another mask."""
    node = written.get(mask)
    for _ in range(len(written)):
        if node is None or node.op_type not in SHAPES:
            break
        node = written.get(node.input[0])
    if node is None or node.op_type not in ("Less", "Greater"):
        return ""
    iteration, lengths = node.input if node.op_type == "Less" else node.input[::-1]
    dims = flat.facts.of(lengths).dims
    known = counts.of(iteration) == Count(steps=1) and lengths not in body.inner
    return lengths if known and dims is not None and len(dims) == 1 else ""
