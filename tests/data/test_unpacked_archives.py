"""Zip archives: how long their list of members is, before it is read."""

from __future__ import annotations

import io
import math
import struct
import zipfile

import pytest

from archipel.data.zip_archives import directory_bytes


def packed(members: int, remark: bytes = b"") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(members):
            archive.writestr(f"{number}", "")
        archive.comment = remark
    return file.getvalue()


def with_large_end(length: int) -> bytes:
    """The end of an archive of more than 2 GiB (APPNOTE 4.3.14 and 4.3.15)."""
    large = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, length, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 0, 1)
    return large + locator + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)


@pytest.mark.parametrize(
    ("content", "length"),
    [
        (packed(0), 0),
        (packed(3), 3 * 47),
        (with_large_end(5 << 30), 5 << 30),
        (packed(3, b"a remark"), math.inf),
        (packed(3) + b"\0", math.inf),
        (b"PK\3\4", math.inf),
        (b"", math.inf),
    ],
)
def test_the_length_of_the_list_is_what_the_end_says(content: bytes, length: float) -> None:
    assert directory_bytes(io.BytesIO(content)) == length


def test_a_list_of_a_million_members_is_known_from_the_last_bytes() -> None:
    """Nothing but the end of the file is read."""

    class OnlyTheEnd(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert self.tell() >= len(self.getbuffer()) - 98
            return super().read(size)

    assert directory_bytes(OnlyTheEnd(packed(2000))) > 1 << 16
