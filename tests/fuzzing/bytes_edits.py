"""Edit a file's bytes, whatever they mean."""

from __future__ import annotations

from random import Random


def edit_bytes(rng: Random, content: bytes, other: bytes) -> bytes:
    """Flip a few bits, cut, move, double or lose a piece, or splice two files."""
    data = bytearray(content)
    if not data:
        return other
    how = rng.randrange(9)
    at, size = rng.randrange(len(data)), rng.choice((1, 1, 2, 4, 8, 64, 400))
    if how <= 2:
        for _ in range(rng.choice((1, 1, 2, 8, 40))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == 3:
        del data[at:]
    elif how == 4:
        del data[at : at + size]
    elif how == 5:
        data[at:at] = data[at : at + size]
    elif how == 6:
        data[at : at + 1] = rng.choice((b"\xff" * 9 + b"\x01", b"\x00", b"\xff\xff\xff\xff\x0f", b"\x80", b"\x7f"))
    elif how == 7:
        data[at:] = other[rng.randrange(len(other)) :] if other else b""
    else:
        data[at : at + size] = bytes(rng.randrange(256) for _ in range(min(size, 64)))
    return bytes(data)
