"""Exported C on devices: the installed compilers, what they linked, and the emulators that run it."""

from __future__ import annotations

from qrnn.devices.emulator import EmulatorRun, run
from qrnn.devices.image import Image, Symbol, read_image
from qrnn.devices.toolchain import Toolchain, boards_folder, find_toolchain, toolchains

__all__ = [
    "EmulatorRun",
    "Image",
    "Symbol",
    "Toolchain",
    "boards_folder",
    "find_toolchain",
    "read_image",
    "run",
    "toolchains",
]
