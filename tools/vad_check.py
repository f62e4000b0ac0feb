"""Make audio with and without speech, and measure a converted voice activity detector on it beside ONNX Runtime's float.

    python tools/vad_check.py --shared DIR [--minutes 12] [--calibration-minutes 6] [--save AUDIO.npz] [--activations 16] [--coarse]

Speech comes from espeak-ng (Debian: apt-get install espeak-ng), in many voices, rates and pitches, over noise, hum, tones, clicks and other
voices, at levels at which the detector is often in doubt. Calibration has other voices, sentences and noises than the test. The model is
silero's, `models/thirdparty/silero_vad_v6_16k.onnx`: each call takes 64 samples of context and 512 new ones, at 16 kHz.
"""

from __future__ import annotations

import argparse
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.accuracy.onnxruntime_run import run_onnxruntime
from qrnn.conversion import quantize
from qrnn.model.batch import make_batch
from qrnn.onnx_import import load_onnx
from qrnn.quantization.scheme import Scheme
from qrnn.running.session import Session
from qrnn.targets import load_target

RATE = 16_000
NEW, CONTEXT = 512, 64
"""Samples of a chunk, and those of the chunk before that stand in front of it."""

SECONDS = 16
"""The length of a clip, which begins with no state."""

Audio = npt.NDArray[np.float64]

TEXT = (
    "the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you were her all "
    "she there would their we him been has when who will more no if out so said what up its about into than them can only other new some "
    "could time these two may then do first any my now such like our over man me even most made after also did many before must through "
    "back years where much your way well down should because each just those people how too little state good very make world still own "
    "see men work long get here between both life being under never day same another know while last might us great old year off come "
    "since against go came right used take three"
)
"""Words, of which sentences are drawn."""

VOICES = {
    "calibration": ["en-us+m1", "en-gb+f2", "de+m3", "fr+f4", "es+m5", "it+f1", "pl+m2", "en-gb-scotland+m7", "pt+f5", "en-us+whisper"],
    "test": ["en-us+f3", "en-gb+m4", "en-us+m6", "nl+m1", "sv+f1", "ro+m2", "en-gb-x-rp+f4", "cs+m3", "hu+f2", "en-gb+croak", "fi+m7"],
}  # fmt: skip
"""Languages with the variants that espeak-ng calls m1 to m7 and f1 to f5: no voice is in both."""


def speech(rng: np.random.Generator, voice: str) -> Audio:
    """Return a sentence of drawn words in a voice, at a drawn rate and pitch."""
    text = " ".join(rng.choice(TEXT.split(), rng.integers(3, 14)))
    rate, pitch = rng.integers(110, 240), rng.integers(15, 85)
    command = ["espeak-ng", "-v", voice, "-s", str(rate), "-p", str(pitch), "--stdout", text]
    done = subprocess.run(command, capture_output=True, check=True)
    (given,) = struct.unpack(
        "<I", done.stdout[24:28]
    )  # its sizes in the header are those of a stream, so that `wave` refuses it
    samples = np.frombuffer(done.stdout[44:], "<i2").astype(np.float64) / 32768
    steps = np.arange(0, len(samples) - 1, given / RATE)
    return np.interp(steps, np.arange(len(samples)), _low(samples, RATE / 2 / given))


def _low(x: Audio, limit: float) -> Audio:
    """Return ``x`` without what is above ``limit``, a fraction of its sampling rate."""
    spectrum = np.fft.rfft(x)
    spectrum[int(limit * len(x)) :] = 0
    return np.asarray(np.fft.irfft(spectrum, len(x)), np.float64)


def noise(rng: np.random.Generator, count: int) -> Audio:
    """Return noise of one kind: of any colour, hum, tones that come and go, clicks, or a mixture."""
    kind = rng.integers(0, 5)
    if kind == 4:
        return noise(rng, count) + rng.uniform(0.2, 1) * noise(rng, count)
    t = np.arange(count) / RATE
    if kind == 0:
        spectrum = np.fft.rfft(rng.normal(size=count))
        spectrum /= np.maximum(np.arange(len(spectrum)), 1) ** rng.uniform(0, 1)
        made = np.fft.irfft(spectrum, count)
    elif kind == 1:
        base = rng.uniform(45, 180)
        made = sum((np.sin(2 * np.pi * base * k * t + rng.uniform(0, 6)) / k for k in range(1, 12)), np.zeros(count))
        made *= 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.3, 6) * t)
    elif kind == 2:
        made = np.zeros(count)
        for _ in range(12):
            at, long = rng.integers(0, count), int(rng.uniform(0.05, 1.5) * RATE)
            piece = np.sin(2 * np.pi * rng.uniform(150, 3500) * t[:long] * (1 + rng.uniform(-0.2, 0.2) * t[:long]))
            made[at : at + long] += (piece * np.hanning(long))[: count - at]
    else:
        made = rng.normal(size=count) * (rng.random(count) < 0.002)
        made = np.convolve(made, np.exp(-np.arange(200) / rng.uniform(5, 60)), "same")
    return np.asarray(made / (np.std(made) + 1e-12), np.float64)


def clip(rng: np.random.Generator, voices: list[str]) -> Audio:
    """Return `SECONDS` of sentences with pauses in a noise, in most clips at about its level, and now and then among other voices."""
    count = SECONDS * RATE
    spoken = np.zeros(count)
    at = int(rng.uniform(0, 2) * RATE)
    voice = str(rng.choice(voices))
    while at < count:
        piece = speech(rng, voice)[: count - at]
        spoken[at : at + len(piece)] += piece / (np.std(piece) + 1e-9) * 10 ** rng.uniform(-0.5, 0)
        at += len(piece) + int(rng.exponential(0.8) * RATE)
    around = noise(rng, count)
    if rng.random() < 0.05:
        others = np.zeros(count)
        for _ in range(rng.integers(2, 6)):
            piece = np.tile(speech(rng, str(rng.choice(voices))), 20)[:count]
            others[: len(piece)] += np.roll(piece, rng.integers(0, count))
        around = 0.4 * around + others / (np.std(others) + 1e-9)
    ratio = rng.uniform(-9, 3) if rng.random() < 0.9 else rng.uniform(3, 30)
    mixed = spoken * 10 ** (ratio / 20) + around
    return np.asarray(np.clip(mixed / np.abs(mixed).max() * 10 ** rng.uniform(-1.2, -0.1), -1, 1), np.float64)


def chunks(audio: Audio) -> npt.NDArray[np.float32]:
    """Return audio as chunks [T, 576], each with the last 64 samples before it, which are zeros before the first."""
    whole = np.concatenate([np.zeros(CONTEXT), audio[: len(audio) // NEW * NEW]])
    return np.stack([whole[k : k + CONTEXT + NEW] for k in range(0, len(whole) - CONTEXT, NEW)]).astype(np.float32)


def clips(part: str, minutes: float, seed: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield clips of a part of the data, as chunks, until there are ``minutes`` of them."""
    rng = np.random.default_rng(seed)
    for _ in range(int(np.ceil(minutes * 60 / SECONDS))):
        yield chunks(clip(rng, VOICES[part]))


@dataclass(frozen=True)
class Figures:
    """What is measured over all chunks."""

    minutes: float
    doubtful: float
    """The share of chunks with a float probability between 0.1 and 0.9."""
    rmse: float
    largest: float
    agreement: float
    """The share of decisions at 0.5 that are those of float."""

    def __str__(self) -> str:
        return (
            f"{self.minutes:.1f} minutes, {100 * self.doubtful:.1f} % of chunks in doubt (0.1 … 0.9): RMSE {self.rmse:.5f}, largest error "
            f"{self.largest:.4f}, decisions at 0.5 alike {100 * self.agreement:.3f} %"
        )


def figures(want: npt.NDArray[Any], got: npt.NDArray[Any]) -> Figures:
    """Compare probabilities [N, T]."""
    error = got - want
    return Figures(
        want.size * NEW / RATE / 60,
        float(np.mean((want > 0.1) & (want < 0.9))),
        float(np.sqrt(np.mean(error**2))),
        float(np.abs(error).max()),
        float(np.mean((got > 0.5) == (want > 0.5))),
    )


def main() -> None:
    """Make or load audio, convert, run both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=12)
    parser.add_argument("--calibration-minutes", type=float, default=6)
    parser.add_argument(
        "--save", type=Path, help="keep the audio in this file, and take it from there when it is there"
    )
    parser.add_argument("--activations", default="16", help="bits of the matrix products' operands: 8, 16 or auto")
    parser.add_argument("--refine", default="default")
    parser.add_argument(
        "--coarse",
        action="store_true",
        help="weights of 8 bits; without it, about 16 in convolutions, whose channels have equal ranges",
    )
    parser.add_argument("--target", default="generic")
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("--output", type=Path, help="keep the converted model in this file")
    options = parser.parse_args()
    path = options.shared / "models" / "thirdparty" / "silero_vad_v6_16k.onnx"
    if options.save is not None and options.save.exists():
        kept = np.load(options.save)
        calibration, test = kept["calibration"], kept["test"]
    else:
        if shutil.which("espeak-ng") is None:
            sys.exit("espeak-ng is not installed: apt-get install espeak-ng")
        calibration = np.stack(list(clips("calibration", options.calibration_minutes, 1)))
        # a conversion leaves as much room again, which for audio is full scale
        calibration *= np.minimum(1, 0.499 / np.abs(calibration).max((1, 2), keepdims=True))
        test = np.stack(list(clips("test", options.minutes, 2)))
        if options.save is not None:
            np.savez(options.save, calibration=calibration, test=test)
    model = load_onnx(path)
    batch = make_batch(model.inputs, {"input": test})
    want = run_onnxruntime(model, path, batch)["output"].reshape(len(test), -1)
    print(f"float: {100 * np.mean(want > 0.5):.1f} % of chunks are speech")
    given: dict[str, Any] = dict(load_target(options.target).scheme)
    given["activations"] = options.activations if options.activations == "auto" else int(options.activations)
    given["refine"] = options.refine
    if not options.coarse:
        given["weights"] = 16
    made = quantize(model, {"input": calibration}, Scheme(**given), options.target)
    if options.output is not None:
        from qrnn.model.file import save

        save(made, options.output)
    for decision in made.provenance.decisions:
        print(f"  {decision}")
    got = Session(made, options.backend).run({"input": test}, real="float64").outputs["output"].reshape(len(test), -1)
    print(figures(want, got))


if __name__ == "__main__":
    main()
