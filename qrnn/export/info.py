"""NAME_info.h says what an exported model is, as macros and as a constant struct: versions, digests, and how much memory it takes."""

from __future__ import annotations

from dataclasses import dataclass

from qrnn.export.boundary import c_string
from qrnn.export.c_text import BEGIN_C, END_C, LICENCE
from qrnn.export.ports import state_bytes
from qrnn.export.source import Exported
from qrnn.model.quant_model import QuantModel
from qrnn.system.version import __version__
from qrnn.targets import Target


@dataclass(frozen=True)
class Measured:
    """What was measured of a model on its target, in bytes: flash of code and constants, and the stack at its deepest."""

    flash_bytes: int
    stack_bytes: int


def info_header(
    model: QuantModel, exported: Exported, target: Target, digest: str, measured: Measured | None = None
) -> str:
    """Return the text of NAME_info.h; ``digest`` is the SHA-256 of the ``.qrnn`` file."""
    name, upper = exported.name, exported.name.upper()
    major, minor = model.contract.split(".")
    scratch = exported.scratch.bytes if exported.scratch is not None else 0
    stack, flash = (None, None) if measured is None else (measured.stack_bytes, measured.flash_bytes)
    texts = {
        "contract": ("of docs/arithmetic.md, by which the integers are computed", model.contract),
        "qrnn_version": ("that exported the model", __version__),
        "target": ("for which it was exported", target.name),
        "model_sha256": (f"of {name}.qrnn, the model's file", digest),
        "source_sha256": ("of the file from which that was converted", model.provenance.source_sha256),
        "calibration_sha256": ("of the data by which its ranges were chosen", model.provenance.calibration_sha256),
    }
    numbers: dict[str, tuple[str, int | None]] = {
        "contract_major": ("another one has other bits", int(major)),
        "contract_minor": ("a larger one may have more kinds of models", int(minor)),
        "weight_bytes": ("of flash, for weights", exported.weight_bytes),
        "state_bytes": ("of RAM, for each stream", state_bytes(exported.state)),
        "scratch_bytes": ("of RAM, which a call is given; 0: it works on the stack", scratch),
        "stack_bytes": ("at its deepest, measured in an emulator", stack),
        "flash_bytes": (
            "of code, constants and weights, measured in a linked program",
            flash,
        ),
    }
    lines = [*LICENCE, f"#ifndef {upper}_INFO_H", f"#define {upper}_INFO_H", "", "#include <stdint.h>", ""]
    lines += [f"#define {upper}_{key.upper()} {c_string(text)} /* {what} */" for key, (what, text) in texts.items()]
    for key, (what, number) in numbers.items():
        macro = f"{upper}_{key.upper()}"
        if key == "scratch_bytes" and scratch:
            continue  # NAME.h defines it beside the struct
        if number is None:
            lines.append(f"/* {macro} is not known: qrnn export --measure finds it. */")
        else:
            lines.append(f"#define {macro} {number} /* {what} */")
    lines += [
        "",
        *BEGIN_C,
        "/* The same, for programs that print it. A number that is not known is 0. */",
        "typedef struct {",
    ]
    lines += ["    const char *name;", *(f"    const char *{key};" for key in texts)]
    lines += [*(f"    uint32_t {key};" for key in numbers), f"}} {name}_info_type;", ""]
    lines.append(f"static const {name}_info_type {name}_info = {{")
    lines += [f"    {c_string(name)}, /* name */", *(f"    {upper}_{key.upper()}, /* {key} */" for key in texts)]
    lines += [f"    {number or 0}U, /* {key} */" for key, (_, number) in numbers.items()]
    return "\n".join([*lines, "};", "", *END_C, "#endif", ""])
