"""Measure the keyword spotter of docs/keyword.md, from samples to words, and write its figures into the page.

    python tools/measure_keyword.py --shared DIR --model FOLDER [--target cortex-m4] [--output docs/keyword.md]

FOLDER is what ``tools/train_keyword.py`` wrote; DIR holds the recordings (`keyword_clips`). The network is converted with the defaults of
the target. Counted are test clips that are right at their last frame, and words that are heard in one long recording of all clips, with
features and network in float, in integers on this machine, and in the emulator of the target.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keyword_clips import CLASSES, SETTINGS, Clip, clips_to_test, frame_at, padded
from keyword_spotter import Counted, Heard, build, hear, replay, smoothed, smoother_settings
from page_section import with_section
from provenance import when

import qrnn
from qrnn.accuracy.metrics import wilson_interval
from qrnn.datasets.log_mel import CODE_FRAC
from qrnn.model.float_model import FloatModel
from qrnn.model.quant_model import QuantModel
from qrnn.system.atomic import write_atomically
from qrnn.targets import load_target

SECTION = "## Figures"
OTHERS = ("cortex-m0plus", "cortex-m55", "rv32imc")
"""Other targets whose instructions are counted, on the first clips."""

FEW = 10

EARLY, LATE = 25, 30
"""A word is heard right where it is said from so many frames before its end to so many after it, and for the first time."""


def float_heard(source: FloatModel, recordings: Sequence[Any]) -> list[Heard]:
    """Return what features and network in float64 make of recordings, with probabilities rounded for the smoother alone."""
    x, lengths = padded([SETTINGS.real(recording) for recording in recordings])
    p = qrnn.run_oracle(source, {"x": x}, lengths).outputs["p"]
    q = np.rint(p * smoother_settings()["ONE"]).astype(np.int16)
    empty = np.zeros((0, 0), np.int16)
    return [Heard(empty, row[:n], smoothed(row[:n])) for row, n in zip(q, lengths, strict=True)]


def right_at_the_end(heard: Sequence[Heard], clips: Sequence[Clip]) -> int:
    """Return how many clips have their digit as the likeliest class of their last frame."""
    return sum(int(h.probabilities[-1].argmax()) == clip.digit for h, clip in zip(heard, clips, strict=True))


def words_heard(heard: Heard, clips: Sequence[Clip]) -> tuple[int, int, int]:
    """Return how many words of a long recording are heard rightly, heard as another, and how many events belong to no word."""
    events, right, wrong = heard.events(), 0, 0
    start = 0
    used = set()
    for clip in clips:
        end = frame_at(start + clip.end)
        own = [k for k, (frame, _) in enumerate(events) if end - EARLY <= frame <= end + LATE and k not in used]
        used.update(own[:1])
        if own:
            right += events[own[0]][1] == clip.digit
            wrong += events[own[0]][1] != clip.digit
        start += len(clip.samples)
    return right, wrong, len(events) - len(used)


def share(count: int, total: int) -> str:
    """Return a share in percent with its 95 % interval."""
    low, high = wilson_interval(count, total)
    return f"{100 * count / total:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def figures(shared: Path, folder: Path, target_name: str) -> str:
    """Return the section of the page."""
    target = load_target(target_name)
    source = qrnn.load_onnx(folder / "keyword.onnx")
    with np.load(folder / "keyword_calibration.npz") as calibration:
        model = qrnn.quantize(source, dict(calibration), qrnn.Scheme(**target.scheme), target.name)
    clips = clips_to_test(shared)
    recordings = [clip.samples for clip in clips]
    long = np.concatenate(recordings)
    reals = [
        *float_heard(source, recordings),
        *float_heard(source, [long]),
    ]  # apart, since all are padded to the longest
    integers = [*hear(model, SETTINGS, recordings), *hear(model, SETTINGS, [long])]
    with tempfile.TemporaryDirectory() as name:
        image = build(model, SETTINGS, target, Path(name))
        emulated, counted = replay(image, target, SETTINGS, [*recordings, long], timeout=1200)
        sizes = (
            f"{image.text + image.rodata + image.data:,} bytes of flash and {image.ram_bytes:,} of RAM beside the stack"
        )
    same = all(
        np.array_equal(getattr(a, part), getattr(b, part))
        for a, b in zip(integers, emulated, strict=True)
        for part in ("codes", "probabilities", "words")
    )
    rows = []
    for what, heard in (
        ("features and network in float64", reals),
        ("integers, on this machine", integers),
        (f"integers, in C on an emulated {target.name}", emulated),
    ):
        right, wrong, extra = words_heard(heard[-1], clips)
        rows.append(
            f"| {what} | {share(right_at_the_end(heard[:-1], clips), len(clips))} | {share(right, len(clips))} | {wrong} | "
            f"{len(clips) - right - wrong} | {extra} |"
        )
    error, largest = errors(recordings)
    counts = {target.name: counted, **{name: others(model, name, recordings[:FEW]) for name in OTHERS}}
    columns = [(c.front_end, c.network, c.smoother) for c in counts.values()]
    names = (
        f"front end: {SETTINGS.window} samples, {SETTINGS.points} points, {SETTINGS.bands} bands, logarithms",
        "network, with the codes' conversion",
        "smoother",
    )
    return "\n".join(
        [
            SECTION,
            "",
            f"Made by `python tools/measure_keyword.py --shared DIR --model FOLDER` on {when()}.",
            "",
            f"{len(clips)} test clips of {len(CLASSES) - 1} digits by the six speakers of training, {len(long) / SETTINGS.rate:.0f} s in all; "
            "95 % intervals of Wilson. A clip is right where its digit is the likeliest class at its last frame, 80 ms after the word. In one "
            f"recording of all clips, which runs from one state to the next, a word is heard from {10 * EARLY} ms before its end to "
            f"{10 * LATE} ms after it.",
            "",
            "| computed by | clips right at the last frame | words heard in one long recording | as another | missed | where none is |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            f"The emulated core and this machine gave {'the same bits' if same else 'DIFFERENT bits'} for every feature, probability and word "
            f"of {sum(len(h.words) for h in emulated):,} frames. The integer features are within {largest:.4f} of those in float64 "
            f"({10 * largest / np.log(10):.3f} dB) in bands no more than 60 dB below their frame's power, {error:.5f} in the mean.",
            "",
            f"| instructions of a frame of 10 ms | {' | '.join(counts)} |",
            f"|---|{'---|' * len(counts)}",
            *(
                f"| {part} | {' | '.join(f'{own:,.0f}' for own in row)} |"
                for part, row in zip(names, zip(*columns, strict=True), strict=True)
            ),
            f"| together | {' | '.join(f'{sum(column):,.0f}' for column in columns)} |",
            "",
            f"On {target.name} the program takes {sizes}, with the emulator's start-up code.",
            "",
        ]
    )


def others(model: QuantModel, name: str, recordings: Sequence[Any]) -> Counted:
    """Return what the emulator of another target counts."""
    target = load_target(name)
    with tempfile.TemporaryDirectory() as folder:
        return replay(build(model, SETTINGS, target, Path(folder)), target, SETTINGS, recordings)[1]


def errors(recordings: Sequence[Any]) -> tuple[float, float]:
    """Return the mean and the largest difference of integer features from float64 ones, of bands at most 60 dB below their frame."""
    found = []
    for recording in recordings:
        real = SETTINGS.real(recording)
        loud = real > SETTINGS.level(recording)[:, None] - 6 * np.log(10)
        found.append(np.abs(SETTINGS.codes(recording) / (1 << CODE_FRAC) - real)[loud])
    every = np.concatenate(found)
    return float(every.mean()), float(every.max())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the section or write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    section = figures(chosen.shared, chosen.model, chosen.target)
    if chosen.output is None:
        print(section)
    else:
        page = chosen.output.read_text(encoding="utf-8")
        write_atomically(chosen.output, with_section(page, SECTION, section).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
