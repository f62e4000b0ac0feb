"""Gather everything in a model that is not implemented into one error."""

from __future__ import annotations

import onnx

from qrnn.errors import UnsupportedError

DEFAULT_DOMAINS = ("", "ai.onnx")
CONTROL_FLOW = frozenset(["If", "Loop", "Scan", "SequenceMap"])

MOST_LISTED = 100
"""The most problems that are listed in full; a message with thousands helps nobody."""


class Problems:
    """The refusals so far. Operators without a handler are grouped; other refusals keep their own message."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._operators: dict[str, list[str]] = {}
        self._remedies: list[str] = []
        self._messages: dict[str, None] = {}
        self._explained: dict[str, str] = {}

    def refuse(self, message: str) -> None:
        """Add a refusal."""
        self._messages[message] = None

    def explain(self, proto: onnx.NodeProto, message: str) -> None:
        """Say why a node has no handler, in place of its operator's name, should it be added by `unsupported`.

        An empty message is for what another one says already.
        """
        self._explained[next(filter(None, proto.output), "")] = message

    def explanation(self, proto: onnx.NodeProto) -> str:
        """Return what `explain` was told of a node, nothing where it was not."""
        return self._explained.get(next(filter(None, proto.output), ""), "")

    def unsupported(self, proto: onnx.NodeProto) -> None:
        """Add a node whose operator has no handler."""
        if (message := self._explained.get(next(filter(None, proto.output), ""))) is not None:
            if message:
                self.refuse(message)
            return
        op = proto.op_type if proto.domain in DEFAULT_DOMAINS else f"{proto.domain}.{proto.op_type}"
        name = proto.name or next((f"output {o}" for o in proto.output if o), "unnamed")
        self._operators.setdefault(op, []).append(f"'{name}'")
        if proto.domain not in DEFAULT_DOMAINS:
            remedy = "re-export with standard ONNX operators only"
        elif op in CONTROL_FLOW:
            remedy = "re-export without control flow (trace instead of script)"
        elif "Linear" in op or "Integer" in op:
            remedy = "start from the float model, quantization is done here"
        else:
            remedy = "run this part outside and export the recurrent part alone"
        if remedy not in self._remedies:
            self._remedies.append(remedy)

    def raise_if_any(self) -> None:
        """Raise one `UnsupportedError` that lists every problem, up to `MOST_LISTED` of one kind."""
        messages = list(self._messages)
        total = len(messages) + bool(self._operators)
        del messages[MOST_LISTED:]
        if self._operators:
            count = sum(len(names) for names in self._operators.values())
            groups = [
                f"{op} {names[0]}" if len(names) == 1 else f"{op} ×{len(names)} ({_listed(names)})"
                for op, names in list(self._operators.items())[:MOST_LISTED]
            ]
            if len(self._operators) > MOST_LISTED:
                groups.append(f"and {len(self._operators) - MOST_LISTED} operators more")
            nodes = "1 node is" if count == 1 else f"{count} nodes are"
            messages.insert(
                0, f"model '{self._model}': {nodes} not supported: {', '.join(groups)}; {'; '.join(self._remedies)}"
            )
        if len(messages) == 1:
            raise UnsupportedError(messages[0])
        if messages:
            raise UnsupportedError(f"{total} problems: " + " | ".join(messages))


def _listed(names: list[str]) -> str:
    more = [f"and {len(names) - MOST_LISTED} more"] if len(names) > MOST_LISTED else []
    return ", ".join([*names[:MOST_LISTED], *more])
