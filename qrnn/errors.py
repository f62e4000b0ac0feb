"""The errors that a user can cause: one base class and its few kinds.

A message says where the problem is, which value was found, what was expected and what to do about it. The command line prints it on one
line and exits with status 2. Callers need to catch no other exception of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class QrnnError(Exception):
    """The base class of every error that a user's input can cause."""


class UnsupportedError(QrnnError):
    """A model asks for something that qrnn does not implement; it is refused by name, never ignored.

    Of a graph that is refused as a whole, ``problems`` are all groups of problems, each a message by itself, and ``roles`` what its inputs
    were taken for (`qrnn.onnx_import.roles.InputRole`), by name, as far as that was found. ``nodes`` are the messages of refused nodes, by
    the first tensor that each makes; ``recurs`` is False for a graph in which nothing recurs.
    """

    def __init__(
        self,
        message: str = "",
        problems: tuple[str, ...] = (),
        roles: Mapping[str, Any] | None = None,
        nodes: Mapping[str, str] | None = None,
        recurs: bool = True,
    ) -> None:
        super().__init__(message)
        self.nodes: Mapping[str, str] = nodes or {}
        self.recurs = recurs
        self.problems = problems or (message,)
        self.roles: Mapping[str, Any] = roles or {}


class ModelFileError(QrnnError):
    """An ONNX or .qrnn file is missing, damaged, foreign or inconsistent."""


class DataError(QrnnError):
    """Input arrays do not fit the model: a name, shape, type, range or length is wrong."""


class MissingLibraryError(QrnnError, ImportError):
    """A library that the core does without is not installed; the message names the extra that brings it."""


class QuantizationError(QrnnError):
    """A model cannot be expressed in the contract's integers: an overflow proof or a format does not exist."""


class TargetError(QrnnError):
    """A target description is unknown or invalid."""


class BackendError(QrnnError):
    """A backend is unknown or cannot run here."""


class DeviceError(QrnnError):
    """Building C for a device or running it in an emulator failed."""


class MissingToolError(DeviceError):
    """A compiler or an emulator is not installed."""
