"""Caches: graph inputs that hold past steps, which an output of the same call gives on to the next one.

A streaming export joins such an input to the newest steps and lets a layer read both. Here sequences are whole, so that what a cache holds
are earlier steps of the same tensor: its elements become delays of features, or the padding of a convolution, and neither the input nor the
output is left. A cache begins with zeros, as the padding before a sequence does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from qrnn.errors import UnsupportedError
from qrnn.model.parts import IndexArray
from qrnn.model.window import LARGEST_WINDOW
from qrnn.onnx_import.budget import ELEMENT_WORK
from qrnn.onnx_import.problems import DEFAULT_DOMAINS
from qrnn.onnx_import.values import BATCH, Features, Tensor, TensorBook

REMEDY = "name the output of each cache by --state IN=OUT (load_onnx(…, state={'IN': 'OUT'}))"
"""What helps where the wrong output was taken for a cache's."""


@dataclass(eq=False)
class Caches:
    """The caches of a graph while it is interpreted: which output gives each on, and what is known of both."""

    pairs: dict[str, str] = field(default_factory=dict)
    tensors: dict[str, tuple[Tensor, Features]] = field(default_factory=dict)
    """By name of the input: the tensor of its elements, and these in its shape."""
    given: dict[str, Features] = field(default_factory=dict)
    """By name of the output: its value, as soon as it is known."""
    _writers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    _values: Mapping[str, object] = field(default_factory=dict)
    tails: dict[int, IndexArray] = field(default_factory=dict)
    """First id of a tensor of last steps → the elements of caches that stood at their places."""

    def watch(self, nodes: Sequence[onnx.NodeProto], values: Mapping[str, object]) -> None:
        """Take ``values``, which will hold the values of ``nodes``, to look up parts of outputs before all of them is known."""
        if self.pairs:
            self._writers = {output: node for node in nodes for output in node.output if output}
            self._values = values

    @property
    def outputs(self) -> frozenset[str]:
        """Return the outputs that give caches on."""
        return frozenset(self.pairs.values())

    def resolve(self, where: str, book: TensorBook, ids: IndexArray) -> tuple[IndexArray, IndexArray]:
        """Return the features that elements of caches are in a graph of one step per call, and how many steps late they are."""
        features, delays = ids.copy(), np.zeros(ids.size, dtype=np.int64)
        late = np.arange(ids.size)
        most = min(LARGEST_WINDOW, sum(tensor.features for tensor, _ in self.tensors.values()))
        while late.size:
            parts = [part for part in book.parts(features[late]) if part.tensor.kind == "cache"]
            later = []
            for part in parts:
                places = late[part.positions]
                features[places] = self._next(where, part.tensor)[part.indices]
                if features[places].min(initial=0) < 0:
                    name = part.tensor.name
                    raise UnsupportedError(
                        f"{where}: computes with the cache '{name}', whose next value '{self.pairs[name]}' depends on the result; only caches "
                        "of past steps are supported, and the states of LSTM, GRU and RNN"
                    )
                later.append(places)
            late = np.concatenate(later) if later else late[:0]
            delays[late] += 1
            if delays.max(initial=0) > most:  # as many elements as there are, and one that was met before
                raise UnsupportedError(
                    f"{where}: reads elements of a cache that no call replaces, or that are more than {LARGEST_WINDOW} steps old; "
                    "re-export with a cache of past steps"
                )
            book.budget.spend("looking up caches", late.size * ELEMENT_WORK)
        return features, delays

    def _next(self, where: str, tensor: Tensor) -> IndexArray:
        """Return what the elements of a cache will be in the next call, flat."""
        output = self.pairs[tensor.name]
        value = self.given.get(output) or self.part(output, self.tensors[tensor.name][1])
        self.check(tensor.name, value)
        flat: IndexArray = value.ids.reshape(-1)
        return flat

    def part(self, output: str, like: Features) -> Features:
        """Return what is known of an output of the shape of ``like``: ids, and -1 for the rest.

        Where it is joined of several values, these are those before the first and behind the last one that is not known.
        """
        ids = np.full(like.ids.shape, -1, dtype=np.int64)
        while (writer := self._writers.get(output)) is not None and writer.op_type in ("Identity", "Cast"):
            output = writer.input[0]
        if writer is None or writer.op_type != "Concat" or writer.domain not in DEFAULT_DOMAINS:
            return Features(ids, like.axes)
        axis = next((int(a.i) for a in writer.attribute if a.name == "axis"), 0)
        found = [value if isinstance(value := self._values.get(name), Features) else None for name in writer.input]
        if -ids.ndim <= axis < ids.ndim:
            along = np.moveaxis(ids, axis, 0)
            for order, backwards in ((found, False), (found[::-1], True)):
                at = 0
                for value in order:
                    if value is None or value.ids.ndim != ids.ndim:
                        break
                    piece = np.moveaxis(value.ids, axis, 0)
                    if piece.shape[1:] != along.shape[1:] or at + len(piece) > len(along):
                        break
                    place = (
                        slice(len(along) - at - len(piece), len(along) - at)
                        if backwards
                        else slice(at, at + len(piece))
                    )
                    along[place] = piece
                    at += len(piece)
        return Features(ids, like.axes)

    def check(self, name: str, value: Features) -> None:
        """Refuse an output of another shape than the cache that it gives on."""
        held = self.tensors[name][1]
        if value.ids.shape != held.ids.shape or [s is BATCH for s in value.axes] != [s is BATCH for s in held.axes]:
            raise UnsupportedError(
                f"cache '{name}' is {held.describe()}, and its output '{self.pairs[name]}' is {value.describe()}; expected the same axes; "
                f"{REMEDY}"
            )

    def finish(self, name: str, value: object, book: TensorBook, one_step: bool) -> None:
        """Check the value of the output that gives on the cache ``name``; a value that is no features was refused before.

        In a graph of several steps per call it has to be the last steps of what the cache was joined to, place by place.
        """
        if not isinstance(value, Features):
            return
        self.check(name, value)
        if one_step:
            return
        was = np.full(value.ids.size, -1, dtype=np.int64)
        for part in book.parts(value.ids):
            if part.tensor.start in self.tails:
                was[part.positions] = self.tails[part.tensor.start][part.indices]
        if not np.array_equal(was, self.tensors[name][0].ids):
            raise UnsupportedError(
                f"cache '{name}': its output '{self.pairs[name]}' is not the last steps of the cache joined to the newest ones, in the cache's "
                f"own order; re-export so, or {REMEDY}"
            )
