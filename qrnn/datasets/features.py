"""What a model reads of a recording, by the texts of the command line: ``--frames 25ms/10ms`` and ``--features logmel:40,60-4000``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.datasets.log_mel import CODE_FRAC, LEAST_POINTS, MOST_POINTS, LogMel
from qrnn.errors import DataError

_FRAMES = re.compile(r"(?P<window>\d+(\.\d+)?)(?P<unit>ms|)/(?P<hop>\d+(\.\d+)?)(?P<other>ms|)")
_LOG_MEL = re.compile(r"logmel:(?P<bands>\d{1,6})(,(?P<low>\d+(\.\d+)?)-(?P<high>\d+(\.\d+)?))?")
DEFAULT_LOW = 60.0
"""The lowest frequency of the bands in Hz where none is given; mains hum and wind lie below."""


@dataclass(frozen=True)
class RawFrames:
    """Frames of samples as they are, ``window`` samples every ``hop``, as numbers from -1 to 1."""

    rate: int
    window: int
    hop: int

    @property
    def width(self) -> int:
        """Return the features of a frame."""
        return self.window

    def real(self, samples: Any) -> npt.NDArray[np.float32]:
        """Return frames [T, window] of int16 samples [n]; fewer samples than a window are one frame, with zeros behind them."""
        given = np.pad(samples, (0, max(0, self.window - len(samples))))
        frames = np.lib.stride_tricks.sliding_window_view(given, self.window)[:: self.hop]
        return (frames / np.float32(32768)).astype(np.float32)


@dataclass(frozen=True)
class LogMelFrames:
    """Log-mel energies, as the real numbers for which the integers of the front end stand."""

    settings: LogMel

    @property
    def hop(self) -> int:
        """Return the samples from frame to frame."""
        return self.settings.hop

    @property
    def width(self) -> int:
        """Return the features of a frame."""
        return self.settings.bands

    def real(self, samples: Any) -> npt.NDArray[np.float32]:
        """Return features [T, bands] of int16 samples [n]: codes · 2^-10, which float32 holds exactly."""
        return self.settings.codes(samples).astype(np.float32) / np.float32(1 << CODE_FRAC)


Features = RawFrames | LogMelFrames


def bytes_of(features: Features, samples: int) -> int:
    """Return the most bytes that the features of so many samples take."""
    return 4 * features.width * (samples // features.hop + 1)


def read_features(features: str, frames: str, rate: int) -> Features:
    """Return what the texts of ``--features`` and ``--frames`` say, for recordings of ``rate`` Hz; DataError where they say nothing."""
    window, hop = read_frames(frames, rate)
    if features == "samples":
        return RawFrames(rate, window, hop)
    return LogMelFrames(read_log_mel(features, window, hop, rate))


def read_log_mel(features: str, window: int, hop: int, rate: int) -> LogMel:
    """Return the settings that ``logmel:BANDS`` or ``logmel:BANDS,LOW-HIGH`` says."""
    found = _LOG_MEL.fullmatch(features)
    if found is None:
        raise DataError(
            f"--features {features!r}, expected logmel:BANDS, such as logmel:40; logmel:BANDS,LOW-HIGH with frequencies in Hz; or samples"
        )
    low, high = (float(text) if text else None for text in (found["low"], found["high"]))
    lowest, highest = (DEFAULT_LOW if low is None else low), (rate / 2 if high is None else high)
    return LogMel(rate, window, hop, int(found["bands"]), lowest, highest)


def read_frames(frames: str, rate: int) -> tuple[int, int]:
    """Return the samples of a frame, and from frame to frame, that ``25ms/10ms`` or ``200/80`` says."""
    found = _FRAMES.fullmatch(frames)
    if found is None or found["unit"] != found["other"]:
        raise DataError(
            f"--frames {frames!r}, expected the length of a frame and the distance to the next, in milliseconds (25ms/10ms) or samples (200/80)"
        )
    scale = rate / 1000 if found["unit"] else 1
    window, hop = (float(found[part]) * scale for part in ("window", "hop"))
    if not (window.is_integer() and hop.is_integer()):
        raise DataError(
            f"--frames {frames}: {window:g} and {hop:g} samples at {rate} Hz, expected whole numbers; give samples, as in 200/80"
        )
    if not (1 <= hop <= window and LEAST_POINTS // 2 < window <= MOST_POINTS):
        raise DataError(
            f"--frames {frames}: {window:g} samples every {hop:g}, expected {LEAST_POINTS // 2 + 1} to {MOST_POINTS}, and a distance of "
            "at least 1 and at most a frame"
        )
    return int(window), int(hop)
