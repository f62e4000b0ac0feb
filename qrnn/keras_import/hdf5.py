"""Read datasets and attributes of an HDF5 file in memory, each checked before anything is allocated for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.keras_import.hdf5_blocks import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    LAYOUT,
    UNDEFINED,
    Blocks,
    Message,
    Piece,
)
from qrnn.onnx_import.budget import Budget

MOST_NAMES = 100_000
"""The most texts in an attribute."""

INTEGER, FLOAT, STRING, OPAQUE, VARIABLE = 0, 1, 3, 5, 9
"""The classes of types that are read."""

FLOATS = {(2, 5, 10): "f2", (4, 8, 23): "f4", (8, 11, 52): "f8", (2, 8, 7): "bfloat16"}
"""Bytes, bits of the exponent and bits of the mantissa of each type of real numbers."""


class Kind:
    """The type of a dataset or an attribute: ``dtype`` of numbers, None for texts; ``size`` in bytes; whether texts have any length."""

    def __init__(self, blocks: Blocks, content: Piece) -> None:
        head = content.number(1)
        bits = content.number(3)
        self.kind, self.size = head & 15, content.number(4)
        self.variable = self.kind == VARIABLE and bits & 15 == 1
        self.dtype: str | None = None
        order = ">" if bits & 1 else "<"
        if self.kind == INTEGER and self.size in (1, 2, 4, 8):
            self.dtype = f"{order}{'i' if bits & 8 else 'u'}{self.size}"
        elif self.kind == FLOAT:
            exponent, mantissa = content.skip(5).number(1), content.skip(1).number(1)
            name = FLOATS.get((self.size, exponent, mantissa))
            self.dtype = name if name in (None, "bfloat16") else order + name
        elif self.kind == OPAQUE and self.size == 2:
            self.dtype = "bfloat16"
        if self.size == 0 or (self.variable and self.size != 16):
            raise blocks.damaged("a type without a size")


@dataclass(frozen=True)
class _Attribute:
    """The type, the shape and the data of an attribute."""

    kind: Piece
    space: Piece
    data: Piece


class Datasets:
    """An HDF5 file of ``content``, whose datasets are read by path. ``budget`` counts what they take."""

    def __init__(self, content: bytes, what: str, budget: Budget) -> None:
        self._what, self._budget = what, budget
        self._blocks = Blocks(content, what, budget)
        self._links: dict[int, dict[str, int | None]] = {}
        self._root = self._blocks.root
        self._members(self._root)

    def _members(self, address: int) -> dict[str, int | None]:
        if address not in self._links:
            self._links[address] = self._blocks.links(address)
        return self._links[address]

    def _find(self, path: str) -> int | None:
        """Return the address of the object at a path; None where there is none. Links that are not plain ones are refused, not followed."""
        at = self._root
        for part in path.strip("/").split("/") if path.strip("/") else ():
            members = self._members(at)
            if part not in members:
                return None
            target = members[part]
            if target is None:
                raise ModelFileError(
                    f"{self._what}: '{path[:200]}' is a link to elsewhere, which is not followed; save the model again"
                )
            at = target
        return at

    def names(self, path: str) -> list[str]:
        """Return the names of a group's members; none where there is no such group."""
        address = self._find(path)
        return [] if address is None else list(self._members(address))

    def texts(self, path: str, attribute: str) -> list[str] | None:
        """Return an attribute of texts of a group, which may be in pieces under numbered names; None where there is none."""
        address = self._find(path)
        if address is None:
            return None
        attributes = self._attributes(address)
        if attribute in attributes:
            return self._texts(attributes[attribute], attribute)
        found: list[str] = []
        for k in range(MOST_NAMES):
            if f"{attribute}{k}" not in attributes:
                break
            found += self._texts(attributes[f"{attribute}{k}"], attribute)
        return found or None

    def text(self, attribute: str, path: str = "") -> str | None:
        """Return an attribute that is one text; None where there is none."""
        found = self.texts(path, attribute)
        return found[0] if found else None

    def _attributes(self, address: int) -> dict[str, _Attribute]:
        """Return the attributes of an object by name."""
        found: dict[str, _Attribute] = {}
        for message in self._blocks.messages(address):
            content = message.content
            if message.kind == ATTRIBUTE_INFO:
                flags = content.skip(1).number(1)
                if content.skip(2 if flags & 1 else 0).number(8) != UNDEFINED:
                    raise self._blocks.foreign("attributes in a heap of their own")
            if message.kind != ATTRIBUTE:
                continue
            version = content.number(1)
            if version not in (1, 2, 3):
                raise self._blocks.damaged(f"an attribute of version {version}")
            sizes = [content.skip(1).number(2), content.number(2), content.number(2)]
            content.skip(1 if version == 3 else 0)
            parts = []
            for size in sizes:
                parts.append(Piece(self._blocks, content.at, size))
                content.skip(
                    -(-size // 8) * 8 if version == 1 else size
                )  # the first version fills parts up to multiples of 8
            found[self._blocks.text(parts[0].take(sizes[0]))] = _Attribute(parts[1], parts[2], content)
        return found

    def _texts(self, attribute: _Attribute, name: str) -> list[str]:
        """Return the texts of an attribute, of a fixed length or of any."""
        kind, shape = Kind(self._blocks, attribute.kind), self._shape(attribute.space)
        count = math.prod(shape)
        if not count:
            return []
        if count > MOST_NAMES or kind.kind not in (STRING, VARIABLE) or (kind.kind == VARIABLE and not kind.variable):
            raise ModelFileError(f"{self._what}: attribute '{name}' is no text; save the model again")
        found = []
        for _ in range(count):
            self._blocks.count()
            if kind.variable:
                length, heap, index = (attribute.data.number(size) for size in (4, 8, 4))
                content = self._blocks.heap_object(heap, index)[:length] if length else b""
            else:
                content = attribute.data.take(kind.size)
            found.append(self._blocks.text(content))
        return found

    def read(self, path: str, where: str) -> np.ndarray[Any, Any]:
        """Return a dataset of real numbers as float64, as all of the importer's values are."""
        what = f"{where}: weight '{path[:200]}' of {self._what}"
        address = self._find(path)
        if address is None:
            raise ModelFileError(f"{what} is missing; save the model again")
        messages = {m.kind: m for m in self._blocks.messages(address)}
        if not {DATASPACE, DATATYPE, LAYOUT} <= messages.keys():
            raise ModelFileError(f"{what} is no dataset; save the model again")
        if EXTERNAL in messages:
            raise ModelFileError(f"{what} has its data in other files, which are not read; save the model again")
        shape, kind = self._shape(messages[DATASPACE].content), Kind(self._blocks, messages[DATATYPE].content)
        if kind.dtype is None:
            raise UnsupportedError(
                f"{what} holds no numbers, or of a type that is not supported; save the model in float32"
            )
        count = math.prod(shape)
        data = self._data(messages[LAYOUT], count * kind.size, what)
        self._budget.value(what, count, scratch=count)
        if kind.dtype == "bfloat16":
            raw = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            raw = np.frombuffer(data, kind.dtype)
        return raw.astype(np.float64).reshape(shape)

    def _shape(self, content: Piece) -> tuple[int, ...]:
        version, rank, flags = content.number(1), content.number(1), content.number(1)
        if version not in (1, 2) or rank > 32:
            raise self._blocks.damaged(f"a dataspace of version {version} and {rank} axes")
        none = version == 2 and content.number(1) == 2
        if version == 1:
            content.skip(5)
        if none:
            raise self._blocks.damaged("an array of nothing where a weight is expected")
        shape = tuple(content.number(8) for _ in range(rank))
        if flags & ~3 or math.prod(shape) > len(self._blocks.content):
            raise self._blocks.damaged(f"an array of shape {list(shape)}, more than the file has bytes")
        return shape

    def _data(self, message: Message, size: int, what: str) -> bytes:
        """Return the bytes of a dataset, which lie in one piece or in its header."""
        content = message.content
        version, layout = content.number(1), content.number(1)
        if version not in (3, 4) or layout not in (0, 1):
            raise UnsupportedError(
                f"{what} is stored in chunks or otherwise than Keras stores weights; save the model again with Keras"
            )
        if layout == 0:
            piece = Piece(self._blocks, content.at + 2, content.number(2))
        elif size:
            piece = Piece(self._blocks, content.number(8), content.number(8))
        else:
            return b""
        if piece.left < size:
            raise ModelFileError(f"{what} has {piece.left} bytes, expected {size} by its shape; save the model again")
        return piece.take(size)
