"""Convert an ONNX model in memory to a `FloatModel`, in two passes over the nodes: one for the roles of axes, one for the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import checker, inliner

from qrnn.errors import DataError, ModelFileError, QrnnError, UnsupportedError
from qrnn.model.float_model import FloatModel
from qrnn.model.kinds.running_norm import RunningNorm
from qrnn.model.window import LARGEST_WINDOW
from qrnn.onnx_import import operators
from qrnn.onnx_import.alike_steps import with_joined_steps
from qrnn.onnx_import.budget import Budget, BudgetError
from qrnn.onnx_import.builder import Builder
from qrnn.onnx_import.cache_pairs import cache_pairs, ordered
from qrnn.onnx_import.caches import Caches
from qrnn.onnx_import.cells.graph import replaced, with_cells
from qrnn.onnx_import.claims import settle
from qrnn.onnx_import.constants import FOLDABLE, fold, refuse_external, to_numpy
from qrnn.onnx_import.control import FixedValue, plain_graph
from qrnn.onnx_import.finish import finished
from qrnn.onnx_import.inputs import DeclaredInput, declared_inputs, declared_shapes, place_inputs
from qrnn.onnx_import.node import DAMAGE, Node, first_line
from qrnn.onnx_import.problems import CONTROL_FLOW, DEFAULT_DOMAINS, Problems
from qrnn.onnx_import.registry import AXIS_RULES, HANDLERS, registered_name
from qrnn.onnx_import.roles import Roles
from qrnn.onnx_import.stand_ins import computed
from qrnn.onnx_import.structure import check_structure
from qrnn.onnx_import.values import (
    BATCH,
    LARGEST_FEATURES,
    POISON,
    TIME,
    Features,
    Symbol,
    as_value,
    check_size,
    is_shape,
)

assert operators  # imported for its registrations

OLDEST_OPSET = 7
RECURRENT = frozenset(["LSTM", "GRU", "RNN"])

MOST_DOUBTS = 5
"""The most values that look like the state of a cell and are named, where a graph has no recurrent node."""

SIZE_ARITHMETIC = frozenset(["Add", "Sub", "Div"])
"""The operators that compute numbers from sizes: half of the channels, or a step less."""


def import_model(
    model: onnx.ModelProto,
    name: str,
    source_sha256: str = "",
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    window: int | None = None,
) -> FloatModel:
    """Import a model whose external data, if any, are loaded; ``stream``, ``state``, ``values`` and ``window`` are as for `load_onnx`.

    Raises `ModelFileError` when the model is malformed, `UnsupportedError` with everything that is not implemented, and its subclass
    `BudgetError` when the model takes more memory or work than one of its size may.
    """
    budget = Budget(0)
    for tensor in check_structure(model, name, budget).tensors:
        refuse_external(tensor, f"model '{name}': tensor '{tensor.name}'")
    budget.allow(model.ByteSize())  # not before: protobuf counts recursively, and how deep is known only now
    return import_checked(model, name, source_sha256, budget, stream, state, values, window=window)


def import_checked(
    model: onnx.ModelProto,
    name: str,
    source_sha256: str,
    budget: Budget,
    stream: bool = False,
    state: Mapping[str, str] | None = None,
    values: Mapping[str, FixedValue] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    window: int | None = None,
) -> FloatModel:
    """Import a model that went through `check_structure` with this budget; see `import_model`, and `load_onnx` for ``shapes``."""
    if window is not None and not 0 <= window <= LARGEST_WINDOW:
        raise DataError(
            f"window={window}, expected a number of steps from 0 to {LARGEST_WINDOW}; 0 for all steps so far"
        )
    opset = _checked_opset(model, name)
    problems = Problems(name, model.producer_name, lambda proto: _is_known(proto, True))
    plain = plain_graph(checked_graph(model, name).graph, opset, budget, problems, values or {}, shapes or {})
    graph = plain.graph
    nodes = live_nodes(graph)
    inputs = declared_inputs(graph, frozenset(t.name for t in graph.initializer))
    joined = with_joined_steps(graph, nodes, opset, budget)
    if len(joined) != len(nodes):
        graph = replaced(graph, joined, [], budget)
        nodes = list(graph.node)
    written = with_cells(graph, nodes, opset, inputs, budget)
    if written.graph is not graph:
        graph, nodes = written.graph, list(written.graph.node)
    pairs = cache_pairs(graph, nodes, inputs, state or {}, budget)
    nodes = ordered(nodes, pairs, budget) if pairs else nodes
    constants = Constants(graph, budget, nodes)
    # control flow and custom operators may hide one: they are listed below
    if not pairs and not any(n.op_type in RECURRENT | CONTROL_FLOW or n.domain not in DEFAULT_DOMAINS for n in nodes):
        _refuse_without_recurrence(nodes, constants, written.refused, problems)
    roles, lost = find_roles(nodes, opset, constants, inputs, frozenset(pairs))
    problems.roles = {input_name: roles.role(input_name) for input_name in inputs}
    for conflict in roles.conflicts:
        problems.refuse(conflict)
    build = Builder(
        one_step=roles.one_step(),
        stream=stream,
        baked={BATCH: set(), TIME: set()},
        value_names=frozenset(o for n in nodes for o in n.output) | frozenset(inputs),
        budget=budget,
        caches=Caches(pairs),
        declared=declared_shapes(graph),
        window=window,
        normalized=frozenset(n.input[0] for n in nodes if n.op_type == "InstanceNormalization" and n.input),
        batch=None if not pairs and roles.without_batch() else BATCH,
    )
    used = {i for n in nodes for i in n.input} | {o.name for o in graph.output}
    build.notes += plain.notes
    placed = place_inputs(build, roles, inputs, used, problems, quiet=lost)
    build.notes += constants.notes + written.notes
    _build_layers(nodes, opset, constants, placed, build, problems, used)
    made = finished(graph, build, placed, problems, opset, name, source_sha256)
    if window is not None and not any(isinstance(layer, RunningNorm) for layer in made.layers):
        raise DataError(f"window={window}: model '{name}' normalizes nothing over time; leave the window out")
    return replace(made, values=plain.values)


def _refuse_without_recurrence(
    nodes: Sequence[onnx.NodeProto], constants: Constants, doubts: Sequence[str], problems: Problems
) -> None:
    """Refuse a graph in which nothing recurs, by name with whatever else in it is not supported.

    ``doubts`` say of what looks like a cell written out why it is none.
    """
    problems.without_recurrence(nodes)
    for doubt in doubts[:MOST_DOUBTS]:
        problems.refuse(doubt)
    for proto in nodes:
        if not _is_known(proto, constants.settled(proto)):
            problems.unsupported(proto)
    problems.raise_if_any()


class Constants:
    """The initializers, converted when first read (unused ones may be of any type), and results of nodes that read only constants."""

    def __init__(self, graph: onnx.GraphProto, budget: Budget, nodes: Sequence[onnx.NodeProto] = ()) -> None:
        if graph.sparse_initializer:
            raise UnsupportedError(
                f"graph '{graph.name}' has {len(graph.sparse_initializer)} sparse initializers; re-export with dense weights"
            )
        self._protos = {t.name: t for t in graph.initializer}
        self._arrays: dict[str, Any] = {}
        self.names = frozenset(self._protos)
        self.types = _element_types(graph, nodes)
        self.notes: list[str] = []
        """What the handlers of `settled` nodes noted in the first pass."""
        self.budget = budget
        self.computed: dict[int, tuple[Any, ...]] = {}
        """Place of a node among the live ones → its outputs, which both passes share: those of `settled` ones."""
        self._settled: set[str] = set()

    def settled(self, proto: onnx.NodeProto) -> bool:
        """Return whether a node depends on nothing but constants; nodes before it must have been asked first.

        The result of a Shape node does not count: the first pass may take an axis for a number that is batch or time in the second.
        """
        settled = all(not i or i in self.names or i in self._settled for i in proto.input)
        if settled:
            self._settled.update(proto.output)
        return settled

    def get(self, name: str) -> Any:
        """Return the initializer of that name as an array."""
        if name not in self._arrays:
            self._arrays[name] = to_numpy(self._protos[name], f"initializer '{name}'", self.budget)
        return self._arrays[name]


def _element_types(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> dict[str, int]:
    """Return the element type of every initializer, and of what Constant and Cast give, by name; values themselves hold it no longer."""
    types = {t.name: int(t.data_type) for t in graph.initializer}
    for proto in nodes:
        for a in proto.attribute:
            if proto.op_type == "Constant" and a.name == "value":
                types[proto.output[0]] = int(a.t.data_type)
            elif proto.op_type == "Cast" and a.name == "to":
                types[proto.output[0]] = int(a.i)
    return types


def _checked_opset(model: onnx.ModelProto, name: str) -> int:
    versions = [int(o.version) for o in model.opset_import if o.domain in DEFAULT_DOMAINS]
    newest = int(onnx.defs.onnx_opset_version())
    if not model.HasField("graph") or not model.graph.output:
        raise ModelFileError(f"model '{name}' has no graph with outputs; it is not an ONNX model or is damaged")
    if not versions:
        raise ModelFileError(f"model '{name}' names no opset of the standard operators; export it again")
    if len(set(versions)) > 1:
        raise ModelFileError(
            f"model '{name}' names the opsets {sorted(set(versions))} of the standard operators, expected one; export it again"
        )
    if not OLDEST_OPSET <= versions[0] <= newest:
        raise UnsupportedError(
            f"model '{name}' has opset {versions[0]}; opsets {OLDEST_OPSET} to {newest} are supported, export it again with one of these"
        )
    return versions[0]


def checked_graph(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model after the ONNX checker, with model-local functions inlined.

    The checker wants a shape of every output, which runtimes do without; so that of an output without one is there while it looks.
    """
    kinds = [output.type.tensor_type for output in model.graph.output if output.type.HasField("tensor_type")]
    bare = [kind for kind in kinds if not kind.HasField("shape")]
    try:
        for kind in bare:
            kind.shape.SetInParent()
        checker.check_model(model)
        return inliner.inline_local_functions(model) if model.functions else model
    except (checker.ValidationError, *DAMAGE) as error:
        raise ModelFileError(
            f"model '{name}' is not a valid ONNX model: {first_line(error)}; export it again"
        ) from error
    finally:
        for kind in bare:
            kind.ClearField("shape")


def live_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes that the outputs depend on, in order."""
    wanted = {o.name for o in graph.output}
    live = []
    for node in reversed(graph.node):
        if any(o in wanted for o in node.output if o):
            live.append(node)
            wanted.update(i for i in node.input if i)
    return live[::-1]


def _is_known(proto: onnx.NodeProto, constant: bool) -> bool:
    """Return whether a node has a handler, or can be folded because it reads constants only."""
    foldable = constant and proto.domain in DEFAULT_DOMAINS and proto.op_type in FOLDABLE
    return foldable or registered_name(proto) in HANDLERS


def _read(name: str, values: dict[str, Any], constants: Constants, proto: onnx.NodeProto) -> Any:
    if not name:
        return None
    if name not in values:
        if name not in constants.names:
            raise ModelFileError(
                f"node '{proto.name}' ({proto.op_type}) reads '{name}', which nothing writes; the file is damaged"
            )
        values[name] = constants.get(name)
    return values[name]


def _as_numbers(operand: Any) -> Any:
    """Return a list of sizes as numbers, where all of their axes have known ones; anything else as it is."""
    if not is_shape(operand) or any(isinstance(d, Symbol) and d.size is None for d in operand.reshape(-1)):
        return operand
    numbers = [d.size if isinstance(d, Symbol) else d for d in operand.reshape(-1)]
    return np.array(numbers, dtype=np.int64).reshape(operand.shape)


def find_roles(
    nodes: list[onnx.NodeProto],
    opset: int,
    constants: Constants,
    inputs: dict[str, DeclaredInput],
    caches: frozenset[str] = frozenset(),
) -> tuple[Roles, bool]:
    """Run the first pass, which finds the roles of axes and inputs.

    Return also whether an operator without a handler may have hidden the path from an input to a recurrent node.
    """
    roles = Roles(caches=caches)
    values: dict[str, Any] = {name: roles.add_input(name, declared.dims) for name, declared in inputs.items()}
    budget = constants.budget
    scratch = Builder(
        one_step=False, stream=False, baked={BATCH: set(), TIME: set()}, value_names=frozenset(), budget=budget
    )
    lost = False
    for place, proto in enumerate(nodes):
        operands = [_read(i, values, constants, proto) for i in proto.input]
        if proto.op_type in SIZE_ARITHMETIC:
            operands = [_as_numbers(operand) for operand in operands]
        results: Any = ()
        node = Node(proto, opset, operands, budget, constants.types)
        settled = constants.settled(proto)
        folded = all(v is None or isinstance(v, np.ndarray) for v in operands)
        known = not any(v is POISON for v in operands) and folded
        try:
            if not _is_known(proto, known):
                lost = True
            elif (
                known
                and proto.op_type not in RECURRENT
                and not (proto.op_type == "Range" and any(map(is_shape, operands)))
            ):
                results = _computed(proto, node, scratch, opset)
                if settled:
                    constants.computed[place] = results
                    constants.notes += scratch.notes
                scratch.notes.clear()
            elif registered_name(proto) in AXIS_RULES:
                results = AXIS_RULES[registered_name(proto)](node, roles)
        except BudgetError:
            raise
        except (QrnnError, *DAMAGE):
            results = ()  # an axis that is lost here is unnamed; the second pass says what is wrong with the node
        given = results if isinstance(results, tuple) else (results,)
        for k, output in enumerate(proto.output):
            values[output] = given[k] if k < len(given) and not isinstance(given[k], Features) else POISON
    settle(roles)
    return roles, lost


def _computed(proto: onnx.NodeProto, node: Node, build: Builder, opset: int) -> tuple[Any, ...]:
    """Return a node's outputs by its handler, or folded when it has none and reads constants."""
    constant = all(v is None or (isinstance(v, np.ndarray) and v.dtype != object) for v in node.inputs)
    if (name := registered_name(proto)) in HANDLERS and not (constant and name in FOLDABLE):
        with np.errstate(all="ignore"):  # constants may become infinite: who reads them as weights refuses them
            result = computed(proto, opset, node, build)
        results = result if isinstance(result, tuple) else (result,)
        left = node.leftovers()
        if left:
            raise node.refuse(f"attributes {', '.join(left)} are not supported; re-export without them")
    else:
        results = tuple(fold(proto, opset, node.inputs, node.budget))
    values = tuple(as_value(r) for r in results)
    for value in values:
        if isinstance(value, Features):
            check_size(value.ids.size, f"the result of {node.where}", LARGEST_FEATURES)
    return values


def _build_layers(
    nodes: list[onnx.NodeProto],
    opset: int,
    constants: Constants,
    values: dict[str, Any],
    build: Builder,
    problems: Problems,
    read: set[str],
) -> None:
    """Run the second pass: every node's handler on values.

    Refusals are collected, and their results poison what depends on them.
    """
    build.caches.watch(nodes, values)
    for place, proto in enumerate(nodes):
        operands = [_read(i, values, constants, proto) for i in proto.input]
        node = Node(proto, opset, operands, build.budget, constants.types)
        results: tuple[Any, ...] = ()
        constant = all(v is None or (isinstance(v, np.ndarray) and v.dtype != object) for v in operands)
        if not _is_known(proto, constant):
            problems.unsupported(proto)
        elif place in constants.computed:
            results = constants.computed[place]
        elif not any(v is POISON for v in operands):
            try:
                results = _computed(proto, node, build, opset)
            except BudgetError:
                raise
            except UnsupportedError as error:
                problems.refuse(str(error), node.name, node.where, next(filter(None, proto.output), ""))
            except QrnnError:
                raise
            except DAMAGE as error:
                raise node.damaged(
                    f"cannot be evaluated: {first_line(error)}; the file is damaged or not valid"
                ) from error
        for k, output in enumerate(proto.output):
            value = values[output] = results[k] if k < len(results) else POISON
            if output in build.caches.outputs and isinstance(value, Features):
                build.caches.given[output] = value
            if k >= len(results) > 0 and output in read:
                problems.refuse(
                    f"{node.where}: its output {k} ('{output}') is not supported; re-export without using it",
                    output=output,
                )
