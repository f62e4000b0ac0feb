"""Files are scanned before they are parsed: two bytes that become a message of two hundred are counted, not built."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qrnn.errors import ModelFileError, QrnnError, UnsupportedError
from qrnn.onnx_import import load_onnx
from qrnn.onnx_import.budget import Budget
from qrnn.onnx_import.wire import check_wire

from .builders import head

COUNT = 8_000_000


def field(number: int, content: bytes) -> bytes:
    """Return a field of bytes."""
    length, size = len(content), b""
    while True:
        size += bytes([length & 127 | (128 if length > 127 else 0)])
        length >>= 7
        if not length:
            return bytes([number << 3 | 2]) + size + content


def graph(content: bytes) -> bytes:
    return field(7, content)


FILES = {
    "nodes": lambda: graph(b"\x0a\x00" * COUNT),
    "inputs of a node": lambda: graph(field(1, b"\x0a\x00" * COUNT)),
    "initializers": lambda: graph(b"\x2a\x00" * COUNT),
    "graph inputs": lambda: graph(b"\x5a\x00" * COUNT),
    "metadata": lambda: b"\x72\x00" * COUNT,
    "functions": lambda: b"\xca\x01\x00" * COUNT,
    "integers of an attribute": lambda: graph(field(1, field(5, field(8, b"\x01" * 5 * COUNT)))),
    "integers of a tensor": lambda: graph(field(5, field(7, b"\x01" * 5 * COUNT))),
    "unknown fields": lambda: b"\xfa\x7f\x00" * COUNT,
}


@pytest.mark.wide(cover=False, keep=2)
@pytest.mark.parametrize("name", FILES)
def test_many_small_fields(tmp_path: Path, name: str) -> None:
    path = tmp_path / "many.onnx"
    path.write_bytes(FILES[name]())
    started = time.process_time()
    with pytest.raises(UnsupportedError, match="reading it takes"):
        load_onnx(path)
    assert time.process_time() - started < 5


def test_deep_messages(tmp_path: Path) -> None:
    content = b""
    for _ in range(5000):
        content = field(1, field(5, field(6, content)))  # a graph in an attribute of a node
    path = tmp_path / "deep.onnx"
    path.write_bytes(graph(content))
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        load_onnx(path)


@pytest.mark.parametrize(
    "content", [b"\x0b", b"\x3a\xff\xff\xff\xff\x07", b"\x08", b"\xff" * 20, b"\x08" + b"\xff" * 30]
)
def test_what_is_no_message(content: bytes) -> None:
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        check_wire(content, onnx.ModelProto.DESCRIPTOR, Budget(len(content)), "the file")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 500))
def test_scan_takes_what_protobuf_takes(noise: bytes, place: int) -> None:
    """Whatever the scan lets through or refuses, it never fails otherwise; what protobuf parses without groups it lets through."""
    content = head("GRU").SerializeToString()
    content = content[:place] + noise + content[place:]
    parsed = onnx.ModelProto()
    try:
        parsed.ParseFromString(content)
    except Exception:  # noqa: BLE001 - whatever protobuf raises
        return
    try:
        check_wire(content, onnx.ModelProto.DESCRIPTOR, Budget(len(content)), "the file")
    except QrnnError:
        assert any(byte & 7 in (3, 4) for byte in noise)  # a group: protobuf skips it, no ONNX file has one


def test_scan_makes_nothing() -> None:
    content = graph(b"\x0a\x00" * 20_000)
    tracemalloc.start()
    try:
        check_wire(content, onnx.ModelProto.DESCRIPTOR, Budget(len(content)), "the file")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
