"""Data of tools/measure_finetune.py: labelled sets of the shared folder in two parts, and speech-like audio that is made here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from measure_accuracy import CALIBRATION_CLIPS, mnist, spoken_digits
from shared_cases import padded

from qrnn.model.parts import FloatArray

Arrays = dict[str, Any]

FSDD = ("lstm64", "gru64", "gru64x2", "bilstm64", "rnn64", "hardlstm64")
MNIST_TRAINED = 8000
"""The images that are trained on; the 2,000 after them are the test."""

RATE, BLOCK, HOP = 16000, 512, 128
"""Samples in a second, samples of a frame, and from one frame to the next, of the noise suppressor DTLN."""

CLIP_FRAMES, CLIPS, JUDGED_CLIPS, CALIBRATED_CLIPS = 200, 1200, 12, 16
"""Frames of a clip that is made; how many clips are trained on, how many judge epochs, and how many of the first say ranges too."""

QUIET_SHARE, RMS_OF_QUIET = 0.15, 2.48
"""The share of a recording's frames that hold noise alone, and noise's root mean square over that quantile of its magnitudes.

Magnitudes of noise have a Rayleigh distribution, whose quantile p is sqrt(-ln(1 - p)) of their root mean square.
"""

SEEN_FRAMES = 400
"""The frames of the given clip on which the noise suppressor is calibrated; those after them are the test, which nothing has seen."""


@dataclass(frozen=True)
class Labelled:
    """A model with data to calibrate, to train and to test on; the last two have labels."""

    name: str
    path: Path
    calibration: Arrays
    training: Arrays
    test: Arrays


def labelled(shared: Path) -> list[Labelled]:
    """Return the labelled sets: spoken digits, 2,700 clips to train and 300 to test, and rows of MNIST's images, 8,000 and 2,000."""
    calibration, test = spoken_digits(shared / "data")
    with np.load(shared / "data" / "fsdd_logmel.npz") as d:
        own = ~d["test"]
        whole = {"x": padded(d["frames"], d["lengths"]), "lengths": d["lengths"], "labels": d["labels"]}
    training = {name: array[own] for name, array in whole.items()}
    found = [
        Labelled(f"fsdd_{name}", shared / "models" / f"fsdd_{name}.onnx", calibration, training, test) for name in FSDD
    ]
    _, images = mnist(shared / "data")
    parts = [
        {name: array[rows] for name, array in images.items()}
        for rows in (slice(MNIST_TRAINED), slice(MNIST_TRAINED, None))
    ]
    few = {"input.1": parts[0]["input.1"][:CALIBRATION_CLIPS]}
    path = shared / "models" / "thirdparty" / "mnist_gru128x2.onnx"
    return [*found, Labelled("mnist_gru128x2", path, few, *parts)]


def noise_suppressor(shared: Path) -> tuple[Path, Arrays, Arrays]:
    """Return the noise suppressor's model, its calibration data, and the whole clip."""
    with np.load(shared / "data" / "dtln_model_1_io.npz") as d:
        clip = d["magnitude"][None]
    return shared / "models" / "thirdparty" / "dtln_model_1.onnx", {"input_2": clip[:, :SEEN_FRAMES]}, {"input_2": clip}


def beside(first: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return sequences [1, T, F] and [N, T', F] of at most T steps as one array [1 + N, T, F], with zeros after the shorter ones."""
    return np.concatenate([first, np.pad(others, ((0, 0), (0, first.shape[1] - others.shape[1]), (0, 0)))])


def speech_like(count: int, seed: int, like: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return magnitudes [count, frames, 257] of made-up audio that sounds as if recorded where ``like`` [1, T, 257] was.

    Syllables of harmonics with formants, bursts of noise and pauses get on average the spectrum of ``like`` above its noise, and noise gets
    that of its quiet frames; each clip has a level, a tilt and a noise of its own about these.
    """
    rng = np.random.default_rng(seed)
    samples = BLOCK + (CLIP_FRAMES - 1) * HOP
    noise, speech = _spectra(like[0].astype(np.float64))
    voices = [_spectrogram(_utterance(samples, rng)) for _ in range(count)]
    usual = np.sqrt(_smooth(np.mean([np.mean(np.abs(voice) ** 2, axis=0) for voice in voices], axis=0)))
    place = np.linspace(-0.5, 0.5, BLOCK // 2 + 1)
    found = np.empty((count, CLIP_FRAMES, BLOCK // 2 + 1), np.float32)
    for clip, voice in zip(found, voices, strict=True):
        of_voice = speech / usual * 10 ** ((rng.uniform(-6, 4) + rng.uniform(-5, 5) * place) / 20)
        of_noise = noise / math.sqrt(BLOCK) * 10 ** ((rng.uniform(-4, 4) + rng.uniform(-3, 3) * place) / 20)
        clip[...] = np.abs(voice * of_voice + _spectrogram(rng.normal(size=samples)) * of_noise)
    return found


def _spectra(magnitudes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the root mean squares [257] of the noise and of the speech in magnitudes [T, 257]."""
    noise = RMS_OF_QUIET * _smooth(np.quantile(magnitudes, QUIET_SHARE, axis=0))
    power = np.mean(magnitudes**2, axis=0)
    return noise, np.sqrt(_smooth(np.maximum(power - noise**2, 0.05 * power)))


def _smooth(spectrum: FloatArray) -> FloatArray:
    """Return the geometric mean of each value and its neighbours, of which high frequencies have more."""
    logs = np.log(np.maximum(spectrum, 1e-12))
    reach = [0, 0, 1, 1] + [3 + k // 25 for k in range(4, len(logs))]
    return np.exp([logs[max(0, k - r) : k + r + 1].mean() for k, r in enumerate(reach)])


def _spectrogram(audio: FloatArray) -> npt.NDArray[np.complex128]:
    """Return the spectra [frames, 257] of audio."""
    starts = np.arange(CLIP_FRAMES)[:, None] * HOP + np.arange(BLOCK)
    found: npt.NDArray[np.complex128] = np.fft.rfft(audio[starts], axis=1)
    return found


def _utterance(samples: int, rng: np.random.Generator) -> FloatArray:
    """Return syllables one after the other, each voiced or a burst of noise, with pauses between."""
    found, at = np.zeros(samples), int(rng.integers(0, RATE // 4))
    base, tilt, pauses = rng.uniform(80, 260), rng.uniform(0.4, 1.2), rng.uniform(0.05, 0.4)
    bursts = rng.uniform(0.03, 0.3)
    while at < samples:
        voiced = rng.random() < 0.7
        length = int(RATE * rng.uniform(0.05, 0.3) * (1.0 if voiced else 0.6)) + BLOCK // 8
        sound = _voiced(length, base * rng.uniform(0.8, 1.25), tilt, rng) if voiced else _burst(length, rng)
        shape = np.sin(np.pi * np.linspace(0, 1, length)) ** rng.uniform(0.3, 1.5)
        part = (rng.uniform(0.3, 1.0) if voiced else bursts * rng.uniform(0.3, 1.3)) * shape * sound
        found[at : at + length] += part[: samples - at]
        at += length + (int(RATE * rng.uniform(0.1, 0.6)) if rng.random() < pauses else -RATE // 50)
    power = np.sqrt(np.mean(found**2)) or 1.0
    return _in_room(found, rng) / power if rng.random() < 0.5 else found / power


def _in_room(audio: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return audio with an echo that dies away."""
    length = int(RATE * rng.uniform(0.1, 0.4))
    echo = rng.normal(size=length) * np.exp(-6.9 * np.arange(length) / length)
    echo *= rng.uniform(0.05, 0.4) / np.sqrt(np.sum(echo**2))
    echo[0] += 1.0
    size = len(audio) + length
    found: FloatArray = np.fft.irfft(np.fft.rfft(audio, size) * np.fft.rfft(echo, size), size)[: len(audio)]
    return found


def _voiced(length: int, pitch: float, tilt: float, rng: np.random.Generator) -> FloatArray:
    """Return harmonics of a gliding pitch, weighted by four formants that move, and falling by the power ``tilt`` of their number."""
    time = np.linspace(0, 1, length)
    glide = pitch * (1 + rng.uniform(-0.2, 0.2) * time + 0.02 * np.sin(2 * np.pi * 5 * time * length / RATE))
    phase = 2 * np.pi * np.cumsum(glide) / RATE
    ranges = ((250, 900), (800, 2400), (2000, 3300), (3000, 4500))
    formants = [(rng.uniform(*r), rng.uniform(*r), rng.uniform(60, 200) * (1 + k)) for k, r in enumerate(ranges)]
    found = np.zeros(length)
    for number in range(1, int(min(70, RATE / 2 / pitch))):
        frequency = number * glide
        gain = sum(
            0.7**k / (1 + ((frequency - (a + (b - a) * time)) / width) ** 2) for k, (a, b, width) in enumerate(formants)
        )
        found += (
            (gain + 0.02) / number**tilt * np.sin(number * phase + rng.uniform(0, 2 * np.pi)) * (frequency < RATE / 2)
        )
    return found / (np.sqrt(np.mean(found**2)) or 1.0)


def _burst(length: int, rng: np.random.Generator) -> FloatArray:
    """Return noise of one band, as of a fricative or a plosive."""
    low = rng.uniform(500, 5000)
    spectrum = np.fft.rfft(rng.normal(size=length))
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    spectrum *= 1 / (1 + (low / np.maximum(frequency, 1)) ** 4) / (1 + (frequency / rng.uniform(low, 8000)) ** 4)
    found: FloatArray = np.fft.irfft(spectrum, length)
    return found / (np.sqrt(np.mean(found**2)) or 1.0)
