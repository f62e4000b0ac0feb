"""A library's public header and source: one interface, whose functions call the kernels that were chosen when a stream began.

The C of the model is exported once for each set of kernels, under names of its own. What callers see has no struct and no kernels: the state is
opaque, and functions give its size, so that a library can take the place of another with the same model interface.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qrnn.errors import DataError, TargetError, UnsupportedError
from qrnn.export.c_text import LICENCE, comment
from qrnn.export.names import model_identifier
from qrnn.export.source import Exported, export_source
from qrnn.model.given_lengths import time_axes
from qrnn.model.quant_model import QuantModel
from qrnn.targets import Target, load_target

_PROTOTYPE = re.compile(r"^((?:void|int|u?int32_t)) (\w+)\(([^()]*)\);$", re.MULTILINE)


@dataclass(frozen=True)
class Function:
    """A public function of the exported C: its type, its name without the model's, and its parameters."""

    kind: str
    name: str
    parameters: tuple[str, ...]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the names of the parameters."""
        return tuple(re.sub(r"\[\d*\]$", "", p).rpartition(" ")[2].lstrip("*") for p in self.parameters)


@dataclass(frozen=True)
class Variant:
    """The C of the model for one target."""

    target: Target
    exported: Exported

    @property
    def kernels(self) -> str:
        """Return the name of the kernels."""
        return self.exported.kernels


@dataclass(frozen=True)
class LibrarySource:
    """The C of a library: the public header, the source of its functions, and the C of each variant, the best first."""

    name: str
    version: str
    model: Exported
    """The exported C of which this has the interface."""
    variants: tuple[Variant, ...]
    functions: tuple[Function, ...]
    header: str
    source: str

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the names of all public functions."""
        return tuple(f"{self.name}_{name}" for name in (*OWN, *self._own_rows, *(f.name for f in self.functions)))

    @property
    def _own_rows(self) -> tuple[str, ...]:
        return ("work_size",) if self.model.whole is not None else ()


RUN_TIME = {"vnni": "x86_64", "avx2": "x86_64"}
"""The kernels that a library can choose at run time, for which targets/runtime/qrnn_x86.h has a function, and their machine."""

OWN = ("state_size", "state_alignment", "version", "kernels", "use_kernels")
"""The functions of every library beside the model's own."""


def library_version(text: str) -> str:
    """Return ``text``, a version of three numbers; DataError for another."""
    if re.fullmatch(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})", text) is None:
        raise DataError(
            f"library version {text!r}, expected three numbers such as 1.0.0: the first is that of the interface"
        )
    return text


def library_source(model: QuantModel, target: Target, name: str, version: str) -> LibrarySource:
    """Return the C of a library of ``model`` for ``target``; UnsupportedError for what C cannot hold."""
    if len(axes := time_axes(model.inputs)) > 1:
        raise UnsupportedError(
            f"inputs go over {len(axes)} time axes, {' and '.join(axes)}, and a library takes one number of steps; export the model as C, "
            "without a library"
        )
    name = model_identifier(name)
    targets = _targets(target)
    variants = tuple(
        Variant(t, export_source(model, f"{name}_{t.core.kernels}", t.core.kernels, [f"{name}, kernels for {t.name}"]))
        for t in targets
    )
    interface = export_source(model, name, target.core.kernels)
    for variant in variants:
        if variant.exported.state != interface.state:
            raise UnsupportedError(
                f"{name}: kernels {variant.kernels} have another state than {target.core.kernels}; export without variants"
            )
    functions = tuple(
        Function(kind, function.removeprefix(f"{name}_"), tuple(p.strip() for p in parameters.split(",")))
        for kind, function, parameters in _PROTOTYPE.findall(interface.header)
    )
    header = _header(name, version, interface)
    return LibrarySource(
        name, version, interface, variants, functions, header, _source(name, version, interface, variants, functions)
    )


def _targets(target: Target) -> tuple[Target, ...]:
    """Return the targets whose kernels a library has, ``target`` last; TargetError where no processor can be asked for one of them."""
    assert target.host is not None
    others = [load_target(other) for other in target.host.variants]
    known = {target.core.kernels}
    for other in reversed(others):
        kernels, machine = other.core.kernels, other.host.machine if other.host is not None else None
        if kernels not in RUN_TIME or machine != RUN_TIME[kernels] or machine != target.host.machine:
            kinds = ", ".join(f"{k} of {m}" for k, m in RUN_TIME.items())
            raise TargetError(
                f"target {target.name}: variant {other.name} has kernels {kernels} of {machine}, which a library for "
                f"{target.host.machine} cannot choose at run time; expected {kinds}"
            )
        if kernels in known:
            raise TargetError(
                f"target {target.name}: two of its variants and itself have kernels {kernels}; leave {other.name} out"
            )
        known.add(kernels)
    return (*others, target)


def _header(name: str, version: str, interface: Exported) -> str:
    """Return the header of the exported C with an opaque state, its functions visible, and those of a library."""
    opaque = f"typedef struct {name}_state {name}_state;"
    text, found = re.subn(rf"typedef struct \{{\n(?:    .*\n)*\}} {name}_state;", opaque, interface.header)
    assert found == 1, "the header has one struct"
    own = [
        "",
        "/* Bytes of a state, and of what its address is a multiple of. */",
        f"size_t {name}_state_size(void);",
        f"size_t {name}_state_alignment(void);",
        "",
        f'/* The version of the library, "{version}". */',
        f"const char *{name}_version(void);",
        "",
        f"/* The kernels that a state's functions use. {name}_init chooses the best that the processor has. */",
        f"const char *{name}_kernels(const {name}_state *state);",
        "",
        "/* Goes on with other kernels, whose outputs are the same: returns 0, or 1 where there are none of this name or the processor lacks",
        " * their instructions. */",
        f"int {name}_use_kernels({name}_state *state, const char *kernels);",
    ]
    if interface.whole is not None:
        own += [
            "",
            "/* Bytes of `work` for a sequence of `length` steps. */",
            f"size_t {name}_work_size(uint32_t length);",
        ]
    visible = "#if defined(__GNUC__) && !defined(__wasm__)\n#pragma GCC visibility {}\n#endif\n"
    begin, end = '#ifdef __cplusplus\nextern "C" {\n#endif\n', "#ifdef __cplusplus\n}\n#endif\n"
    assert text.count(begin) == text.count(end) == 1
    text = text.replace("#include <stdint.h>\n", "#include <stddef.h>\n#include <stdint.h>\n", 1)
    text = text.replace(begin, f"{begin}\n{visible.format('push(default)')}")
    return text.replace(end, "\n".join(own).lstrip("\n") + f"\n\n{visible.format('pop')}\n{end}")


def _source(
    name: str, version: str, interface: Exported, variants: Sequence[Variant], functions: Sequence[Function]
) -> str:
    """Return the source of a library's functions."""
    lines = [*LICENCE, comment(f"{name}: the functions of the library, each by the kernels of the state."), ""]
    lines += [f'#include "{name}.h"', *(f'#include "{v.exported.name}.h"' for v in variants)]
    lines += ['#include "qrnn_x86.h"'] if len(variants) > 1 else []
    lines += ["#include <string.h>"] if len(variants) > 1 else []
    lines += ["", f"struct {name}_state {{", "    uint32_t kernels; /* the number of those below */", "    union {"]
    lines += ["        int64_t alignment;", *(f"        {v.exported.name}_state {v.kernels};" for v in variants)]
    lines += ["    } own; /* the same members for all kernels */", "};", ""]
    lines += [
        f"static const char *const {name}_names[] = {{{', '.join(f'{chr(34)}{v.kernels}{chr(34)}' for v in variants)}}};",
        "",
    ]
    lines += [f"size_t {name}_state_size(void)", "{", f"    return sizeof({name}_state);", "}", ""]
    lines += [f"size_t {name}_state_alignment(void)", "{", f"    struct {name}_placed {{", "        char before;"]
    lines += [f"        {name}_state state;", "    };", f"    return offsetof(struct {name}_placed, state);", "}", ""]
    lines += [f"const char *{name}_version(void)", "{", f'    return "{version}";', "}", ""]
    lines += [
        f"const char *{name}_kernels(const {name}_state *state)",
        "{",
        f"    return {name}_names[state->kernels];",
        "}",
        "",
    ]
    lines += _choice(name, variants)
    if interface.whole is not None:
        work = interface.whole.work.text("(size_t)length")
        lines += [f"size_t {name}_work_size(uint32_t length)", "{", f"    return sizeof(int16_t) * ({work});", "}", ""]
    for function in functions:
        lines += [*_forwarded(name, function, variants), ""]
    return "\n".join(lines)


def _choice(name: str, variants: Sequence[Variant]) -> list[str]:
    """Return the functions that choose kernels."""
    head = f"int {name}_use_kernels({name}_state *state, const char *kernels)"
    if len(variants) == 1:
        compared = [
            f"    const char *own = {name}_names[state->kernels];",
            "    while ((*own != '\\0') && (*own == *kernels)) {",
            "        own++;",
            "        kernels++;",
            "    }",
            "    return (*own == *kernels) ? 0 : 1;",
        ]
        return [head, "{", *compared, "}", ""]
    runs = [f"    case {k}U:\n        return qrnn_runs_{v.kernels}();" for k, v in enumerate(variants[:-1])]
    return [
        f"static int {name}_runs(uint32_t kernels)",
        "{",
        "    switch (kernels) {",
        *runs,
        "    default:",
        "        return 1;",
        "    }",
        "}",
        "",
        head,
        "{",
        f"    for (uint32_t k = 0U; k < {len(variants)}U; k++) {{",
        f"        if ((strcmp(kernels, {name}_names[k]) == 0) && ({name}_runs(k) != 0)) {{",
        "            state->kernels = k;",
        "            return 0;",
        "        }",
        "    }",
        "    return 1;",
        "}",
        "",
    ]


def _forwarded(name: str, function: Function, variants: Sequence[Variant]) -> list[str]:
    """Return a function that calls that of the state's kernels."""
    lines = [f"{function.kind} {name}_{function.name}({', '.join(function.parameters)})", "{"]
    if function.name == "init":
        lines += ["    state->kernels = 0U;"]
        if len(variants) > 1:
            lines += [f"    while ({name}_runs(state->kernels) == 0) {{", "        state->kernels++;", "    }"]
    first, *rest = function.arguments
    give = "" if function.kind == "void" else "return "

    def call(variant: Variant) -> str:
        arguments = [f"&{first}->own.{variant.kernels}", *rest]
        return f"{give}{variant.exported.name}_{function.name}({', '.join(arguments)});"

    if len(variants) == 1:
        return [*lines, f"    {call(variants[0])}", "}"]
    lines.append("    switch (state->kernels) {")
    for k, variant in enumerate(variants):
        lines += [f"    case {k}U:" if k < len(variants) - 1 else "    default:", f"        {call(variant)}"]
        lines += ["        break;"] if not give else []
    return [*lines, "    }", "}"]
