"""Noisy and clean band magnitudes of spoken digits, for networks that estimate a mask.

The clips are those of the Free Spoken Digit Dataset in ``data/fsdd_logmel.npz`` (CC BY-SA 4.0): log-mel frames of 32 bands. A clean
magnitude is exp(frame / 2); a noisy one is that plus a positive noise, whose spectrum and level are drawn for each clip. Training clips get
noise from a seed. The clips to test are those of ``data/fsdd_gate_mask_io.npz``, with the noise that the file has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]

BANDS = 32
LEVELS = 0.05, 1.2
"""The least and the largest mean of a clip's noise."""

SPECTRUM = 0.55
"""Standard deviation of the logarithm of a noise's spectrum, before neighbouring bands are averaged."""


@dataclass(frozen=True)
class Clips:
    """Noisy and clean magnitudes [T, 32] of each clip, in one order."""

    noisy: Sequence[Frames]
    clean: Sequence[Frames]

    def padded(self) -> tuple[Frames, npt.NDArray[np.int64]]:
        """Return the noisy clips padded by zeros to the longest, [N, T, 32], and their lengths [N]."""
        lengths = np.array([len(clip) for clip in self.noisy])
        x = np.zeros((len(lengths), int(lengths.max()), BANDS), np.float32)
        for row, clip in zip(x, self.noisy, strict=True):
            row[: len(clip)] = clip
        return x, lengths

    def improvement(self, estimates: Sequence[npt.NDArray[np.floating]]) -> float:
        """Return the ratio of signal to error of ``estimates`` over all clips, less that of the noisy input, in dB."""
        return self.ratio(estimates) - self.ratio(self.noisy)

    def ratio(self, estimates: Sequence[npt.NDArray[np.floating]]) -> float:
        """Return 10 · log10(Σ clean² / Σ (estimate - clean)²) over all clips."""
        pairs = [(clip.astype(np.float64), y) for clip, y in zip(self.clean, estimates, strict=True)]
        signal = sum(float(np.square(clip).sum()) for clip, _ in pairs)
        error = sum(float(np.square(y - clip).sum()) for clip, y in pairs)
        return float(10 * np.log10(signal / error))


def split(frames: npt.NDArray[np.floating], lengths: npt.NDArray[np.integer]) -> list[Frames]:
    """Return the clips that stand end to end in ``frames`` [sum T, 32]."""
    return [np.asarray(clip, np.float32) for clip in np.split(frames, np.cumsum(lengths)[:-1])]


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> Frames:
    """Return noise for clips [N, T, 32]: level · spectrum · abs(normal), with a level and a spectrum for each clip."""
    level = rng.uniform(*LEVELS, (shape[0], 1, 1))
    drawn = np.pad(rng.normal(0, SPECTRUM, (shape[0], BANDS)), ((0, 0), (1, 1)), mode="edge")
    spectrum = np.exp((drawn[:, :-2] + 2 * drawn[:, 1:-1] + drawn[:, 2:]) / 4)[:, None]
    return np.asarray(level * spectrum * np.abs(rng.normal(size=shape)) * np.sqrt(np.pi / 2), np.float32)


def training_clips(data: Path) -> list[Frames]:
    """Return the clean magnitudes of the 2,700 clips to train."""
    with np.load(data / "fsdd_logmel.npz") as d:
        clips = split(np.exp(d["frames"].astype(np.float32) / 2), d["lengths"])
        return [clip for clip, test in zip(clips, d["test"], strict=True) if not test]


def test_clips(data: Path) -> Clips:
    """Return the 150 clips to test."""
    with np.load(data / "fsdd_gate_mask_io.npz") as d:
        return Clips(split(d["noisy"], d["lengths"]), split(d["clean"], d["lengths"]))


def calibration_clips(data: Path, count: int, seed: int) -> Clips:
    """Return ``count`` of the clips to train with noise, drawn by ``seed``."""
    rng = np.random.default_rng(seed)
    clips = training_clips(data)
    clean = [clips[i] for i in rng.permutation(len(clips))[:count]]
    return Clips([clip + noise((1, *clip.shape), rng)[0] for clip in clean], clean)
