"""WAV files: every width, and files that are damaged or hostile."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qrnn.datasets import wav
from qrnn.datasets.wav import read_wav
from qrnn.errors import DataError


def wav_bytes(
    content: bytes, width: int = 2, channels: int = 1, rate: int = 8000, kind: int = 1, size: int | None = None
) -> bytes:
    """The content of a WAV file; ``size`` is what its header says of the samples."""
    declared = len(content) if size is None else size
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * channels * width, channels * width, 8 * width)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", declared) + content
    return b"RIFF" + struct.pack("<I", min(len(body) + declared - len(content), 2**32 - 1)) + body


@given(st.sampled_from([1, 2, 3, 4]), st.integers(1, 3), st.integers(1, 50), st.integers(0, 2**32 - 1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_upper_bits_of_every_width(tmp_path: Path, width: int, channels: int, count: int, seed: int) -> None:
    low, high = -(1 << (8 * width - 1)), (1 << (8 * width - 1)) - 1
    values = np.random.default_rng(seed).integers(low, high, (count, channels), endpoint=True)
    values.flat[:2] = [low, high][: values.size]
    stored = values + (128 if width == 1 else 0)
    content = b"".join(int(v).to_bytes(width, "little", signed=width > 1) for v in stored.flat)
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(content, width, channels, 44100))
    found = read_wav(path, channels - 1)
    shifted = values[:, -1] << 8 if width == 1 else values[:, -1] >> (8 * width - 16)
    assert found.rate == 44100
    assert found.samples.dtype == np.int16
    assert np.array_equal(found.samples, shifted)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a WAV file"),
        (b"RIFF", "not a WAV file"),
        (b"\x93NUMPY" * 20, "not a WAV file"),
        (wav_bytes(b"\0" * 8)[:30], "not a WAV file"),
        (wav_bytes(b"\0" * 8, size=2**32 - 1), "cut off"),
        (wav_bytes(b"\0" * 8, size=64), "cut off"),
        (wav_bytes(b"\0" * 8, size=12), "cut off"),
        (wav_bytes(b""), "no samples"),
        (wav_bytes(b"\0" * 8, 4, kind=3), "ffmpeg"),
        (wav_bytes(b"\0" * 8, 2, channels=2), "choose one by --channel 0 to 1"),
        (wav_bytes(b"\0" * 8, 2, channels=0), "not a WAV file|channels"),
        (wav_bytes(b"\0" * 8, 2, channels=1000), "1000 channels"),
        (wav_bytes(b"\0" * 16, 8), "64 bits|not a WAV file"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_wav(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_headers_are_refused_or_read(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(wav_bytes(bytes(range(64))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 47))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        assert len(read_wav(path, 0).samples) <= 64


def test_other_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(bytes(64)))
    with pytest.raises(DataError, match="8000 samples a second, expected 16000"):
        read_wav(path, rate=16000)
    with pytest.raises(DataError, match="no channel 1"):
        read_wav(path, channel=1)
    with pytest.raises(DataError, match="expected a WAV file"):
        read_wav(tmp_path / "none.wav")
    monkeypatch.setattr(wav, "available_memory", lambda: 100)
    with pytest.raises(DataError, match="too many"):
        read_wav(path)
