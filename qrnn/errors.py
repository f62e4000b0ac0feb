"""One root for every error a user can cause, and its few kinds.

A message says where, which value, what was expected and the remedy. The command line prints it on one line and exits with
status 2; nothing else in the package is meant to be caught by users.
"""


class QrnnError(Exception):
    """Root of every error that a user's input can cause."""


class UnsupportedError(QrnnError):
    """A model asks for something that qrnn does not implement; it is refused by name, never ignored."""


class ModelFileError(QrnnError):
    """An ONNX or .qrnn file is missing, damaged, foreign or inconsistent."""


class DataError(QrnnError):
    """Input arrays do not fit the model: a name, shape, type, range or length is wrong."""


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
