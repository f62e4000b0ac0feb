"""The errors that a user can cause: one base class and its few kinds.

A message says where the problem is, which value was found, what was expected and what to do about it. The command line prints it on one
line and exits with status 2. Callers need to catch no other exception of this package.
"""


class QrnnError(Exception):
    """The base class of every error that a user's input can cause."""


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
