"""DepthToSpace and SpaceToDepth: channels that become the elements of blocks of two axes, and back; over time they become steps."""

from __future__ import annotations

from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import Axis, AxisTensor, Roles
from qrnn.onnx_import.unstacking import unstacked
from qrnn.onnx_import.values import TIME, Features


def _block(node: Node, value: Features) -> int:
    """Return the size of blocks; refuse a value whose axes are not [N, C, H, W], with time as one of the last two at most."""
    size = int(node.take("blocksize", 0))
    if size < 1:
        raise node.damaged(f"blocksize={size}, expected at least 1")
    if value.ids.ndim != 4:
        raise node.damaged(f"reads {value.describe()}, expected four axes, [N, C, H, W]")
    if value.axes[1] is not None or any(symbol not in (None, TIME) for symbol in value.axes[2:]):
        raise node.refuse(
            f"reads {value.describe()}; only [N, C, H, W] with the batch first and channels next is supported"
        )
    return size


def _mode(node: Node) -> str:
    """Return whether the elements of a block are in front of the channels, DCR, or behind them, CRD."""
    mode = str(node.take("mode", "DCR"))
    if mode not in ("DCR", "CRD"):
        raise node.damaged(f"mode={mode!r}, expected DCR or CRD")
    return mode


@operator("DepthToSpace")
def depth_to_space(node: Node, build: Builder) -> Features:
    """Import DepthToSpace over axes of features, and over time as several steps for each."""
    value = node.features(0, "input")
    size, mode = _block(node, value), _mode(node)
    batch, channels, *places = value.ids.shape
    if channels % size**2:
        raise node.damaged(f"blocksize={size} does not fit the {channels} channels of {value.describe()}")
    node.reserve_features(value.ids.size)
    by_block = [size, size, channels // size**2] if mode == "DCR" else [channels // size**2, size, size]
    ids = value.ids.reshape(batch, *by_block, *places)
    ids = ids.transpose(0, 3, 1, 2, 4, 5) if mode == "DCR" else ids  # N, C, rows and columns of a block, H, W
    high, wide = (places[0] * size, places[1] * size)
    if TIME not in value.axes or size == 1:
        return Features(ids.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, high, wide), value.axes)
    if value.axes[2] is TIME:
        phases = [ids[:, :, k].transpose(0, 1, 3, 4, 2).reshape(batch, -1, 1, wide) for k in range(size)]
    else:
        phases = [ids[:, :, :, k].transpose(0, 1, 3, 2, 4).reshape(batch, -1, high, 1) for k in range(size)]
    return unstacked(node, build, [Features(phase, value.axes) for phase in phases])


@operator("SpaceToDepth")
def space_to_depth(node: Node, build: Builder) -> Features:
    """Import SpaceToDepth over axes of features."""
    value = node.features(0, "input")
    size, mode = _block(node, value), _mode(node)
    if TIME in value.axes and size > 1:
        raise node.refuse(
            f"puts every {size} steps of {value.describe()} side by side; re-export with Reshape and Transpose over [N, T, …]"
        )
    batch, channels, high, wide = value.ids.shape
    if high % size or wide % size:
        raise node.damaged(f"blocksize={size} does not divide {high} and {wide}")
    node.reserve_features(value.ids.size)
    ids = value.ids.reshape(batch, channels, high // size, size, wide // size, size)
    ids = ids.transpose(0, 3, 5, 1, 2, 4) if mode == "DCR" else ids.transpose(0, 1, 3, 5, 2, 4)
    return Features(ids.reshape(batch, -1, high // size, wide // size), value.axes)


@axis_rule("DepthToSpace", "SpaceToDepth")
def block_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the batch, and the last two axes with other sizes."""
    value: AxisTensor = node.input(0)
    size = int(node.take("blocksize", 1))
    up = node.op == "DepthToSpace"
    if value.rank != 4 or size < 2:
        return value
    area = size * size
    batch, channels, *places = value.axes
    made: list[Axis] = [roles.made(_scaled(channels, area, not up), node.name)]
    for axis in places:
        made.append(roles.made(_scaled(axis, size, up), node.name))
        roles.same(made[-1], axis, node.name)
    return AxisTensor((batch, *made), value.sources)


def _scaled(axis: Axis, by: int, more: bool) -> int | None:
    """Return the size of an axis times a number, or divided by it; None where it is not known."""
    return None if axis.size is None else axis.size * by if more else axis.size // by
