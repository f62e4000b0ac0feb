"""What the templates of fused steps are made of: functions that are emitted anew for each cell and instruction set, and numbers of these.

Here they raise NotImplementedError and do nothing; `qrnn.backends.cpu.fused.compiled` puts the others in their place.
"""

from __future__ import annotations

from typing import Any

from qrnn.backends.cpu import blocks, matrix
from qrnn.backends.cpu.isa import Isa
from qrnn.backends.cpu.jit import emitted, jit
from qrnn.backends.cpu.pages import CACHE_LINE
from qrnn.backends.cpu.threads.atomics import fetch, fetch_ahead


def step_blocks(values: Any, first: int, last: int, back: int) -> None:
    """Run what `blocks.emit_step` emits for the first phase."""
    raise NotImplementedError


def step_beside(values: Any, tiles: Any, first: int, last: int, back: int) -> None:
    """Run what `blocks.emit_step` emits for the first phase with `beside.Tiles`."""
    raise NotImplementedError


def second_phase(values: Any, first: int, last: int, back: int) -> None:
    """Run what `blocks.emit_step` emits for the second phase of a GRU with linear_before_reset = 0."""
    raise NotImplementedError


def group_step(values: Any, strides: Any, inputs: Any, active: int, last: int) -> None:
    """Run what `gate_steps.emit_gate_step` or `group_steps.emit_group_step` emits for the first phase."""
    raise NotImplementedError


def group_second_phase(values: Any, strides: Any, inputs: Any, active: int, last: int) -> None:
    """Run what `gate_steps.emit_gate_step` or `group_steps.emit_group_step` emits for the second phase."""
    raise NotImplementedError


def encode_vectors(values: Any, count: int) -> None:
    """Run what `blocks.emit_encode` emits."""
    raise NotImplementedError


def input_product(values: Any, vectors: int, first: int, last: int) -> None:
    """Run what `matrix.emit_product` emits."""
    raise NotImplementedError


def into_rows(values: Any, count: int) -> None:
    """Bring units into the order of the half blocks' rows, by what `blocks.emit_reorder` emits."""
    raise NotImplementedError


def out_of_rows(values: Any, count: int) -> None:
    """Bring units back into their own order, by what `blocks.emit_reorder` emits."""
    raise NotImplementedError


def configure(config: int) -> None:
    """Run what `matrix.emit_configure` emits."""
    raise NotImplementedError


def release(config: int) -> None:
    """Run what `matrix.emit_release` emits."""
    raise NotImplementedError


def copy_units(values: Any) -> None:
    """Copy so many units to an address, from an address, by `blocks.emit_copy`: compiled slices go element by element."""
    raise NotImplementedError


GATES = 1
"""Gates that have rows."""

PIECE = 1
"""Vectors of a product that a thread computes while it waits for others."""

UNITS = 1
"""Hidden units of a block."""

TWO_PHASES = False
"""Whether a step has a second phase."""

BY_GATES = False
"""Whether a group's steps go gate by gate, from the operands of their inputs: see `qrnn.backends.cpu.gate_steps`."""

BESIDE = 0
"""Steps whose inputs' products are computed beside those of as many steps before them; 0 where none are."""

TRACED = False
"""Whether `run_group` writes what happens inside: see `steps.KernelVariant.traced`."""


@jit
def fetch_row(at: int, size: int, threads: int) -> None:
    """Bring the bytes of an operand vector here that other workers of a team wrote."""
    if threads > 1:
        for line in range(0, size, CACHE_LINE):
            fetch(at + line)


@jit
def fetch_row_ahead(at: int, size: int) -> None:
    """Begin to bring the bytes of a row here, which lie anywhere."""
    for line in range(at & -CACHE_LINE, at + size, CACHE_LINE):
        fetch_ahead(line)


def shared_parts(isa: Isa) -> dict[str, Any]:
    """Return what every template for an instruction set needs: the operands' encoding, copies, AMX's tiles."""
    return {
        "encode_vectors": emitted(lambda b, *a: blocks.emit_encode(b, isa, *a), 2),
        "copy_units": emitted(blocks.emit_copy, 1),
        "configure": emitted(lambda b, config: matrix.emit_configure(b, isa, config), 1),
        "release": emitted(lambda b, _: matrix.emit_release(b, isa), 1),
    }
