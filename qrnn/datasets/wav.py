"""Read sampled sound from WAV files: integers of 8, 16, 24 or 32 bits, as 16 bits. Files may be damaged or hostile.

What a file's header says is checked against the file's size before anything is allocated.
"""

from __future__ import annotations

import os
import struct
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qrnn.data_files.archive import SHARE_OF_MEMORY, available_memory
from qrnn.errors import DataError
from qrnn.system.files import open_regular
from qrnn.system.sizes import size_text

Int16Array = npt.NDArray[np.int16]

MOST_CHANNELS = 64
_DAMAGES = (wave.Error, EOFError, struct.error, ValueError, OverflowError, ZeroDivisionError, RuntimeError)
"""The exceptions of Python's reader on damaged and foreign files."""


@dataclass(frozen=True)
class Recording:
    """The samples [n] of one channel, at ``rate`` Hz."""

    samples: Int16Array
    rate: int


def read_wav(path: Path, channel: int | None = None, rate: int | None = None) -> Recording:
    """Return the recording in a WAV file of integer samples.

    Samples of 24 and 32 bits lose their lower bits; those of 8 bits become the upper ones. ``channel`` is the one that is read, from 0 on;
    a file with several needs it. ``rate`` is the one that is expected. DataError names the file and what is wrong with it.
    """
    try:
        opened = open_regular(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; expected a WAV file") from None
    with opened as file:
        size = os.fstat(file.fileno()).st_size
        try:
            with wave.open(file) as reader:
                channels, width = reader.getnchannels(), reader.getsampwidth()
                _check(path, reader, channel, rate)
                count = reader.getnframes()
                declared = count * channels * width
                if declared > size:
                    raise _cut_off(path, declared, size)
                free = available_memory()
                if free is not None and 4 * declared > SHARE_OF_MEMORY * free:
                    raise DataError(
                        f"{path}: {size_text(declared)} of samples, too many for the memory that is free; cut the recording"
                    )
                content = reader.readframes(count)
                found = reader.getframerate()
        except _DAMAGES as error:
            reason = str(error) or type(error).__name__
            raise DataError(
                f"{path}: not a WAV file of integer samples ({reason}); convert it, for example with "
                "ffmpeg -i IN -c:a pcm_s16le OUT.wav"
            ) from None
    if not content:
        raise DataError(f"{path}: it has no samples; leave it out")
    if len(content) != declared:
        raise _cut_off(path, declared, size)
    return Recording(_samples(content, width, channels, channel or 0), found)


def _cut_off(path: Path, declared: int, size: int) -> DataError:
    return DataError(
        f"{path}: its header says {declared:,} bytes of samples, and the file has {size:,} in all; it is cut off, or was written as a "
        "stream: save it again"
    )


def _check(path: Path, reader: wave.Wave_read, channel: int | None, rate: int | None) -> None:
    """Raise DataError for a channel that a file lacks, a width that is not read, and another rate than ``rate``."""
    channels, width, found = reader.getnchannels(), reader.getsampwidth(), reader.getframerate()
    if not 1 <= channels <= MOST_CHANNELS:
        raise DataError(f"{path}: {channels} channels, expected 1 to {MOST_CHANNELS}")
    if channel is None and channels > 1:
        raise DataError(f"{path}: {channels} channels; choose one by --channel 0 to {channels - 1}")
    if channel is not None and not 0 <= channel < channels:
        raise DataError(f"{path}: it has no channel {channel}; expected 0 to {channels - 1}")
    if width not in (1, 2, 3, 4):
        raise DataError(f"{path}: samples of {8 * width} bits, expected 8, 16, 24 or 32")
    if rate is not None and found != rate:
        raise DataError(
            f"{path}: {found} samples a second, expected {rate}; convert it, for example with "
            f"ffmpeg -i IN -ar {rate} -c:a pcm_s16le OUT.wav, or give --rate {found}"
        )


def _samples(content: bytes, width: int, channels: int, channel: int) -> Int16Array:
    """Return the upper 16 bits of one channel's samples."""
    if width == 1:
        values = np.frombuffer(content, np.uint8).reshape(-1, channels)[:, channel]
        return ((values.astype(np.int16) - 128) * 256).astype(np.int16)
    whole = np.frombuffer(content, np.uint8).reshape(-1, channels, width)
    return np.ascontiguousarray(whole[:, channel, width - 2 :]).view("<i2")[:, 0].astype(np.int16)
