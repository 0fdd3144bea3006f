"""Zip archives before they are opened: how long the list of their members is.

In memory the list takes many times its size, and a few KiB of a disk may hold a list of any length.
"""

from __future__ import annotations

import io
import math
from typing import IO

_END, _LOCATOR, _LARGE_END = 22, 20, 56
"""Bytes of the records at the end of an archive; the latter two are there in one of more than 2 GiB."""


def directory_bytes(file: IO[bytes]) -> float:
    """How long the list of members is, by what the end of the archive says; infinite where a remark or anything else
    follows that end, or it is not there.

    Source: APPNOTE.TXT 6.3.10, sections 4.3.14 to 4.3.16 (pkware.com).
    """
    file.seek(max(0, file.seek(0, io.SEEK_END) - _LARGE_END - _LOCATOR - _END))
    tail = file.read()
    end, locator, large_end = tail[-_END:], tail[-_END - _LOCATOR : -_END], tail[: -_END - _LOCATOR]
    if end[:4] != b"PK\5\6" or end[-2:] != b"\0\0":
        return math.inf
    if locator[:4] == b"PK\6\7":
        return int.from_bytes(large_end[40:48], "little") if large_end[:4] == b"PK\6\6" else math.inf
    return int.from_bytes(end[12:16], "little")
