"""The blocks of an HDF5 file in memory: superblock, object headers, groups and heaps, by the HDF5 File Format Specification 3.0.

The file may be damaged or hostile. Every block is read inside the bounds of the file, and a limit on the number of messages, links and
nodes that are read ends any circle. Only the standard library is used: the HDF5 library itself can loop without end on damaged files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from qrnn.errors import ModelFileError, UnsupportedError
from qrnn.onnx_import.budget import Budget

SIGNATURE = b"\x89HDF\r\n\x1a\n"

BLOCK_WORK = 20_000
"""Nominal nanoseconds to read one message, link or node of a tree."""

UNDEFINED = 0xFFFFFFFFFFFFFFFF
"""The address of what is not in the file."""

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, ATTRIBUTE, CONTINUATION, SYMBOLS, ATTRIBUTE_INFO = (
    0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0C, 0x10, 0x11, 0x15,
)  # fmt: skip
"""The types of messages that are read."""

SHARED = 2
"""The flag of a message whose content stands elsewhere."""

SOFT_LINK = 2
"""How a symbol table marks an entry that is a soft link."""


@dataclass(frozen=True)
class Message:
    """One message of an object header."""

    kind: int
    content: Piece


class Piece:
    """A part of the file, which is read from its beginning on."""

    def __init__(self, file: Blocks, start: int, size: int) -> None:
        if start < 0 or size < 0 or start + size > len(file.content):
            raise file.damaged(f"{size} bytes at {start} lie outside of it")
        self.file, self.at, self.end = file, start, start + size

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size < 0 or self.at + size > self.end:
            raise self.file.damaged(f"{size} bytes at {self.at} do not fit into their block")
        self.at += size
        return self.file.content[self.at - size : self.at]

    def number(self, size: int) -> int:
        """Return the next bytes as an unsigned number."""
        return int.from_bytes(self.take(size), "little")

    def skip(self, size: int) -> Piece:
        """Pass over bytes."""
        self.take(size)
        return self

    @property
    def left(self) -> int:
        """Return how many bytes are left."""
        return self.end - self.at


class Blocks:
    """The blocks of a file; ``what`` names it in messages, and ``budget`` counts what is read."""

    def __init__(self, content: bytes, what: str, budget: Budget) -> None:
        self.content, self.what, self.budget = content, what, budget

    def damaged(self, why: str) -> ModelFileError:
        """Return the error for a damaged file."""
        return ModelFileError(f"{self.what}, an HDF5 file, is damaged or cut off ({why}); save the model again")

    def foreign(self, feature: str) -> UnsupportedError:
        """Return the error for a feature of HDF5 that Keras does not use."""
        return UnsupportedError(
            f"{self.what} has {feature}, which Keras does not write and qrnn does not read; save the model again with Keras"
        )

    def count(self) -> None:
        """Count one more thing that is read."""
        self.budget.spend(f"{self.what}: reading its blocks", BLOCK_WORK)

    def piece(self, start: int, size: int | None = None) -> Piece:
        """Return a part of the file, to its end where no size is given."""
        return Piece(self, start, len(self.content) - start if size is None else size)

    @cached_property
    def root(self) -> int:
        """Return the address of the object header of the root group."""
        start = self.piece(0)
        if start.take(8) != SIGNATURE:
            raise self.damaged("it does not begin as one")
        version = start.number(1)
        if version in (0, 1):
            sizes = start.skip(4).take(2)
            start.skip(9 if version == 0 else 13).skip(32).skip(8)
        elif version in (2, 3):
            sizes = start.take(2)
            start.skip(1).skip(24)
        else:
            raise self.foreign(f"a superblock of version {version}")
        if sizes != b"\x08\x08":
            raise self.foreign(f"addresses of {sizes[0]} bytes and lengths of {sizes[1]}")
        return start.number(8)

    def messages(self, address: int) -> list[Message]:
        """Return the messages of an object header, those in its continuations too."""
        head = self.piece(address)
        new = self.content[address : address + 4] == b"OHDR"
        if not new:
            if head.number(1) != 1:
                raise self.damaged(f"no object header at {address}")
            size = head.skip(7).number(4)
            blocks, extra = [Piece(self, head.skip(4).at, size)], 0
        else:
            if head.skip(4).number(1) != 2:
                raise self.damaged(f"no object header at {address}")
            flags = head.number(1)
            head.skip((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
            size = head.number(1 << (flags & 3))
            blocks, extra = [Piece(self, head.at, size)], 2 if flags & 4 else 0
        found: list[Message] = []
        while blocks:
            block = blocks.pop(0)
            least = 4 + extra if new else 8
            while block.left >= least:
                self.count()
                kind, length = (block.number(1), block.number(2)) if new else (block.number(2), block.number(2))
                shared = block.number(1) & SHARED
                block.skip(extra if new else 3)
                content = Piece(self, block.at, length)
                block.skip(length)
                if shared and kind in (DATASPACE, DATATYPE, LAYOUT, ATTRIBUTE, LINK):
                    raise self.foreign("shared messages or named types")
                if kind == CONTINUATION:
                    start, own = content.number(8), content.number(8)
                    # a continuation of the newer form is framed by a signature and a checksum
                    blocks.append(Piece(self, start + 4, own - 8) if new else Piece(self, start, own))
                else:
                    found.append(Message(kind, content))
        return found

    def links(self, address: int) -> dict[str, int | None]:
        """Return the members of a group with the addresses of their object headers; None for a link that is no plain one."""
        found: dict[str, int | None] = {}
        for message in self.messages(address):
            content = message.content
            if message.kind == SYMBOLS:
                tree, heap = content.number(8), content.number(8)
                found.update(self._symbols(tree, self._heap(heap)))
            elif message.kind == LINK:
                name, target = self._link(content)
                found[name] = target
            elif message.kind == LINK_INFO:
                flags = content.skip(1).number(1)
                if content.skip(8 if flags & 1 else 0).number(8) != UNDEFINED:
                    raise self.foreign("groups with their links in a heap")
        return found

    def _link(self, content: Piece) -> tuple[str, int | None]:
        flags = content.skip(1).number(1)
        kind = content.number(1) if flags & 8 else 0
        content.skip((8 if flags & 4 else 0) + (1 if flags & 0x10 else 0))
        name = self.text(content.take(content.number(1 << (flags & 3))))
        return name, content.number(8) if kind == 0 else None

    def _heap(self, address: int) -> Piece:
        """Return the data of a local heap, which holds the names of a group's members."""
        head = self.piece(address)
        if head.take(4) != b"HEAP":
            raise self.damaged(f"no heap of names at {address}")
        size = head.skip(4).number(8)
        return Piece(self, head.skip(8).number(8), size)

    def _symbols(self, root: int, heap: Piece) -> Iterator[tuple[str, int | None]]:
        """Iterate over the members of a group's tree of symbol tables."""
        nodes = [root]
        while nodes:
            self.count()
            node = self.piece(nodes.pop(0))
            signature = node.take(4)
            if signature == b"TREE":
                if node.number(1) != 0:
                    raise self.damaged("a tree of another kind where a group is")
                node.skip(1)
                entries = node.number(2)
                node.skip(16)
                nodes += [node.skip(8).number(8) for _ in range(entries)]
            elif signature == b"SNOD":
                for _ in range(node.skip(2).number(2)):
                    self.count()
                    offset, header, cached = node.number(8), node.number(8), node.number(4)
                    node.skip(20)
                    yield self._name(heap, offset), None if cached == SOFT_LINK else header
            else:
                raise self.damaged("no symbol table where a group has one")

    def _name(self, heap: Piece, offset: int) -> str:
        start = heap.at + offset
        end = self.content.find(b"\0", start, heap.end) if start < heap.end else -1
        if end < 0:
            raise self.damaged("a name outside of its heap")
        return self.text(self.content[start:end])

    def text(self, content: bytes) -> str:
        """Return a text."""
        self.budget.hold(f"{self.what}: its texts", len(content))
        try:
            return content.split(b"\0", 1)[0].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a text that is no Unicode") from error

    def heap_object(self, address: int, index: int) -> bytes:
        """Return an object of a global heap, which holds texts of any length."""
        head = self.piece(address)
        if head.take(4) != b"GCOL":
            raise self.damaged(f"no heap of texts at {address}")
        collection = Piece(self, head.skip(4).at + 8, max(0, head.number(8) - 16))
        while collection.left >= 16:
            self.count()
            number = collection.number(2)
            size = collection.skip(6).number(8)
            if number == index:
                return collection.take(size)
            if number == 0:
                break
            collection.skip(min(-(-size // 8) * 8, collection.left))
        raise self.damaged(f"no object {index} in the heap at {address}")
