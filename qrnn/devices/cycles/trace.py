"""Which blocks of instructions a program executes in the model's functions, and how often, as QEMU logs them.

QEMU translates a program block by block, each a straight line of instructions up to a jump. Its log (``-d exec,nochain,in_asm``) has the
instructions of a block when it is translated, and a line with its address whenever it is executed. So a program of millions of
instructions has a log of some ten thousand lines, which are counted as they are written and never stored.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from qrnn.devices.cycles.places import Part, Places
from qrnn.devices.emulator import INPUT, emulator_command
from qrnn.devices.image import Image
from qrnn.errors import DeviceError
from qrnn.targets import Target

MOST_BLOCKS = 1_000_000
"""The executed blocks after which a trace ends with the call that runs; some ten times as many instructions."""

_LISTED = re.compile(rb"^0x([0-9a-f]+):\s+((?:[0-9a-f]{4} ?){1,2})\s")
"""An instruction of a block that is translated: its address and its halfwords."""


class Step(NamedTuple):
    """An executed block: the part of the model that it began in, its address, and that of the block that followed it."""

    part: Part
    start: int
    following: int


@dataclass
class Trace:
    """How often each `Step` was executed, the addresses at which blocks end, and how many calls of the model are in it.

    ``complete`` is whether the program ran to its end.
    """

    steps: Counter[Step] = field(default_factory=Counter)
    ends: dict[int, int] = field(default_factory=dict)
    calls: int = 0
    complete: bool = True


def follow(lines: Iterable[bytes], places: Places, most_blocks: int = MOST_BLOCKS) -> Trace:
    """Return what a log says of the calls of the model behind `Places.begin`.

    The trace ends with the call in which it has had ``most_blocks`` blocks, or in its middle after twice as many.
    """
    trace = Trace()
    listed_from, first = 0, False  # the block whose instructions are listed, and whether the first of them comes
    begun, blocks = False, 0
    part, now, again = Part(), 0, False  # ``now``: the block of the model that is executed, 0 outside of its functions
    for line in lines:
        if line.startswith(b"Trace"):
            start = int(line.split(b"/", 2)[1], 16)
            if not now:
                if start == places.begin:
                    begun = True
                elif begun and start in places.entries:
                    part, now = Part(), start
            elif again and start == now:  # it was left for an interrupt before it began, and begins again
                again = False
            elif not places.interrupts(start):
                trace.steps[Step(part, now, start)] += 1
                blocks += 1
                part = places.after(part, now, trace.ends[now])
                now = start
                if places.outside(start):
                    trace.calls, now = trace.calls + 1, 0
                if blocks > (2 * most_blocks if now else most_blocks):
                    trace.complete = False
                    break
        elif line.startswith(b"Stopped"):
            again = bool(now)
        elif line.startswith(b"IN:"):
            first = True
        elif (found := _LISTED.match(line)) is not None:
            address = int(found[1], 16)
            listed_from, first = (address, False) if first else (listed_from, False)
            trace.ends[listed_from] = address + len(found[2].replace(b" ", b"")) // 2
    return trace


def record(image: Image, target: Target, places: Places, stdin: bytes, timeout: float = 60.0) -> Trace:
    """Run a program under QEMU and return the blocks that it executes in the model's functions.

    Raises DeviceError where the program faults or does not end, where it never calls the model, and where the log is not as expected.
    """
    with tempfile.TemporaryDirectory(prefix="qrnn-") as name:
        folder = Path(name)
        (folder / INPUT).write_bytes(stdin)
        command = emulator_command(target, image.path.resolve(), counted=False)
        command += ["-d", "exec,nochain,in_asm", "-dfilter", places.ranges]
        try:
            with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                assert process.stderr is not None
                timer = threading.Timer(timeout, process.kill)
                timer.start()
                try:
                    trace = follow(process.stderr, places)
                    if not trace.complete:
                        process.kill()
                    status = process.wait()
                finally:
                    timer.cancel()
                    process.kill()
        except OSError as error:
            raise DeviceError(f"target {target.name}: cannot run {command[0]}: {error.strerror}") from None
        except (ValueError, LookupError) as error:
            raise DeviceError(f"target {target.name}: the emulator's log is not as expected: {error!r}") from None
    what = f"target {target.name}: {image.path.name}"
    if trace.complete and status < 0:
        raise DeviceError(f"{what}: the traced program still ran after {timeout:g} s")
    if trace.complete and status != 0:
        raise DeviceError(f"{what}: the traced program ended with status {status}, expected 0")
    if not trace.steps:
        raise DeviceError(
            f"{what}: the emulator's log has no instruction of the model; it is of another version of QEMU"
        )
    return trace
