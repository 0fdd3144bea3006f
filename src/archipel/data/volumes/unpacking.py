"""Unpacking: the first bytes of gzip and zlib streams, in about the memory that they take.

The stream is given to zlib in pieces. zlib copies what it does not use yet, each time, so that a file of many short
members, given as a whole, would be copied as often as it has members. ISA-L has the interface of zlib and takes half
as long; whatever it refuses is unpacked again by zlib, which decides what is wrong.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import cast

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

GZIP = b"\x1f\x8b"
MOST_GAIN = 1100
"""How many times its size a stream can unpack to; deflate reaches 1032."""
_LEAST_BYTES = 1 << 15
"""To unpack fewer bytes takes ISA-L longer than zlib, because it begins more slowly."""
_ISAL_ERROR = cast(type[Exception], isal_zlib.error)
"""A class, which isal's stub declares to be an instance."""
_RESERVED = 0xE0
"""Flags of a gzip header that no file may have (RFC 1952, 2.3.1.2); zlib refuses them, ISA-L does not."""
_MEMBERS = 1000
_MEMBER = 4096
"""Besides the first thousand, members hold at least this many bytes; bgzip writes 64 KiB in each."""


@dataclass(frozen=True)
class Pieces:
    """How many bytes are handed to zlib at once, of the first member and of those after it, and taken from it."""

    first: int = 4 << 20
    later: int = 1 << 16
    taken: int = 64 << 20


PIECES = Pieces()


class BrokenOff(ValueError):
    """A stream does not contain the bytes asked for; the text says why."""


def unpacked(
    content: bytes, length: int, start: int = 0, *, exactly: bool = True, pieces: Pieces = PIECES
) -> NDArray[np.uint8]:
    """The first ``length`` bytes of the stream that begins at ``start``; nothing beyond them is unpacked.

    A gzip stream may have several members. Raises BrokenOff when the bytes are not there (``exactly``; else there may
    be fewer) or come in too many members, and zlib.error where the checksum of the member that ends with them is wrong.
    """
    try:
        return _unpacked(content, length, start, exactly, pieces, _LEAST_BYTES)
    except _ISAL_ERROR:
        return _unpacked(content, length, start, exactly, pieces, None)


def _unpacked(
    content: bytes, length: int, start: int, exactly: bool, pieces: Pieces, fast_from: int | None
) -> NDArray[np.uint8]:
    """The same; with ISA-L where at least ``fast_from`` bytes are missing. Raises also ISA-L's own error."""
    stream, at, taken_bytes, members = memoryview(content), start, 0, 0
    piece = max(pieces.later, min(pieces.first, length))
    whole: NDArray[np.uint8] | None = None
    while taken_bytes < length and (not members or stream[at : at + 2] == GZIP):
        members += 1
        if members > _MEMBERS + length // _MEMBER:
            raise BrokenOff(f"it is packed in more than {members - 1} pieces")
        is_fast = fast_from is not None and length - taken_bytes >= fast_from and _is_usual(stream[at : at + 4])
        member = isal_zlib.decompressobj(31) if is_fast else zlib.decompressobj(47)
        while taken_bytes < length and not member.eof and at < len(content):
            fed = stream[at : at + piece]
            part = member.decompress(fed, min(length - taken_bytes, pieces.taken))
            # At the end of a member the tail may still be that of the call before.
            at += len(fed) - len(member.unused_data if member.eof else member.unconsumed_tail)
            taken = np.frombuffer(part, np.uint8)
            if len(part) == length:
                whole = taken
            else:
                whole = np.empty(length, np.uint8) if whole is None else whole
                whole[taken_bytes : taken_bytes + len(part)] = taken
            taken_bytes += len(part)
        if exactly and not member.eof:
            # What is left is the checksum, or bytes after the voxels, which are not used.
            beyond = member.decompress(stream[at:], 1) if taken_bytes == length else b""
            if not member.eof and not beyond:
                raise BrokenOff("the compressed data ends early")
        piece = pieces.later
    if exactly and taken_bytes < length:
        raise BrokenOff(f"{taken_bytes} of {length} bytes are there")
    return np.empty(0, np.uint8) if whole is None else whole[:taken_bytes]


def _is_usual(header: memoryview) -> bool:
    """Whether a stream begins as gzip does, without reserved flags."""
    return len(header) == 4 and header[:2] == GZIP and not header[3] & _RESERVED
