"""The keyword spotter of ``targets/examples/keyword`` in Python: what its C gives, part by part, and the C itself on a target.

`hear` computes the features, the probabilities and the words of a recording with the same integers as the C. `build` makes the program
``replay.c`` for a target, and `replay` runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qrnn.datasets.front_end_c import write_front_end
from qrnn.datasets.log_mel import CODE_FRAC, LogMel
from qrnn.devices.emulator import run
from qrnn.devices.image import Image
from qrnn.devices.toolchain import find_toolchain
from qrnn.devices.verify import WARNINGS
from qrnn.errors import DeviceError
from qrnn.export.choices import Choices
from qrnn.export.folder import export_model
from qrnn.model.codes import code_format
from qrnn.model.quant_model import QuantModel
from qrnn.running.session import Session
from qrnn.targets import Target, targets_folder

EXAMPLE = targets_folder() / "examples" / "keyword"
NAME = "keyword_net"
CODE = 1.0 / (1 << CODE_FRAC)

Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Heard:
    """What the spotter makes of a recording of T frames: ``codes`` [T, bands], ``probabilities`` [T, classes], ``words`` [T], -1 for none."""

    codes: Int16Array
    probabilities: Int16Array
    words: Int16Array

    def events(self) -> list[tuple[int, int]]:
        """Return the frames at which a word is heard, each with the word."""
        return [(int(frame), int(self.words[frame])) for frame in np.flatnonzero(self.words >= 0)]


@dataclass(frozen=True)
class Counted:
    """The instructions of a frame in the parts of the spotter; 0 where nothing counts them."""

    front_end: float
    network: float
    smoother: float


def smoother_settings() -> Mapping[str, int]:
    """Return the numbers of ``smoother.h`` by the names of its macros, without their beginning."""
    text = (EXAMPLE / "smoother.h").read_text("utf-8")
    return {name: int(value) for name, value in re.findall(r"#define SMOOTHER_(\w+) +(\d+)", text)}


def smoothed(probabilities: Any) -> Int16Array:
    """Return the words [T] that ``smoother_step`` hears at frames of probabilities [T, classes], of which 1 is ``SMOOTHER_ONE``."""
    settings = smoother_settings()
    rows = np.asarray(probabilities, np.int64)
    ends = np.cumsum(np.pad(rows, ((settings["FRAMES"], 0), (0, 0))), 0)
    sums = (ends[settings["FRAMES"] :] - ends[: -settings["FRAMES"]])[:, :-1]  # the last class is never heard
    words = np.full(len(rows), -1, np.int16)
    hold = 0
    for frame, own in enumerate(sums):
        if hold:
            hold -= 1
        elif own.max() >= settings["LEAST"] * settings["FRAMES"]:
            words[frame], hold = own.argmax(), settings["HOLD"]
    return words


def hear(model: QuantModel, settings: LogMel, recordings: Sequence[Int16Array]) -> list[Heard]:
    """Return what the spotter makes of each recording, by the integers of the C."""
    to_input = code_format(model, "x", CODE)
    codes = [settings.codes(recording) for recording in recordings]
    lengths = np.array([len(c) for c in codes])
    x = np.zeros((len(codes), int(lengths.max()), settings.bands), np.int16)
    for row, own in zip(x, codes, strict=True):
        row[: len(own)] = to_input.integers(own)
    p = Session(model).run({"x": x}, lengths, integers=True).outputs["p"]
    return [Heard(c, q[: len(c)], smoothed(q[: len(c)])) for c, q in zip(codes, p, strict=True)]


def build(model: QuantModel, settings: LogMel, target: Target, folder: Path, program: str = "replay.c") -> Image:
    """Write the C of front end and network into ``folder``, and build a program of the example with it."""
    choices = Choices(codes={"x": code_format(model, "x", CODE)})
    export_model(model, target, folder / "net", NAME, choices=choices)
    write_front_end(settings, folder / "front_end")
    sources = [EXAMPLE / program, folder / "front_end" / "qrnn_log_mel.c", folder / "net" / f"{NAME}.c"]
    sources += [path for path in (folder / "recording.c",) if path.is_file()]
    return find_toolchain(target).build(
        target,
        sources,
        (EXAMPLE, folder / "net", folder / "front_end"),
        output=(folder / program).with_suffix(".elf"),
        flags=("-O3", *WARNINGS),
    )


def replay(
    image: Image, target: Target, settings: LogMel, recordings: Sequence[Int16Array], timeout: float = 60.0
) -> tuple[list[Heard], Counted]:
    """Run recordings, each of a frame at least, through the built ``replay.c``; return what it made of each, and what it counted."""
    stdin = b"".join(np.uint32(len(r)).tobytes() + r.astype("<i2").tobytes() for r in recordings)
    done = run(image, target, stdin, timeout)
    if done.status != 0 or len(done.output) < 32:
        raise DeviceError(f"target {target.name}: the spotter ended with status {done.status}, expected 0")
    counts = np.frombuffer(done.output[-32:], "<u8")
    classes, bands = smoother_settings()["CLASSES"], settings.bands
    rows = np.frombuffer(done.output[:-32], "<i2").reshape(-1, bands + classes + 1)
    frames = [len(settings.frames(r)) for r in recordings]
    if len(rows) != sum(frames):
        raise DeviceError(f"target {target.name}: the spotter gave {len(rows)} frames, expected {sum(frames)}")
    parts = np.split(rows, np.cumsum(frames)[:-1])
    heard = [Heard(p[:, :bands], p[:, bands:-1], p[:, -1]) for p in parts]
    return heard, Counted(*(float(count) / float(counts[3]) for count in counts[:3]))
