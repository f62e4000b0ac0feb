"""Count what a model holds, without recursion, before anything else looks at it: nodes, nesting, names, tensors and functions.

The checker and the inliner of onnx walk a model recursively and write out every call of a function; both are only safe on a model that has
passed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import onnx

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.onnx_import.budget import ITEM_WORK, NODE_WORK, Budget
from qrnn.onnx_import.problems import DEFAULT_DOMAINS

LONGEST_NAME = 4096
"""The most characters of a name, since names are put together and quoted in messages."""

MOST_NESTED = 32
"""The deepest nesting of graphs in graphs and of types in types; a file that protobuf can parse has hardly more."""

MOST_CALLS_NESTED = 64
"""The deepest nesting of functions that call functions."""

Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


@dataclass
class Body:
    """The nodes of the main graph or of a function, with those of the graphs inside them."""

    nodes: int = 0
    size: int = 0
    """Bytes of a function in the file."""
    depth: int = 0
    """The depth of calls inside calls, for a body that is written out."""
    calls: list[Key] = field(default_factory=list)
    """The functions that its nodes may call: the nodes' domain, name and overload."""


@dataclass
class Structure:
    """The result of `check_structure`."""

    main: Body = field(default_factory=Body)
    functions: dict[Key, Body] = field(default_factory=dict)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    """Every tensor, wherever it stands: initializers (sparse ones by their parts), attributes, in subgraphs and functions too."""


def check_structure(model: onnx.ModelProto, name: str, budget: Budget) -> Structure:
    """Count a model's parts; `BudgetError` or `ModelFileError` for a model that has too many, nests too deep, or calls itself."""
    found = Structure()
    walk = _Walk(found, f"model '{name}'", budget)
    walk.graph(model.graph, found.main)
    for function in model.functions:
        key = (_domain(function.domain), function.name, function.overload)
        if key in found.functions:
            raise ModelFileError(f"model '{name}' defines the function '{function.name}' twice; export it again")
        found.functions[key] = Body()
        walk.names([function.name, function.domain, function.overload, *function.input, *function.output])
        walk.names(function.attribute)
        walk.attributes(function.attribute_proto, found.functions[key], 0)
        walk.nodes(function.node, found.functions[key], 0)
        walk.finish()
        found.functions[key].size = function.ByteSize()  # not before: protobuf counts recursively
    _check_calls(found, name, budget)
    return found


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else domain


class _Walk:
    """A walk through graphs inside graphs, with a list of those that are left."""

    def __init__(self, found: Structure, what: str, budget: Budget) -> None:
        self._found = found
        self._what = what
        self._budget = budget
        self._left: list[tuple[onnx.GraphProto, Body, int]] = []

    def graph(self, graph: onnx.GraphProto, body: Body) -> None:
        """Count a graph and all graphs inside it."""
        self._left.append((graph, body, 0))
        self.finish()

    def finish(self) -> None:
        """Go through the graphs that are left."""
        while self._left:
            graph, body, depth = self._left.pop()
            if depth > MOST_NESTED:
                raise UnsupportedError(
                    f"{self._what} has graphs nested more than {MOST_NESTED} deep; re-export without control flow"
                )
            infos = [graph.input, graph.output, graph.value_info]
            self._spend(sum(len(items) for items in [*infos, graph.initializer, graph.sparse_initializer]))
            self.names([graph.name])
            for info in (info for items in infos for info in items):
                self.names([info.name])
                self._type(info.type)
            for tensor in graph.initializer:
                self._tensor(tensor)
            for sparse in graph.sparse_initializer:
                self._sparse(sparse)
            self.nodes(graph.node, body, depth)

    def nodes(self, nodes: Iterable[onnx.NodeProto], body: Body, depth: int) -> None:
        """Count nodes and their attributes."""
        for node in nodes:
            self._budget.spend(f"{self._what}: interpreting its nodes", NODE_WORK)
            body.nodes += 1
            body.calls.append((_domain(node.domain), node.op_type, node.overload))
            self.names([node.name, node.op_type, node.domain, node.overload])
            self.names(node.input)
            self.names(node.output)
            if node.attribute:
                self.attributes(node.attribute, body, depth)

    def attributes(self, attributes: Iterable[onnx.AttributeProto], body: Body, depth: int) -> None:
        """Count attributes, and list the graphs in them."""
        for attribute in attributes:
            self._spend(1)
            self.names([attribute.name, attribute.ref_attr_name])
            if attribute.HasField("g"):
                self._left.append((attribute.g, body, depth + 1))
            if attribute.HasField("t"):
                self._tensor(attribute.t)
            if attribute.HasField("sparse_tensor"):
                self._sparse(attribute.sparse_tensor)
            if attribute.HasField("tp"):
                self._type(attribute.tp)
            self._left.extend((graph, body, depth + 1) for graph in attribute.graphs)
            for tensor in attribute.tensors:
                self._tensor(tensor)
            for sparse in attribute.sparse_tensors:
                self._sparse(sparse)
            for kind in attribute.type_protos:
                self._type(kind)

    def texts(self, texts: Iterable[str | bytes]) -> None:
        """Refuse texts that are not UTF-8, which protobuf hands out as bytes."""
        for text in texts:
            if isinstance(text, bytes):
                raise ModelFileError(f"{self._what} has a text that is not UTF-8 ({text[:40]!r}); export it again")

    def names(self, names: Iterable[str]) -> None:
        """Refuse names that are too long or not UTF-8."""
        for name in names:
            self.texts([name])
            if len(name) > LONGEST_NAME:
                raise UnsupportedError(
                    f"{self._what} has a name of {len(name)} characters ('{name[:40]}…'); at most {LONGEST_NAME} are supported; "
                    "re-export with shorter names"
                )

    def _tensor(self, tensor: onnx.TensorProto) -> None:
        self._spend(1)
        self.names([tensor.name])
        self.texts(text for entry in tensor.external_data for text in (entry.key, entry.value))
        self._found.tensors.append(tensor)

    def _sparse(self, sparse: onnx.SparseTensorProto) -> None:
        self._tensor(sparse.values)
        self._tensor(sparse.indices)

    def _type(self, kind: onnx.TypeProto) -> None:
        for _ in range(MOST_NESTED):
            held = kind.WhichOneof("value")
            if held not in ("sequence_type", "optional_type", "map_type"):
                break
            kind = kind.map_type.value_type if held == "map_type" else getattr(kind, held).elem_type
        else:
            raise UnsupportedError(
                f"{self._what} has types nested more than {MOST_NESTED} deep; re-export with tensors"
            )
        if held == "tensor_type":
            self._spend(len(kind.tensor_type.shape.dim))
            self.names(dim.dim_param for dim in kind.tensor_type.shape.dim)

    def _spend(self, items: int) -> None:
        self._budget.spend(f"{self._what}: its number of inputs, constants and attributes", items * ITEM_WORK)


def _check_calls(found: Structure, name: str, budget: Budget) -> None:
    """Refuse functions that call themselves, and count the nodes that writing out all calls makes."""
    made: dict[Key, Body] = {}
    for key in _callees_first(found.functions, name):
        made[key] = _written_out(found.functions[key], made)
        if made[key].depth > MOST_CALLS_NESTED:
            raise UnsupportedError(
                f"model '{name}' has functions that call functions more than {MOST_CALLS_NESTED} deep; re-export without functions"
            )
    # a function that nothing calls is counted too: the inliner may write out its calls
    bodies = [(found.main, _written_out(found.main, made)), *((b, made[key]) for key, b in found.functions.items())]
    what = f"model '{name}': writing out every call of its functions"
    for body, whole in bodies:
        budget.spend(what, max(whole.nodes - body.nodes, 0) * NODE_WORK)
        budget.hold(what, whole.size - body.size)


def _written_out(body: Body, made: dict[Key, Body]) -> Body:
    """Return a body with its calls replaced by the bodies that they call, with every number capped."""
    most = 1 << 62
    called = [made[key] for key in body.calls if key in made]
    return Body(
        min(sum(b.nodes for b in called) + body.nodes - len(called), most),
        min(sum(b.size for b in called) + body.size, most),
        max((b.depth + 1 for b in called), default=0),
    )


def _callees_first(functions: dict[Key, Body], name: str) -> list[Key]:
    """Return the functions in an order in which each comes after those that it calls."""
    order: dict[Key, None] = {}
    for start in functions:
        open_keys: dict[Key, None] = {}
        stack: list[tuple[Key, Iterator[Key]]] = []
        wanted: Key | None = start
        while True:
            if wanted is not None and wanted in functions and wanted not in order:
                if wanted in open_keys:
                    raise ModelFileError(
                        f"model '{name}': its function '{wanted[1]}' calls itself; a function of ONNX may not, export it again"
                    )
                open_keys[wanted] = None
                stack.append((wanted, iter(functions[wanted].calls)))
            if not stack:
                break
            wanted = next(stack[-1][1], None)
            if wanted is None:
                done, _ = stack.pop()
                del open_keys[done]
                order[done] = None
    return list(order)
