"""Look at the bytes of a protobuf file before they are parsed.

Two bytes of a file can become a message of two hundred in memory, so a file is scanned first: this reads tags and lengths only, and stops
as soon as there are too many.
"""

from __future__ import annotations

from typing import Any

from qrnn.errors import ModelFileError
from qrnn.onnx_import.budget import Budget

MESSAGE_BYTES = 224
"""Memory of an empty message and its place in a list, which grows by doubling."""

TEXT_BYTES = 48
"""Memory of an empty string or bytes and its place in a list."""

NUMBER_BYTES = 24
"""Memory of a number that a list holds as a varint of one byte or more."""

FIELD_WORK = 600
"""Nominal nanoseconds to look at one field."""

MOST_NESTED = 100
"""Protobuf's own limit on messages in messages."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_STEP = 4096
"""The number of fields between two checks of the budget."""

Kinds = dict[int, "tuple[Any, int]"]
"""By field number: the kinds of the message in it (None for a field without one), and the memory of an entry (packed: of a byte)."""


def _kinds(descriptor: Any, known: dict[str, Kinds]) -> Kinds:
    """Return what a message's fields hold, by number."""
    if descriptor.full_name in known:
        return known[descriptor.full_name]
    kinds = known[descriptor.full_name] = {}
    for field in descriptor.fields:
        if field.message_type is not None:
            kinds[field.number] = (_kinds(field.message_type, known), MESSAGE_BYTES)
        elif field.type in (field.TYPE_STRING, field.TYPE_BYTES):
            kinds[field.number] = (None, TEXT_BYTES)
        elif field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
            kinds[field.number] = (None, 0)  # in memory as in the file, twice while the list grows
        else:
            kinds[field.number] = (None, NUMBER_BYTES)
    return kinds


def check_wire(content: bytes, descriptor: Any, budget: Budget, what: str) -> None:
    """Count what parsing ``content`` as a message of ``descriptor`` takes; `ModelFileError` where it is no such message."""
    damaged = ModelFileError(
        f"{what} is not an ONNX model or is cut off (its fields do not fit together); export the model again"
    )
    wanted = f"{what}: reading it"
    stack: list[tuple[int, Kinds]] = []
    kinds, end, place = _kinds(descriptor, {}), len(content), 0
    memory = fields = 0
    try:
        while True:
            while place >= end:
                if place > end:
                    raise damaged
                if not stack:
                    budget.hold(wanted, memory)
                    budget.spend(wanted, fields * FIELD_WORK)
                    return
                end, kinds = stack.pop()
            fields += 1
            if fields == _STEP:
                budget.hold(wanted, memory)
                budget.spend(wanted, fields * FIELD_WORK)
                memory = fields = 0
            tag = content[place]
            place += 1
            if tag > 127:
                tag, place = _varint(tag & 127, content, place)
            inner, each = kinds.get(tag >> 3, (None, TEXT_BYTES))
            wire = tag & 7
            if wire == _VARINT:
                memory += each
                while content[place] > 127:
                    place += 1
                place += 1
            elif wire == _BYTES:
                length = content[place]
                place += 1
                if length > 127:
                    length, place = _varint(length & 127, content, place)
                if length > end - place:
                    raise damaged
                if inner is not None:
                    memory += each
                    if len(stack) == MOST_NESTED:
                        raise damaged
                    stack.append((end, kinds))
                    kinds, end = inner, place + length
                else:
                    memory += each * length if each == NUMBER_BYTES else each
                    place += length
            elif wire == _FIXED64:
                memory += NUMBER_BYTES
                place += 8
            elif wire == _FIXED32:
                memory += NUMBER_BYTES
                place += 4
            else:  # groups, which no ONNX file has
                raise damaged
    except IndexError:
        raise damaged from None


def _varint(value: int, content: bytes, place: int) -> tuple[int, int]:
    """Return the rest of a varint whose low 7 bits are ``value``, and the place after it."""
    for shift in range(7, 70, 7):
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise IndexError
