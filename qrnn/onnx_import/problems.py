"""Gather everything in a model that is not implemented into one error."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import onnx

from qrnn.errors import UnsupportedError
from qrnn.onnx_import.remedies import remedy
from qrnn.onnx_import.roles import InputRole

DEFAULT_DOMAINS = ("", "ai.onnx")
CONTROL_FLOW = frozenset(["If", "Loop", "Scan", "SequenceMap"])

MOST_NAMED = 3
"""The most nodes of one operator, or with one problem, that are named; the others are counted."""

MOST_LISTED = 20
"""The most operators and the most problems that are listed; the others are counted. A message with thousands helps nobody."""

SEPARATOR = " | "
"""Stands between two problems of one message."""

_QUOTED = re.compile(r"'([^']*)'")
_NUMBER = re.compile(r"\d+")


@dataclass
class _Group:
    """Problems that differ in names and numbers alone: the first one's message, and what each is about."""

    message: str
    names: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def text(self) -> str:
        if not (more := self.names[1:]):
            return self.message
        return f"{self.message} (so {'is' if len(more) == 1 else 'are'} {len(more)} more: {_few(more)})"


class Problems:
    """The refusals so far, of a model that the exporter ``producer`` wrote.

    Nodes whose operator has no handler are grouped by operator, those inside branches, bodies and nested ones too, with the remedy that fits
    the operator and the exporter. ``known`` says whether a node has a handler; it is asked about nodes inside others. Other refusals keep their
    own message, and those that differ in names and numbers alone are one.
    """

    def __init__(
        self, model: str, producer: str = "", known: Callable[[onnx.NodeProto], bool] = lambda proto: False
    ) -> None:
        self._model = model
        self._producer = producer
        self._known = known
        self._operators: dict[str, dict[str, list[str]]] = {}
        """Remedy → operator, and where it stands if inside another → nodes."""
        self._groups: dict[tuple[str, str], _Group] = {}
        self._headlines: list[str] = []
        self.roles: dict[str, InputRole] = {}
        """What the graph's inputs were taken for, by name."""
        self._explained: dict[str, str] = {}
        self.nodes: dict[str, str] = {}
        """The refused nodes, each by its first output, with its message."""
        self.recurs = True
        """Whether there is a recurrent node, as far as is known."""

    def refuse(self, message: str, name: str = "", where: str = "", output: str = "") -> None:
        """Add a refusal: of the node ``name`` where one is given, whose messages begin with ``where`` and which makes ``output``."""
        if output:
            self.nodes.setdefault(output, message)
        of_node = bool(where) and message.startswith(where)
        about = message[len(where) :] if of_node else message
        operator = _QUOTED.sub("", where) if of_node else ""
        key = operator, _NUMBER.sub("0", _QUOTED.sub("''", about))
        group = self._groups.setdefault(key, _Group(message))
        if message not in group.seen:
            group.seen.add(message)
            group.names.append(
                f"'{name}'" if of_node else next((f"'{n}'" for n in _QUOTED.findall(message)), "unnamed")
            )

    def without_recurrence(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Add the refusal of a graph in which nothing recurs, by its operators."""
        self.recurs = False
        counts = Counter(written(proto) for proto in nodes if proto.op_type != "Constant")
        listed = [op if count == 1 else f"{op} ×{count}" for op, count in counts.most_common(MOST_LISTED)]
        more = [f"and {len(counts) - MOST_LISTED} operators more"] if len(counts) > MOST_LISTED else []
        operators = f", only {', '.join([*listed, *more])}" if listed else ""
        self._headlines.append(
            f"model '{self._model}' has no recurrent node (LSTM, GRU or RNN) on the way to its outputs{operators}; only networks with a "
            "recurrent layer are quantized here"
        )

    def explain(self, proto: onnx.NodeProto, message: str) -> None:
        """Say why a node has no handler, in place of its operator's name, should it be added by `unsupported`.

        An empty message is for what another one says already.
        """
        self._explained[next(filter(None, proto.output), "")] = message

    def explanation(self, proto: onnx.NodeProto) -> str:
        """Return what `explain` was told of a node, nothing where it was not."""
        return self._explained.get(next(filter(None, proto.output), ""), "")

    def unsupported(self, proto: onnx.NodeProto) -> None:
        """Add a node whose operator has no handler, and the nodes inside it of which that is true; or what `explain` was told of it."""
        made = next(filter(None, proto.output), "")
        message = self._explained.get(made)
        self.nodes.setdefault(made, message or f"{written(proto)} {_named(proto)} is not supported")
        if message is None:
            self._add(proto, "")
        elif message:
            self.refuse(message)
        for inner in _inside(proto):
            followed = message is not None and inner.op_type in CONTROL_FLOW  # once what is around it is
            if not followed and not self._known(inner):
                self._add(inner, f" in {written(proto)} {_named(proto)}")

    def remedy(self, proto: onnx.NodeProto) -> str:
        """Return what the user can do about a node that is not supported."""
        return remedy(written(proto), proto.domain in DEFAULT_DOMAINS, self._producer)

    def _add(self, proto: onnx.NodeProto, place: str) -> None:
        operators = self._operators.setdefault(self.remedy(proto), {})
        operators.setdefault(written(proto) + place, []).append(_named(proto))

    def messages(self) -> list[str]:
        """Return the message of every group of problems, the most of them first."""
        unknown = []
        for what, operators in self._operators.items():
            count = sum(map(len, operators.values()))
            nodes = "1 node is" if count == 1 else f"{count} nodes are"
            unknown.append(f"model '{self._model}': {nodes} not supported: {_operators(operators)}; {what}")
        return [*self._headlines, *unknown, *(group.text() for group in self._groups.values())]

    def raise_if_any(self) -> None:
        """Raise one `UnsupportedError` that lists every group of problems, up to `MOST_LISTED`."""
        messages = self.messages()
        if not messages:
            return
        left = len(messages) - MOST_LISTED
        shown = SEPARATOR.join([*messages[:MOST_LISTED], *([f"and {left} more"] if left > 0 else [])])
        text = messages[0] if len(messages) == 1 else f"{len(messages)} problems: {shown}"
        raise UnsupportedError(text, tuple(messages), self.roles, self.nodes, self.recurs)


def written(proto: onnx.NodeProto) -> str:
    """Return a node's operator as messages have it, with its domain where that is not ONNX's own."""
    return proto.op_type if proto.domain in DEFAULT_DOMAINS else f"{proto.domain}.{proto.op_type}"


def _inside(proto: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of the graphs in a node's attributes, and of the graphs in these, in their order."""
    left = list(_graphs(proto))[::-1]
    while left:
        graph = left.pop()
        for node in graph.node:
            yield node
            left.extend(_graphs(node))


def _graphs(proto: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in proto.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _named(proto: onnx.NodeProto) -> str:
    output = next((name for name in proto.output if name), "")
    return f"'{proto.name}'" if proto.name else f"output '{output}'" if output else "unnamed"


def _operators(found: dict[str, list[str]]) -> str:
    """Return operators with their counts and a few of their nodes."""
    groups = [
        f"{op} {names[0]}" if len(names) == 1 else f"{op} ×{len(names)} ({_few(names)})"
        for op, names in list(found.items())[:MOST_LISTED]
    ]
    if len(found) > MOST_LISTED:
        groups.append(f"and {len(found) - MOST_LISTED} operators more")
    return ", ".join(groups)


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join([*listed[:MOST_NAMED], *(["…"] if len(listed) > MOST_NAMED else [])])
