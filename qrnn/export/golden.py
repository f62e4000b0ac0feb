"""The self-test of an exported model has golden vectors, made by the reference; `qrnn.export.selftest` has the C that replays them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qrnn.export.boundary import CODE_TYPES
from qrnn.export.c_text import LICENCE, caller_array
from qrnn.export.ports import Port
from qrnn.export.replay import Replayed, Vectors, read_back, sequence_steps
from qrnn.export.source import Exported
from qrnn.model.codes import RANGES

RANDOM_LENGTHS = (1, 2, 5)
"""The steps of the golden sequences of random numbers."""
LONG = 64
"""The steps of one more golden sequence, for a model of which a step may give no row."""
MOST_STEPS = 16
"""The most steps of a golden sequence from the user's data."""
MOST_SEQUENCES = 2
CODE_ROWS = 4
"""The vectors of codes for each input that takes some."""
SEED = 20


def wants_long(model: Exported) -> bool:
    """Return whether sequences of `RANDOM_LENGTHS` may leave layers without a row."""
    return model.counts_rows or (model.whole is not None and model.whole.filling_steps > min(RANDOM_LENGTHS))


def golden_header(
    model: Exported, sequences: Sequence[Vectors], results: Sequence[Replayed], generated: Sequence[str] = ()
) -> str:
    """Return the header with the inputs, outputs and final states of all sequences, one array each, and the arrays ``generated``."""
    lines = [
        *LICENCE,
        "/* Sequences with the outputs and states that qrnn's reference gives. */",
        "#include <stdint.h>",
        "",
    ]
    for steps in model.lengths:
        counts = np.array([sequence_steps(model, s)[steps] for s in sequences])
        lines.append(caller_array("uint16_t", f"golden_{steps}", counts))
    for port in model.inputs:
        values = np.concatenate([s[port.name].reshape(-1) for s in sequences])
        lines.append(caller_array(port.kind, f"golden_in_{port.name}", values))
    for port, kind, rows, integers in coded(model):
        lines += [
            caller_array(kind, f"golden_codes_{port.name}", rows),
            caller_array("int16_t", f"golden_coded_{port.name}", integers),
        ]
    for given in model.given:
        port = given.port
        values = np.concatenate([s[port.name].reshape(-1) for s in sequences])
        lines.append(caller_array(port.kind, f"golden_given_{port.name}", values))
        values = np.concatenate([r.state[read_back(given)].reshape(-1) for r in results])
        lines.append(caller_array(port.kind, f"golden_got_{port.name}", values))
    for port in model.outputs:
        values = np.concatenate([r.outputs[port.name].reshape(-1) for r in results])
        lines.append(
            caller_array(port.kind, f"golden_out_{port.name}", values if values.size else np.zeros(1, np.int64))
        )
    if model.counts_rows:
        lines.append(
            caller_array("uint32_t", "golden_rows", np.array([_rows(model, r) for r in results]), "that come out")
        )
    lines += [
        caller_array(f.kind, f"golden_state_{f.name}", np.concatenate([r.state[f.name] for r in results]))
        for f in model.compared_state
    ]
    return "\n".join([*lines, *generated]) + "\n"


def coded(model: Exported) -> list[tuple[Port, str, npt.NDArray[np.int64], npt.NDArray[np.int16]]]:
    """Return for each input that takes codes the codes' type in C, rows of codes with the ends of their range, and their integers."""
    found = []
    for port in model.inputs:
        if (codes := model.choices.codes.get(port.graph_name)) is not None:
            least, most = RANGES[codes.kind]
            rows = np.random.default_rng(SEED).integers(least, most, (CODE_ROWS, port.count), endpoint=True)
            rows[0], rows[1] = least, most
            found.append((port, CODE_TYPES[codes.kind], rows, codes.integers(rows)))
    return found


def _rows(model: Exported, result: Replayed) -> int:
    """Return how many steps of the outputs over time came out; 0 where there is none."""
    return next((len(result.outputs[p.name]) for p in model.outputs if p.has_time), 0)
