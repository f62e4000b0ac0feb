"""Data for the trained models of the shared folder: what to calibrate on, and what to measure on.

Beside the models of tools/measure_accuracy.py there are whole networks (``models/whole``). The data of a model are found by what it reads:
a file that is not known here has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measure_accuracy import Arrays, cases, spoken_digits

CHUNK_FRAMES = 20
"""Frames to which networks of a fixed number of steps cut each clip."""

Halves = tuple[Arrays, Arrays]


def padded(frames: Any, lengths: Any) -> Any:
    """Return sequences that lie end to end as one array [N, T, F], with zeros after each."""
    x = np.zeros((len(lengths), int(lengths.max()), *frames.shape[1:]), np.float32)
    for row, end, length in zip(x, np.cumsum(lengths), lengths, strict=True):
        row[:length] = frames[end - length : end]
    return x


def every_other(arrays: Arrays) -> Halves:
    """Return two halves of the sequences, where no others are for training."""
    return {k: v[::2] for k, v in arrays.items()}, {k: v[1::2] for k, v in arrays.items()}


def clips(data: Path) -> Halves:
    """Return clips of spoken digits as log mel frames."""
    calibration, test = spoken_digits(data)
    return calibration, {name: test[name] for name in ("x", "lengths")}


def cut_clips(data: Path) -> Halves:
    """Return the same clips, each as 20 of its frames."""

    def cut(arrays: Arrays) -> Arrays:
        marks = [np.round(np.linspace(0, n - 1, CHUNK_FRAMES)).astype(int) for n in arrays["lengths"]]
        return {"x": np.stack([row[m] for row, m in zip(arrays["x"], marks, strict=True)])}

    calibration, test = clips(data)
    return cut(calibration), cut(test)


def noisy_clips(data: Path) -> Halves:
    """Return noisy spectra of clips."""
    with np.load(data / "fsdd_gate_mask_io.npz") as d:
        return every_other({"x": padded(d["noisy"], d["lengths"]), "lengths": d["lengths"]})


def vowels(data: Path) -> Halves:
    """Return the training and the test part of the Japanese vowels."""
    with np.load(data / "japanese_vowels.npz") as d:
        parts = [
            {"x": padded(d[f"{part}_frames"], d[f"{part}_lengths"]), "lengths": d[f"{part}_lengths"]}
            for part in ("train", "test")
        ]
    return parts[0], parts[1]


def lines_of_digits(data: Path) -> Halves:
    """Return images of lines of digits: columns of pixels are steps, as many as are a multiple of 4."""
    with np.load(data / "digits_ocr_test.npz") as d:
        columns = d["images"].transpose(0, 2, 1)[:, :, None, :].astype(np.float32) / 255
        return every_other({"x": columns, "lengths": -(-d["widths"] // 4) * 4})


def noise_spectra(data: Path) -> Halves:
    """Return frames of the noise suppressor's second network: the first third to calibrate on, and all."""
    with np.load(data / "dtln_model_2_io.npz") as d:
        frames = d["frame"][None]
    return {"x": frames[:, : frames.shape[1] // 3]}, {"x": frames}


DATA: Mapping[str, Callable[[Path], Halves]] = {
    "fsdd_deploop": cut_clips,
    "fsdd_gate_mask": noisy_clips,
    "fsdd": clips,
    "vowels": vowels,
    "digits_ocr": lines_of_digits,
    "dtln_model_2": noise_spectra,
}
"""The data of models whose names begin so; the first that fits counts."""


def data_of(model: Any, path: Path, shared: Path) -> Halves | None:
    """Return the data of one file for calibration and for measuring, under the name of the model's own first input of features."""
    for case in cases(shared):
        if case.path == path:
            return case.calibration, case.test
    found = next((make for name, make in DATA.items() if path.stem.startswith(name)), None)
    if found is None:
        return None
    own = [i.name for i in model.inputs if i.kind == "features"]
    if len(own) != 1:
        return None
    halves = found(shared / "data")
    first, second = ({own[0] if key == "x" else key: values for key, values in half.items()} for half in halves)
    return first, second
