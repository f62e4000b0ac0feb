"""Recordings of spoken digits with silence around them, from which a keyword spotter is trained and measured.

The recordings are those of the Free Spoken Digit Dataset (CC BY-SA 4.0), in ``data/fsdd_wav.npz`` of a folder that is not part of this
repository. Around each lies noise as low as that of a microphone, and the same noise is added to the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.datasets.log_mel import LogMel

SETTINGS = LogMel(rate=8000, window=200, hop=80, bands=32, low=60.0, high=4000.0)
"""Frames of 25 ms every 10 ms."""

NOTHING = 10
"""The class of frames at which no word has just ended; the others are the digits."""

CLASSES = (*(str(digit) for digit in range(10)), "nothing")
LEAD, TAIL = 30, 8
"""Frames of noise before and behind the word in a clip to test, which is decided at its last frame."""

TEST_INDEX = 5
"""Recordings below this number, of each digit and speaker, are the test part, as the dataset's authors say."""

LONGEST = 8000
"""Samples of the longest recording that is trained with; few are longer."""

NOISE = (1.0, 30.0)
"""The standard deviation of noise, in units of a sample, is drawn between these, evenly over octaves."""

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Clip:
    """Samples [n] at 8 kHz with one word in them, its digit, and the samples at which it begins and ends."""

    samples: Int16Array
    digit: int
    begin: int
    end: int


def words(shared: Path, test: bool) -> list[tuple[Int16Array, int]]:
    """Return the recordings of a part with their digits."""
    with np.load(shared / "data" / "fsdd_wav.npz") as d:
        samples, lengths, labels, index = d["samples"], d["lengths"], d["labels"], d["index"]
    starts = np.cumsum(lengths) - lengths
    chosen = np.flatnonzero((index < TEST_INDEX) == test)
    return [(samples[starts[k] : starts[k] + lengths[k]], int(labels[k])) for k in chosen]


def clip(word: Int16Array, digit: int, lead: int, tail: int, rng: np.random.Generator, gain: float = 1.0) -> Clip:
    """Return a word with ``lead`` frames of noise before it and ``tail`` behind it."""
    before, after = (frames * SETTINGS.hop for frames in (lead, tail))
    sound = np.concatenate([np.zeros(before), word * gain, np.zeros(after)])
    level = 2.0 ** rng.uniform(*np.log2(NOISE))
    noisy = np.clip(np.rint(sound + rng.normal(0.0, level, len(sound))), -32768, 32767).astype(np.int16)
    return Clip(noisy, digit, before, before + len(word))


def clips_to_test(shared: Path, seed: int = 0) -> list[Clip]:
    """Return the clips to test: every recording of the test part once."""
    rng = np.random.default_rng(seed)
    return [clip(word, digit, LEAD, TAIL, rng) for word, digit in words(shared, True)]


def frame_at(sample: int) -> int:
    """Return the last frame that ends at a sample or before it."""
    return (sample - SETTINGS.window) // SETTINGS.hop


def features(recordings: Sequence[Int16Array]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return the features [N, T, bands] of recordings by the integer front end, as real numbers, and their lengths [N]."""
    return padded([SETTINGS.codes(recording) / np.float32(1024) for recording in recordings])


def padded(sequences: Sequence[Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return sequences [T, bands] as one array with zeros behind them, and their lengths."""
    lengths = np.array([len(s) for s in sequences], np.int64)
    x = np.zeros((len(sequences), int(lengths.max()), SETTINGS.bands), np.float32)
    for row, sequence in zip(x, sequences, strict=True):
        row[: len(sequence)] = sequence
    return x, lengths
