"""PNG, written with zlib alone: grey, colour, or colours by number from a palette that is chosen later.

Source: Portable Network Graphics (Second Edition), W3C Recommendation 2003, sections 9 (filters) and 11 (chunks).
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2
GREY, COLOUR, PALETTE = 0, 2, 3
Colour = tuple[int, int, int, int]
"""Red, green, blue and opacity, each 0-255."""


def stream(pixels: NDArray[np.uint8]) -> bytes:
    """The compressed lines of uint8 ``[height, width]`` or ``[height, width, 3]``; what an image's IDAT chunk holds."""
    rows = pixels.reshape(pixels.shape[0], -1)
    lines = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    # The difference to the line above compresses best in pictures, and nearly as well in masks.
    lines[:, 0] = _UP
    lines[0, 1:] = rows[0]
    lines[1:, 1:] = rows[1:] - rows[:-1]
    return zlib.compress(lines.tobytes(), 6)


def image(width: int, height: int, data: bytes, kind: int = GREY, palette: tuple[Colour, ...] = ()) -> bytes:
    """A PNG file around a stream. ``palette`` gives the colour of each number when ``kind`` is PALETTE."""
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))]
    if kind == PALETTE:
        chunks.append(_chunk(b"PLTE", b"".join(bytes(colour[:3]) for colour in palette)))
        chunks.append(_chunk(b"tRNS", bytes(colour[3] for colour in palette)))
    chunks += [_chunk(b"IDAT", data), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return _same(name, content) if name != b"IDAT" else _made(name, content)


@lru_cache(maxsize=256)
def _same(name: bytes, content: bytes) -> bytes:
    """A chunk that many pictures of a report share."""
    return _made(name, content)


def _made(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
