"""Graph inputs: what the file declares, and what they become once their roles are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from qrnn.errors import UnsupportedError
from qrnn.model.float_model import GraphInput
from qrnn.model.given_lengths import RESERVED
from qrnn.model.time import TIME as AXIS
from qrnn.onnx_import.budget import BudgetError
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.problems import Problems
from qrnn.onnx_import.roles import InputRole, Roles
from qrnn.onnx_import.time_axes import TimedInput, shared_axes
from qrnn.onnx_import.values import BATCH, MOST_AXES, POISON, TIME, Features, Symbol, TensorKind


@dataclass(frozen=True)
class DeclaredInput:
    """A graph input that is no initializer; ``dims`` are its sizes, None where dynamic; ``names`` are the names of these, if they have any."""

    name: str
    dims: list[int | None]
    numeric: bool
    names: tuple[str, ...] = ()

    def describe(self) -> str:
        """Return the name and the shape, for messages."""
        return f"input '{self.name}' {shape_text(self.dims)}"


def shape_text(dims: list[int | None]) -> str:
    """Return a shape in words, with ? for a size that is not known."""
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"


def declared_inputs(graph: onnx.GraphProto, constants: frozenset[str]) -> dict[str, DeclaredInput]:
    """Return the true inputs in order; files before IR version 4 list the initializers as inputs too."""
    result = {}
    for info in graph.input:
        if info.name in constants:
            continue
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise UnsupportedError(
                f"input '{info.name}' is not a tensor of declared shape; re-export with its shape declared"
            )
        dims: list[int | None] = []
        for k, dim in enumerate(kind.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value == 0:
                raise UnsupportedError(
                    f"input '{info.name}' has size 0 at axis {k}; re-export with a size of at least 1"
                )
            # some exporters write -1 for a dynamic size
            dims.append(int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None)
        texts = (
            onnx.TensorProto.STRING,
            onnx.TensorProto.COMPLEX64,
            onnx.TensorProto.COMPLEX128,
            onnx.TensorProto.BOOL,
        )
        names = tuple(dim.dim_param for dim in kind.shape.dim)
        result[info.name] = DeclaredInput(info.name, dims, kind.elem_type not in texts, names)
    return result


def declared_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | str, ...]]:
    """Return the sizes, or their names, of every value whose shape the file declares; 0 where it says neither."""
    infos = [*graph.value_info, *graph.output]
    return {
        info.name: tuple(dim.dim_param or int(dim.dim_value) for dim in info.type.tensor_type.shape.dim)
        for info in infos
    }


def place_inputs(
    build: Builder,
    roles: Roles,
    inputs: dict[str, DeclaredInput],
    used: set[str],
    problems: Problems,
    quiet: bool,
) -> dict[str, Any]:
    """Return each used input as features of a new tensor.

    With ``quiet``, an input without a role is not reported, because it is the consequence of another problem.
    """
    values: dict[str, Any] = {}
    if build.one_step:
        build.baked[TIME].add(1)
    known = _names(roles, inputs)
    found = {}
    for name, declared in inputs.items():
        if name in used:
            role = roles.role(name)
            named = build.batch is not None and not build.one_step
            found[name] = _by_name(declared, role, known) if named else role
    axes = _axes(build, roles, inputs, found)
    for name, declared in inputs.items():
        values[name] = POISON
        if name not in used:
            build.notes.append(f"input '{name}' is not used by any output and is ignored")
            continue
        try:
            role = found[name]
            values[name] = _place(build, _sized(build, declared, role, roles), role, quiet, axes.get(name, AXIS))
        except BudgetError:
            raise
        except UnsupportedError as error:
            problems.refuse(str(error))
    steps = [
        (baked, "numbers of time steps", "time axis") for baked in (build.baked[TIME], *build.other_steps.values())
    ]
    for baked, what, axis in (*steps, (build.baked[BATCH], "batch sizes", "batch")):
        if len(baked) > 1:
            problems.refuse(f"the inputs declare different {what} {sorted(baked)}; re-export with a dynamic {axis}")
    return values


def _axes(
    build: Builder, roles: Roles, inputs: dict[str, DeclaredInput], found: dict[str, InputRole]
) -> dict[str, str]:
    """Return the time axis of each input over time, by the name that it has while layers are made: the first one is `AXIS`."""
    timed = []
    for name, role in found.items():
        if role.time is None or role.kind not in ("features", "tokens") or name in build.caches.pairs:
            continue
        declared, steps = inputs[name], roles.inputs[name].axes[role.time]
        free = declared.names[role.time] if role.time < len(declared.names) else ""
        timed.append(TimedInput(name, steps, declared.dims[role.time], free))
    axes = {} if build.one_step else shared_axes(roles, timed)
    first = next(iter(axes.values()), AXIS)
    if first == AXIS:
        return axes
    build.first_axis = first
    groups: dict[str, list[str]] = {}
    for name, axis in axes.items():
        groups.setdefault(axis, []).append(f"'{name}'")
    build.other_steps = {axis: set() for axis in groups if axis != first}
    build.notes.append(
        "inputs have lengths of their own: "
        + "; ".join(f"{' and '.join(names)} over the time axis '{axis}'" for axis, names in groups.items())
    )
    return {name: AXIS if axis == first else axis for name, axis in axes.items()}


def _names(roles: Roles, inputs: dict[str, DeclaredInput]) -> dict[Symbol, set[str]]:
    """Return the names that the file gives to the sizes of batch and time of those inputs of which these axes are known."""
    found: dict[Symbol, set[str]] = {BATCH: set(), TIME: set()}
    for name, declared in inputs.items():
        role = roles.role(name)
        for symbol, axis in ((BATCH, role.batch), (TIME, role.time)):
            if axis is not None and declared.dims[axis] is None:
                found[symbol].update(declared.names[axis : axis + 1])
    return {symbol: names - {""} for symbol, names in found.items()}


def _by_name(declared: DeclaredInput, role: InputRole, known: dict[Symbol, set[str]]) -> InputRole:
    """Return the role of an input with axes that reach no recurrent layer, and have the name of the batch or the steps of one that does."""
    for symbol in (BATCH, TIME):
        axis = role.batch if symbol is BATCH else role.time
        named = [k for k, name in enumerate(declared.names) if name in known[symbol] and declared.dims[k] is None]
        others = known[BATCH if symbol is TIME else TIME]
        if axis is not None or len(named) != 1 or declared.names[named[0]] in others:
            continue
        if symbol is BATCH and named[0] != role.time:
            role = replace(role, batch=named[0])
        elif symbol is TIME and named[0] != role.batch and role.kind in ("features", "tokens"):
            role = replace(role, time=named[0])
    return role


def _sized(build: Builder, declared: DeclaredInput, role: InputRole, roles: Roles) -> DeclaredInput:
    """Return the input with the sizes of features that the file leaves open, where the nodes that read them say these."""
    dims = list(declared.dims)
    for k, size in enumerate(dims):
        if size is None and k not in (role.batch, role.time) and (used := roles.size_of_use(declared.name, k)):
            dims[k] = used
            build.notes.append(
                f"{declared.describe()} leaves the size of axis {k} open; it is {used}, as the nodes that read it need it"
            )
    return replace(declared, dims=dims)


def _place(build: Builder, declared: DeclaredInput, role: InputRole, quiet: bool, over: str) -> Any:
    name, where = declared.name, declared.describe()
    if role.kind == "weight":
        raise UnsupportedError(
            f"{where} is read by node '{role.used_by}': weights as graph inputs are not supported; re-export with constant weights "
            "(initializers)"
        )
    if name in RESERVED and (name, role.kind) != ("lengths", "lengths"):
        raise UnsupportedError(
            f"{where}: {' and '.join(RESERVED)} are reserved for arrays beside the inputs; rename the input in the graph"
        )
    batch = None if build.batch is None else role.batch
    if batch is None and build.batch is not None:
        if quiet:
            return POISON
        raise UnsupportedError(
            f"{where} does not reach an LSTM, GRU or RNN along a traceable batch axis; re-export with a batch axis, with constant "
            "weights, and with batch and time as axes of their own"
        )
    if not declared.numeric:
        raise UnsupportedError(f"{where} does not hold numbers; re-export with a numeric input")
    if len(declared.dims) > MOST_AXES:
        raise UnsupportedError(f"{where} has {len(declared.dims)} axes; at most {MOST_AXES} are supported")
    # the steps of a cache are elements of the one step of a call
    time = None if build.one_step and name in build.caches.pairs else role.time
    if time is not None and role.kind in ("state", "lengths"):
        raise UnsupportedError(
            f"{where} is used as {role.kind} but has a time axis ({time}); re-export with [directions, N, hidden] states"
        )
    sizes, axes = _sizes(build, declared, batch, time, over)
    shape = tuple(s for s, a in zip(sizes, axes, strict=True) if a is None)
    features = int(np.prod(shape, dtype=object))
    if name in build.caches.pairs and role.kind == "features":
        if time is not None:
            raise UnsupportedError(
                f"{where} is a cache of past steps, but its axis {time} is the time axis of new ones; re-export with the past steps along "
                "an axis of its own"
            )
        tensor = build.new_tensor(name, False, features, True, "cache")
        held = Features(tensor.ids.reshape(sizes), axes)
        build.caches.tensors[name] = tensor, held
        build.notes.append(
            f"input '{name}' and output '{build.caches.pairs[name]}' hold past steps; here these are a part of the model's state, which begins "
            "with zeros"
        )
        return held
    if role.kind in ("tokens", "lengths") and shape:
        raise UnsupportedError(
            f"{where} holds {role.kind} and has further axes; re-export with one {role.kind[:-1]} per place"
        )
    has_time = role.kind in ("features", "tokens") and (time is not None or build.one_step)
    kind: TensorKind = role.kind
    tensor = build.new_tensor(name, False, features, has_time, kind)
    build.inputs[name] = GraphInput(name, role.kind, shape, has_time, batch_axis=batch, time_axis=time, axis=over)
    if has_time:
        build.place(tensor, over)
    return Features(tensor.ids.reshape(sizes), axes)


def _sizes(
    build: Builder, declared: DeclaredInput, batch: int | None, time: int | None, over: str
) -> tuple[list[int], tuple[Symbol | None, ...]]:
    """Return sizes with 1 for batch and time, and which axis is which; baked sizes are noted."""
    sizes: list[int] = []
    axes: list[Symbol | None] = []
    for k, size in enumerate(declared.dims):
        named = declared.names[k : k + 1] if size is None else ()
        if k == batch or (k == time and over == AXIS):
            build.named[BATCH if k == batch else TIME].update(filter(None, named))
        if k == batch:
            if size is not None:
                build.baked[BATCH].add(size)
                build.notes.append(f"input '{declared.name}' declares batch size {size}; any batch size runs")
            sizes.append(1)
            axes.append(BATCH)
        elif k == time:
            if size is not None:
                (build.baked[TIME] if over == AXIS else build.other_steps[over]).add(size)
                if not build.one_step:
                    build.notes.append(f"input '{declared.name}' declares {size} time steps; any number runs")
            sizes.append(1)
            axes.append(TIME)
        elif size is None:
            raise UnsupportedError(
                f"{declared.describe()} has no fixed size at feature axis {k}; re-export with a fixed number of features"
            )
        else:
            sizes.append(size)
            axes.append(None)
    return sizes, tuple(axes)
