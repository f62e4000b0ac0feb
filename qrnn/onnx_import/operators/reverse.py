"""ReverseSequence: each sequence's own steps in reverse, and its padding where it was."""

from __future__ import annotations

from qrnn.onnx_import.builder import Builder, NodeLengths
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.operators.recurrent import lengths_input
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.reversal import flipped
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.values import BATCH, TIME, Features


@operator("ReverseSequence")
def reverse_sequence(node: Node, build: Builder) -> Features:
    """Import ReverseSequence over time; two of them cancel, and recurrent layers between them run in the other direction."""
    value = node.features(0, "its input")
    rank = value.ids.ndim
    time, batch = node.axis(int(node.take("time_axis", 0)), rank), node.axis(int(node.take("batch_axis", 1)), rank)
    if build.one_step:
        lengths_input(node, build, 1)
        return value
    if value.axes[time] is not TIME or value.axes[batch] is not BATCH:
        raise node.refuse(
            f"reverses axis {time} of {value.describe()} with the batch at axis {batch}; only time can be reversed, of each sequence"
        )
    lengths = lengths_input(node, build, 1)
    build.lengths_of.append(NodeLengths(node.where, lengths, lengths is None))
    return flipped(node, build, value, lengths or "")


@axis_rule("ReverseSequence")
def reverse_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes, which are time and batch where the attributes say so; the second input is that of lengths."""
    value: AxisTensor = node.input(0)
    time = node.axis(int(node.take("time_axis", 0)), value.rank)
    batch = node.axis(int(node.take("batch_axis", 1)), value.rank)
    roles.same(value.axes[time], roles.time, node.name)
    roles.same(value.axes[batch], roles.batch, node.name)
    lengths = node.input(1)
    if isinstance(lengths, AxisTensor):
        roles.mark(lengths, "lengths", node.name)
        if lengths.rank == 1:
            roles.same(lengths.axes[0], roles.batch, node.name)
    return value
