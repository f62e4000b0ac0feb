"""The C of a front end: the code of ``targets/front_end``, what it needs of the runtime, and the tables of its settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qrnn.datasets.log_mel import CODE_FRAC, LogMel
from qrnn.export.c_text import LICENCE, array
from qrnn.model.log_table import log_table
from qrnn.system.atomic import write_atomically
from qrnn.targets import targets_folder

RUNTIME = ("qrnn_contract.h", "qrnn_arithmetic.h", "qrnn_types.h")
"""The headers of ``targets/runtime`` that the code includes; an exported model brings the same."""


def front_end_files(settings: LogMel) -> dict[str, str]:
    """Return the text of every file of the C for these settings, by its name."""
    folder = targets_folder()
    files = {path.name: path.read_text("utf-8") for path in sorted((folder / "front_end").glob("qrnn_log_mel.*"))}
    files |= {name: (folder / "runtime" / name).read_text("utf-8") for name in RUNTIME}
    files["qrnn_log_mel_sizes.h"] = _sizes(settings)
    files["qrnn_log_mel_tables.h"] = _tables(settings)
    return files


def write_front_end(settings: LogMel, folder: Path) -> tuple[str, ...]:
    """Write the C for these settings into ``folder``, which is made where it is missing, and return the names of its files."""
    files = front_end_files(settings)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomically(folder / name, text.encode())
    return tuple(files)


def _sizes(settings: LogMel) -> str:
    values = {
        "RATE": (settings.rate, "samples a second"),
        "WINDOW": (settings.window, "samples of a frame"),
        "HOP": (settings.hop, "samples from frame to frame"),
        "POINTS": (settings.points, "points of the transform"),
        "BANDS": (settings.bands, f"bands from {settings.low:g} to {settings.high:g} Hz"),
        "CODE_FRAC": (CODE_FRAC, "a code stands for code / 2^10"),
    }
    lines = [f"#define QRNN_LOG_MEL_{name} {value} /* {words} */" for name, (value, words) in values.items()]
    return _header("QRNN_LOG_MEL_SIZES_H", lines)


def _tables(settings: LogMel) -> str:
    used = settings.weights > 0
    starts = used.argmax(1)
    counts = settings.weights.shape[1] - used[:, ::-1].argmax(1) - starts
    weights = np.concatenate([row[a : a + n] for row, a, n in zip(settings.weights, starts, counts, strict=True)])
    plain = "static const"
    parts = [
        '#include "qrnn_types.h"',
        array("int16_t", "qrnn_log_mel_hann", settings.hann, "Q15", begin=plain),
        array("int32_t", "qrnn_log_mel_turns", settings.turns, "sines in Q31", begin=plain),
        array("uint16_t", "qrnn_log_mel_starts", starts, "the first frequency of each band", begin=plain),
        array("uint16_t", "qrnn_log_mel_counts", counts, "its number of frequencies", begin=plain),
        array("uint16_t", "qrnn_log_mel_weights", weights, "their weights in Q15, band by band", begin=plain),
        array("int32_t", "qrnn_log_mel_logs", log_table(), "ln(1 + k / 128), 24 fraction bits"),
    ]
    return _header("QRNN_LOG_MEL_TABLES_H", parts)


def _header(guard: str, parts: list[str]) -> str:
    made = "/* Made by qrnn data front-end. */"
    return "\n".join([LICENCE[0], made, f"#ifndef {guard}", f"#define {guard}", "", *parts, "", "#endif", ""])
