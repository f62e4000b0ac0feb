"""Resize and Upsample: nearest neighbours are features read again, or steps that are repeated; linear ones are a matrix over an axis."""

from __future__ import annotations

import numpy as np

from qrnn.arithmetic.reals import round_half_up
from qrnn.model.kinds.conv import Conv
from qrnn.model.parts import FloatArray, IndexArray
from qrnn.model.window import EACH, LARGEST_WINDOW
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.lengths import rule_of
from qrnn.onnx_import.node import Node
from qrnn.onnx_import.registry import axis_rule, operator
from qrnn.onnx_import.roles import AxisTensor, Roles
from qrnn.onnx_import.unstacking import unstacked
from qrnn.onnx_import.values import AXIS_NAMES, BATCH, TIME, Dim, Features, Product, Symbol, is_shape

COORDINATES = (
    "half_pixel",
    "pytorch_half_pixel",
    "asymmetric",
    "align_corners",
    "tf_half_pixel_for_nn",
    "half_pixel_symmetric",
)
"""The values of ``coordinate_transformation_mode`` that are supported."""

ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
"""The values of ``nearest_mode``."""

SAMPLED_STEPS = 9
"""The steps of time of which the neighbours are looked at."""


@operator("Resize", "Upsample")
def resize(node: Node, build: Builder) -> Features:
    """Import Resize and Upsample: nearest over axes of features and, by whole factors, over time; linear over axes of features."""
    value = node.features(0, "X")
    found = [_scale(node, build, value, axis) for axis in range(value.ids.ndim)]
    mode, coordinates, rounding = _modes(node)
    node.take("axes")
    node.take("scales")
    for axis, (size, (scale, target)) in enumerate(zip(value.ids.shape, found, strict=True)):
        if value.axes[axis] is TIME:
            if scale != 1.0:
                value = _repeated(node, build, value, axis, scale, (mode, coordinates, rounding))
            continue
        if value.axes[axis] is not None:
            if scale != 1.0:
                raise node.refuse(
                    f"resizes the {AXIS_NAMES[value.axes[axis] or BATCH]} axis {axis} of {value.describe()} by {scale:g}; "
                    "run this part outside the model"
                )
            continue
        if target == size and scale == 1.0:
            continue
        if target < 1:
            raise node.damaged(f"resizes axis {axis} of size {size} to {target}")
        node.reserve_features(value.ids.size // max(1, size) * target)
        places = _places(size, target, scale, coordinates)
        if mode == "nearest":
            value = Features(np.take(value.ids, _nearest(places, size, rounding, scale), axis=axis), value.axes)
        else:
            node.reserve(2 * size * target)
            value = _linear(node, build, value, axis, _linear_weights(places, size))
    return value


def _modes(node: Node) -> tuple[str, str, str]:
    """Return mode, coordinates and rounding; refuse by name what is not supported."""
    mode = str(node.take("mode", "nearest"))
    old = node.op == "Upsample" or node.opset < 11
    coordinates = "asymmetric" if old else str(node.take("coordinate_transformation_mode", "half_pixel"))
    rounding = "simple" if old else str(node.take("nearest_mode", "round_prefer_floor"))
    for name in ("cubic_coeff_a", "exclude_outside", "extrapolation_value"):  # of other modes than are taken
        node.take(name)
    if mode not in ("nearest", "linear"):
        raise node.refuse(f"mode={mode!r} is not supported, only nearest and linear; run this part outside the model")
    if coordinates not in COORDINATES:
        raise node.refuse(
            f"coordinate_transformation_mode={coordinates!r} is not supported, only {', '.join(COORDINATES)}"
        )
    if rounding not in (*ROUNDINGS, "simple"):
        raise node.damaged(f"nearest_mode={rounding!r}, expected one of {', '.join(ROUNDINGS)}")
    if int(node.take("antialias", 0)) and mode != "nearest":
        raise node.refuse("antialias=1 is not supported; run this part outside the model")
    policy = str(node.take("keep_aspect_ratio_policy", "stretch"))
    if policy != "stretch":
        raise node.refuse(f"keep_aspect_ratio_policy={policy!r} is not supported; re-export with scales")
    return mode, coordinates, rounding


def _scale(node: Node, build: Builder, value: Features, axis: int) -> tuple[float, int]:
    """Return by what an axis is scaled, and its size then, as ONNX Runtime computes them in float32; 0 for the size of batch or time."""
    rank, size = value.ids.ndim, value.ids.shape[axis]
    listed = node.peek("axes")
    axes = list(range(rank)) if listed is None else [node.axis(int(a), rank) for a in listed]
    if axis not in axes:
        return 1.0, size
    place = axes.index(axis)
    scales, sizes = _given(node, len(axes))
    if scales is not None:
        scale = np.float32(scales[place])
        if not np.isfinite(scale) or scale <= 0:
            raise node.damaged(f"scales holds {scales[place]}, expected numbers above 0")
        if value.axes[axis] is not None:
            return float(scale), 0
        _check_scale(node, axis, size, float(scale))
        return float(scale), int(np.float32(size) * scale)
    target = sizes[place] if sizes is not None else size
    if value.axes[axis] is None:
        if isinstance(target, Symbol):
            raise node.refuse(
                f"resizes axis {axis} of {value.describe()} to the size {target}; only numbers are supported"
            )
        return float(np.float32(target) / np.float32(size)), int(target)
    factor = 1
    if isinstance(target, Product) and len(target.factors) == 1:
        factor, target = target.count, target.factors[0]
    own = target is value.axes[axis] if value.axes[axis] is not TIME else rule_of(target) == build.length_rule(value)
    declared = build.sizes(value).get(TIME, set()) if value.axes[axis] is TIME else set()
    if isinstance(target, int) and declared and all(target % steps == 0 for steps in declared) and len(declared) == 1:
        return float(target // next(iter(declared))), 0
    if not own:
        raise node.refuse(f"resizes axis {axis} of {value.describe()} to {target}; re-export with scales")
    return float(factor), 0


def _check_scale(node: Node, axis: int, size: int, scale: float) -> None:
    """Refuse a scale that gives no whole number of elements where coordinates depend on that number.

    The standard puts the product itself in its formula, and ONNX Runtime the whole number.
    """
    coordinates = node.peek("coordinate_transformation_mode", "half_pixel")
    one = coordinates == "pytorch_half_pixel" and 1 < size * scale < 2
    if not (size * scale).is_integer() and (coordinates == "align_corners" or one):
        raise node.refuse(
            f"scales axis {axis} of size {size} by {scale:g}, no whole number of elements, with coordinate_transformation_mode="
            f"{coordinates!r}, which runtimes compute in different ways; re-export with sizes"
        )


def _given(node: Node, rank: int) -> tuple[list[float] | None, list[Dim] | None]:
    """Return the scales or the sizes, of ``rank`` axes; the other one is None."""
    place = 1 if node.op == "Upsample" or node.opset < 11 else 2
    scales = node.peek("scales")
    if scales is None and node.has_input(place):
        scales = node.constant(place, "scales").reshape(-1).tolist()
    if scales:
        if len(scales) != rank:
            raise node.damaged(f"scales lists {len(scales)} numbers for {rank} axes")
        if node.op == "Upsample" and min(scales) < 1:
            raise node.damaged(f"scales holds {min(scales)}, expected numbers of at least 1")
        return [float(s) for s in scales], None
    given = node.input(3) if place == 2 else None
    if given is None:
        raise node.damaged("has neither scales nor sizes")
    sizes: list[Dim] = list(given.reshape(-1)) if is_shape(given) else list(node.ints(3, "sizes"))
    if len(sizes) != rank:
        raise node.damaged(f"sizes lists {len(sizes)} numbers for {rank} axes")
    return None, sizes


def _places(size: int, target: int, scale: float, coordinates: str) -> FloatArray:
    """Return where each of ``target`` elements lies among ``size`` ones, in float32 as ONNX Runtime computes it, which decides ties."""
    x, by, half = np.arange(target, dtype=np.float32), np.float32(scale), np.float32(0.5)
    if coordinates == "asymmetric":
        found = x / by
    elif coordinates == "tf_half_pixel_for_nn":
        found = (x + half) / by
    elif coordinates == "align_corners":
        found = x * np.float32(size - 1) / np.float32(target - 1) if target > 1 else np.zeros_like(x)
    elif coordinates == "pytorch_half_pixel" and target == 1:
        found = np.zeros_like(x)
    elif coordinates == "half_pixel_symmetric":
        offset = np.float32(size) / np.float32(2) * (1 - np.float32(target) / (np.float32(size) * by))
        found = offset + (x + half) / by - half
    else:
        found = (x + half) / by - half
    return found.astype(np.float64)


def _nearest(places: FloatArray, size: int, rounding: str, scale: float) -> IndexArray:
    """Return the element that is nearest to each place."""
    if rounding == "simple":  # before opset 11
        found = np.ceil(places) if scale < 1.0 else np.floor(places)
    elif rounding == "round_prefer_floor":
        found = np.ceil(places - 0.5)
    elif rounding == "round_prefer_ceil":
        found = round_half_up(places)
    else:
        found = np.floor(places) if rounding == "floor" else np.ceil(places)
    return np.clip(found, 0, size - 1).astype(np.int64)


def _linear_weights(places: FloatArray, size: int) -> FloatArray:
    """Return the weights [target, size] of the elements on both sides of each place."""
    inside = np.clip(places, 0, size - 1)
    left = np.minimum(np.floor(inside).astype(np.int64), size - 1)
    right = np.minimum(left + 1, size - 1)
    weights = np.zeros((len(places), size))
    rows = np.arange(len(places))
    np.add.at(weights, (rows, left), 1.0 - (inside - left))
    np.add.at(weights, (rows, right), inside - left)
    return weights


def _linear(node: Node, build: Builder, value: Features, axis: int, weights: FloatArray) -> Features:
    """Return the sums along an axis of features with the ``weights`` [target, size], by a layer that multiplies all other places by them."""
    target, size = weights.shape
    moved = np.moveaxis(value.ids, axis, -1)
    places = moved.size // size
    tensor, indices = build.operand(node, Features(moved, (None,) * moved.ndim))
    if not tensor.has_time:
        raise node.refuse(
            f"mode='linear' over features of '{tensor.name}', which has no time axis; run this part outside the model"
        )
    if not np.array_equal(indices, np.arange(tensor.features)):
        tensor = build.gathered(node, indices + tensor.start)[0]
    output = build.result(node, places * target, True, part=f".axis_{axis}")
    layer = Conv(
        f"{node.name}/axis_{axis}",
        tensor.name,
        output.name,
        weights[:, :, None, None],
        np.zeros(target),
        EACH,
        EACH,
        places,
    )
    build.add_matrix(layer)
    ids = np.moveaxis(output.ids.reshape(*moved.shape[:-1], target), -1, axis)
    return Features(np.ascontiguousarray(ids), value.axes)


def _repeated(
    node: Node, build: Builder, value: Features, axis: int, scale: float, modes: tuple[str, str, str]
) -> Features:
    """Return steps that are repeated: the nearest neighbours of a whole scale over time."""
    mode, coordinates, rounding = modes
    whole = mode == "nearest" and coordinates != "align_corners" and scale.is_integer() and 1 <= scale <= LARGEST_WINDOW
    times = int(scale) if whole else 1
    if not whole or not all(_repeats(size, times, coordinates, rounding) for size in range(1, SAMPLED_STEPS + 1)):
        raise node.refuse(
            f"resizes the time axis {axis} of {value.describe()} by {scale:g} with mode={mode!r}, coordinate_transformation_mode="
            f"{coordinates!r} and nearest_mode={rounding!r}; only whole scales that repeat each step are supported"
        )
    return unstacked(node, build, [value] * times)


def _repeats(size: int, times: int, coordinates: str, rounding: str) -> bool:
    """Return whether the nearest neighbours at a whole scale are each of ``size`` elements ``times`` times."""
    places = _places(size, size * times, times, coordinates)
    return np.array_equal(_nearest(places, size, rounding, times), np.arange(size * times) // times)


@axis_rule("Resize", "Upsample")
def resize_axes(node: Node, roles: Roles) -> AxisTensor:
    """Carry the axes; one that is resized has another size, and the role that it had."""
    value: AxisTensor = node.input(0)
    listed = node.peek("axes")
    axes = list(range(value.rank)) if listed is None else [node.axis(int(a), value.rank) for a in listed]
    place = 1 if node.op == "Upsample" or node.opset < 11 else 2
    scales = node.peek("scales")
    given = node.input(place) if scales is None else np.asarray(scales)
    sizes = node.input(3) if place == 2 else None
    found = list(value.axes)
    for k, axis in enumerate(axes):
        old, size = value.axes[axis].size, None
        if isinstance(given, np.ndarray) and given.dtype != object and given.size == len(axes):
            scale = float(given.reshape(-1)[k])
            if scale == 1.0:
                continue
            size = None if old is None or not 0 < scale * old < 1 << 31 else int(np.float32(old) * np.float32(scale))
        elif isinstance(sizes, np.ndarray) and sizes.size == len(axes):
            target = sizes.reshape(-1)[k]
            if isinstance(target, Symbol) or int(target) == old:
                continue
            size = int(target)
        made = roles.made(size, node.name)
        roles.same(made, value.axes[axis], node.name)
        found[axis] = made
    return AxisTensor(tuple(found), value.sources)
