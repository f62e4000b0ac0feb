"""Functions may take room for their work from their caller: the arrays that stand on the stack otherwise are parts of a struct, NAME_scratch.

The room is laid out as a stack would be, but once, when a model is exported: no function calls itself, so that each has a place of its own
behind those of all functions that call it. Arrays of one type share a member of the struct, and no memory is read as two types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from qrnn.export.layout import operand_words_of
from qrnn.export.names import Names
from qrnn.targets import Kernels

ARGUMENT = "scratch"
"""The name of the argument in every function."""

_HEAD = re.compile(r"^(?P<start>[A-Za-z_][^\n]*?\b(?P<name>\w+)\()(?P<parameters>[^{]*)\)\n\{\n", re.MULTILINE)
_ARRAY = re.compile(
    r"^(?P<space> +)(?P<kind>u?int\d+_t) (?P<name>\w+)\[(?P<size>[^\]]+)\](?P<zero> = \{0\})?;$", re.MULTILINE
)
_OPERANDS = re.compile(r"QRNN_(?P<kind>WIDE_|FOUR_)?OPERAND_WORDS\((?P<columns>\d+)U\)")
_BYTES = re.compile(r"\d+")


@dataclass(frozen=True)
class Scratch:
    """The struct: how many elements of each type it has. ``sizes`` are expressions of C with what they were taken to be."""

    members: Mapping[str, int]
    sizes: Mapping[str, int]

    @property
    def bytes(self) -> int:
        """Return sizeof of the struct."""
        widths = {kind: int(_BYTES.findall(kind)[0]) // 8 for kind in self.members}
        found = sum(widths[kind] * count for kind, count in self.members.items())
        most = max(widths.values(), default=1)
        return max(-(-found // most) * most, 1)

    def struct(self, name: str) -> list[str]:
        """Return the lines of the struct for the header; members with the widest elements come first, so that none is padded."""
        ordered = sorted(self.members, key=lambda kind: (-int(_BYTES.findall(kind)[0]), kind))
        members = [f"    {kind} {_member(kind)}[{self.members[kind]}];" for kind in ordered]
        return [
            "/* Room for the work of a call. Nothing of it is kept from one call to the next: models and streams that are not",
            " * computed at the same time may share it. */",
            "typedef struct {",
            *(members or ["    uint8_t nothing;"]),
            f"}} {name}_scratch;",
            f"#define {name.upper()}_SCRATCH_BYTES {self.bytes}",
            "",
        ]

    def checks(self, name: str, names: Names) -> list[str]:
        """Return lines of C that do not compile where a size is not what the struct was made for."""
        return [
            f"typedef char {names.new(f'{name}_has_room')}[({size} <= {count}U) ? 1 : -1];"
            for size, count in self.sizes.items()
        ]


@dataclass(frozen=True)
class _Function:
    """A function as text: its name, its arrays by type in elements, and the functions that it calls."""

    text: str
    name: str
    frame: Mapping[str, int]
    calls: tuple[str, ...]


def moved(
    name: str, functions: Sequence[str], public: Sequence[str], kernels: Kernels, four: bool
) -> tuple[list[str], Scratch]:
    """Return functions of C that take room from their caller, and the struct of the room.

    ``functions`` are all functions of a model ``name``; those named ``public`` take the argument in any case. ``four`` says whether the
    model has weights of four bits, by which operands are longer.
    """
    sizes: dict[str, int] = {}
    heads = [_HEAD.search(text) for text in functions]
    names = [head["name"] if head is not None else f"text {number}" for number, head in enumerate(heads)]
    read: dict[str, _Function] = {}
    for own, text in zip(names, functions, strict=True):
        frame: dict[str, int] = {}
        for found in _ARRAY.finditer(text):
            frame[found["kind"]] = frame.get(found["kind"], 0) + _elements(found["size"], kernels, four, sizes)
        body = text[text.find("\n{\n") :]
        calls = tuple(other for other in names if other != own and re.search(rf"\b{other}\(", body))
        read[own] = _Function(text, own, frame, calls)

    @cache
    def takes(own: str) -> bool:
        return own in public or bool(read[own].frame) or any(takes(other) for other in read[own].calls)

    @cache
    def base(own: str) -> Mapping[str, int]:
        """Return where a function's arrays begin: behind those of every function that calls it."""
        begin: dict[str, int] = {}
        for caller in read.values():
            if own in caller.calls:
                for kind, end in ends(caller.name).items():
                    begin[kind] = max(begin.get(kind, 0), end)
        return begin

    def ends(own: str) -> dict[str, int]:
        begin, frame = base(own), read[own].frame
        return {kind: begin.get(kind, 0) + frame.get(kind, 0) for kind in {*begin, *frame}}

    members: dict[str, int] = {}
    for own in read:
        for kind, end in ends(own).items():
            members[kind] = max(members.get(kind, 0), end)
    texts = [
        _rewritten(f, base(f.name), [o for o in f.calls if takes(o)], name, kernels, four) if takes(f.name) else f.text
        for f in read.values()
    ]
    return texts, Scratch(members, sizes)


def _rewritten(
    function: _Function, base: Mapping[str, int], calls: Sequence[str], name: str, kernels: Kernels, four: bool
) -> str:
    """Return a function with the argument, whose arrays begin at ``base``; ``calls`` are the functions that take it, too."""
    begin = dict(base)
    text = _ARRAY.sub(lambda found: _placed(found, begin, kernels, four), function.text)
    text = _initialized(text, function.text)
    for other in calls:
        text = _with_argument(text, other)
    return _with_parameter(text, name)


def with_argument(prototype: str, name: str) -> str:
    """Return a declaration of a public function with the argument at its end."""
    return f"{prototype.removesuffix(')')}, {name}_scratch *{ARGUMENT})"


def _member(kind: str) -> str:
    return f"of_{kind.removesuffix('_t')}"


def _elements(size: str, kernels: Kernels, four: bool, sizes: dict[str, int]) -> int:
    """Return the number that an array's size is, and keep expressions among ``sizes``."""
    if size.rstrip("U").isdecimal():
        return int(size.rstrip("U"))
    found = _OPERANDS.fullmatch(size)
    if found is None:
        raise ValueError(f"an array of {size} elements")
    sizes[size] = operand_words_of(
        kernels, int(found["columns"]), found["kind"] == "WIDE_", four, found["kind"] == "FOUR_"
    )
    return sizes[size]


def _placed(found: re.Match[str], begin: dict[str, int], kernels: Kernels, four: bool) -> str:
    """Return the declaration of a pointer to an array's place, which is the next one of its type."""
    kind, at = found["kind"], begin.get(found["kind"], 0)
    begin[kind] = at + _elements(found["size"], kernels, four, {})
    return f"{found['space']}{kind} *const {found['name']} = &{ARGUMENT}->{_member(kind)}[{at}];"


def _initialized(text: str, before: str) -> str:
    """Return a function in which arrays that had zeros are cleared, behind all declarations of pointers."""
    zeros = [m for m in _ARRAY.finditer(before) if m["zero"]]
    if not zeros:
        return text
    lines = text.split("\n")
    last = max(k for k, line in enumerate(lines) if f"= &{ARGUMENT}->" in line)
    clears = [f"{m['space']}QRNN_CLEAR({m['name']}, {m['size']}U * sizeof({m['kind']}));" for m in zeros]
    return "\n".join([*lines[: last + 1], *clears, *lines[last + 1 :]])


def _with_argument(text: str, function: str) -> str:
    """Return a text in which every call of ``function`` has the argument at its end."""
    parts, at = [], 0
    for found in re.finditer(rf"\b{function}\(", text):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        parts += [text[at : end - 1], f", {ARGUMENT})"]
        at = end
    return "".join([*parts, text[at:]])


def _with_parameter(text: str, name: str) -> str:
    """Return a function that takes the room; where nothing in it reads that, a statement says so."""
    head = _HEAD.search(text)
    assert head is not None
    body = text[head.end() :]
    unused = "" if re.search(rf"\b{ARGUMENT}\b", body) else f"    (void){ARGUMENT};\n"
    first = f"{text[: head.start()]}{head['start']}{head['parameters']}, {name}_scratch *{ARGUMENT})\n{{\n"
    return f"{first}{unused}{body}"
