"""Compressed streams in many pieces, cut, and with more than is asked for."""

from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.volumes import unpacking
from archipel.data.volumes.unpacking import BrokenOff, Pieces, unpacked
from archipel.data.volumes.volumes import read_image

EMPTY = zlib.compressobj(9, zlib.DEFLATED, 31).flush()


def members(content, size):
    return b"".join(gzip.compress(content[at : at + size], mtime=0) for at in range(0, len(content), size))


def noise(count):
    return np.random.default_rng(0).integers(0, 256, count, np.uint8).tobytes()


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 3000), st.integers(0, 3000), st.integers(0, 40))
def test_the_first_bytes_are_those_that_were_packed(content, size, wanted, before):
    stream = bytes(before) + members(content, size) + b"padding"
    wanted = min(wanted, len(content))
    assert bytes(unpacked(stream, wanted, before)) == content[:wanted]
    assert bytes(unpacked(stream, 5000, before, exactly=False)) == content


def test_pieces_are_put_together_wherever_they_end():
    """A stream that is longer than what is handed over at once, and unpacks to more than is taken at once."""
    content = noise(300_000) + bytes(3_000_000)
    pieces = Pieces(first=1001, later=1000, taken=7777)
    for stream in (gzip.compress(content), zlib.compress(content), members(content, 65_280)):
        assert bytes(unpacked(stream, len(content), pieces=pieces)) == content
        for cut in (len(stream) - 1, len(stream) - 4, len(stream) // 2):
            with pytest.raises((BrokenOff, zlib.error)):
                unpacked(stream[:cut], len(content), pieces=pieces)


def test_blocks_of_a_blocked_gzip_file_are_read():
    """bgzip writes 64 KiB in each member."""
    content = bytes(65_280 * 1100)
    assert bytes(unpacked(members(content, 65_280), len(content))) == content


def test_many_members_that_hold_nothing_are_refused(tmp_path):
    """Each would be looked at, and there may be millions of them: 20 bytes each."""
    (tmp_path / "a.nii.gz").write_bytes(EMPTY * 5000 + gzip.compress(bytes(1000)))
    with pytest.raises(Exception, match="it is packed in more than 1001 pieces"):
        read_image(tmp_path / "a.nii.gz")


def test_what_follows_a_member_is_not_handed_over_each_time(monkeypatch):
    """zlib copies what it is handed and does not use: a file of many members would be copied as often."""
    handed, real = [], zlib.decompressobj

    class Counted:
        def __init__(self, bits):
            self.real = real(bits)

        def decompress(self, piece, most):
            handed.append(len(piece))
            return self.real.decompress(piece, most)

        def __getattr__(self, name):
            return getattr(self.real, name)

    stream = members(noise(4096 * 1500), 4096)
    monkeypatch.setattr(unpacking.zlib, "decompressobj", Counted)
    unpacked(stream, 4096 * 1500)
    assert len(handed) < 2 * 1500 and sum(handed) < len(stream) + 1500 * (1 << 16) + (4 << 20)
