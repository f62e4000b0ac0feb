"""Say what a file is by its first bytes, for messages about a file that was given in another's place."""

from __future__ import annotations

import re

LONGEST = 16
"""How many bytes at the beginning of a file are looked at."""

_ONNX = re.compile(rb"\x08[\x01-\x20](\x12|\x1a|\x22|\x2a|\x30|\x32|\x38|\x3a|\x42|\x72)")
"""An ONNX model as exporters write it: field 1, the version of the format, and after it another field of ModelProto."""

_BEGINNINGS = (
    (b"PK\x03\x04", "a ZIP archive, such as an .npz file of data or a .keras file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, such as a Keras model"),
    (b"\x7fELF", "an ELF program or library"),
    (b"\x89PNG", "a PNG picture"),
    (b"%PDF", "a PDF document"),
    (b"RIFF", "a RIFF file, such as WAV sound"),
    (b"\x1f\x8b", "a gzip archive"),
)

ONNX = "an ONNX model"
QRNN = "a converted model (.qrnn)"


def kind_of_content(beginning: bytes) -> str | None:
    """Return in words what a file is that begins with these bytes, `LONGEST` of them or all; None where it is nothing known."""
    if not beginning:
        return "empty"
    if beginning[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    for begins, words in _BEGINNINGS:
        if beginning.startswith(begins):
            return words
    if beginning[8:9] == b"{" and beginning[5:8] == bytes(3):  # the length of a header of JSON, and the header
        return QRNN
    return ONNX if _ONNX.match(beginning) else None
