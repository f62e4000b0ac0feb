"""Say what a file is by its first bytes, for messages about a file that was given in another's place."""

from __future__ import annotations

import re

LONGEST = 256
"""How many bytes at the beginning of a file are looked at."""

_ONNX = re.compile(rb"\x08[\x01-\x20](\x12|\x1a|\x22|\x2a|\x30|\x32|\x38|\x3a|\x42|\x72)")
"""An ONNX model as exporters write it: field 1, the version of the format, and after it another field of ModelProto."""

_ZIP = b"PK\x03\x04"

_BEGINNINGS = (
    (_ZIP, "a ZIP archive, such as an .npz file of data or a .keras file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as a Keras model"),
    (b"\x7fELF", "an ELF program or library"),
    (b"\x89PNG", "a PNG picture"),
    (b"%PDF", "a PDF document"),
    (b"RIFF", "a RIFF file, such as WAV sound"),
    (b"\x1f\x8b", "a gzip archive"),
)

_OF_PYTORCH = re.compile(rb"[^/]+/(data\.pkl$|data/|\.format_version$|archive_format$|byteorder$)")
"""The first member of an archive that torch.save, torch.jit.save or torch.export.save wrote."""

_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_OLD_PYTORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
"""The number that torch.save pickled first before its files were archives."""

_OF_QRNN = re.compile(rb'\{"__metadata__":\{("contract":|"format":"qrnn"|"model":"\{)')

ONNX = "an ONNX model"
QRNN = "a converted model (.qrnn)"
PYTORCH = "a PyTorch file"
DATA = "an .npz file of data"
TEXT = "a text file"


def kind_of_content(beginning: bytes) -> str | None:
    """Return in words what a file is that begins with these bytes, `LONGEST` of them or all; None where it is nothing known."""
    if not beginning:
        return "empty"
    if beginning[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if beginning.startswith(_ZIP) and (kind := _kind_of_archive(beginning)) is not None:
        return kind
    if _PICKLE.match(beginning):
        return PYTORCH if _OLD_PYTORCH in beginning else "a pickled Python object"
    for begins, words in _BEGINNINGS:
        if beginning.startswith(begins):
            return words
    if beginning[8:9] == b"{" and beginning[5:8] == bytes(3):  # the length of a header of JSON, and the header
        return QRNN if _OF_QRNN.match(beginning, 8) else "a safetensors file of another program"
    if _ONNX.match(beginning):
        return ONNX
    return TEXT if _is_text(beginning) else None


def _kind_of_archive(beginning: bytes) -> str | None:
    """Return what a ZIP archive is by the name of its first member; None where that says nothing."""
    name = beginning[30 : 30 + int.from_bytes(beginning[26:28], "little")]
    if name.endswith(b".npy"):
        return DATA
    return PYTORCH if _OF_PYTORCH.match(name) else None


def _is_text(beginning: bytes) -> bool:
    """Return whether these bytes are characters of UTF-8, of which the last may be cut off, and no control characters but those of lines."""
    try:
        text = beginning[: len(beginning) - 3 if len(beginning) >= LONGEST else None].decode()
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c in "\t\n\r\f" for c in text)
