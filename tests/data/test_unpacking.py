"""Compressed streams in many pieces, cut, and with more than is asked for."""

from __future__ import annotations

import gzip
import zlib

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archipel.data.volumes import unpacking
from archipel.data.volumes.unpacking import BrokenOff, Pieces, unpacked
from archipel.data.volumes.volumes import read_image
from archipel.vocabulary import BadInput

LENGTH = 40_000
"""More than ISA-L is used from on."""
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
    monkeypatch.setattr(unpacking.isal_zlib, "decompressobj", Counted)
    unpacked(stream, 4096 * 1500)
    assert len(handed) < 2 * 1500 and sum(handed) < len(stream) + 1500 * (1 << 16) + (4 << 20)


def with_header(content, flags):
    """A gzip member with these flags, and the fields that they announce (RFC 1952)."""
    header = bytes([*unpacking.GZIP, 8, flags, 0, 0, 0, 0, 0, 3])
    header += b"\4\0abcd" * bool(flags & 4) + b"name\0" * bool(flags & 8) + b"remark\0" * bool(flags & 16)
    if flags & 2:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    ending = zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    return header + packer.compress(content) + packer.flush() + ending


def damaged_streams(content):
    """Good streams and every kind of bad one: name and stream."""
    random = np.random.default_rng(1)
    usual = gzip.compress(content, mtime=0)
    yield from ((f"flags {flags}", with_header(content, flags)) for flags in (*range(0, 32, 3), 31, 32, 64, 128, 255))
    for base in (usual, with_header(content, 30)):
        places = [*range(30), *random.integers(30, len(base) - 8, 20), *range(len(base) - 8, len(base))]
        for at in places:
            damaged = bytearray(base)
            damaged[at] ^= 1 << int(random.integers(8))
            yield f"a bit of byte {at} is another", bytes(damaged)
        yield from ((f"cut at {cut}", base[:cut]) for cut in (1, 3, 9, 12, len(base) // 2, *range(-9, 0)))
        for tail in (b"x", bytes(10), unpacking.GZIP, base, base[:-5], b"\x1f\x8b\x08\xe0" + base[4:]):
            yield f"followed by {tail[:4]!r}", base + tail
    halves = content[: LENGTH // 2], content[LENGTH // 2 :]
    for wrong in range(2):
        parts = [bytearray(gzip.compress(half, mtime=0)) for half in halves]
        parts[wrong][-6] ^= 1
        yield f"the checksum of member {wrong} is wrong", b"".join(map(bytes, parts))
    yield "two members", members(content, LENGTH // 2)
    yield "no members with anything", EMPTY * 2000
    yield "zlib", zlib.compress(content)
    yield "zlib, cut", zlib.compress(content)[:-3]


def answer(unpack):
    """The bytes, or the error with its text."""
    try:
        return bytes(unpack())
    except (BrokenOff, zlib.error) as error:
        return type(error), str(error)


def test_whatever_a_stream_is_like_isal_answers_as_zlib_does():
    """The same bytes, or the same error in the same words, for the whole stream, its start, and more than it holds."""
    content = noise(400) * (LENGTH // 400)
    answers, pieces = set(), unpacking.PIECES
    for name, stream in damaged_streams(content):
        for wanted, exactly in ((LENGTH, True), (LENGTH - 7000, True), (LENGTH + 1, True), (LENGTH + 1, False)):
            expected = answer(lambda: unpacking._unpacked(stream, wanted, 0, exactly, pieces, None))  # noqa: B023
            assert answer(lambda: unpacked(stream, wanted, exactly=exactly)) == expected, (name, wanted)  # noqa: B023
            answers.add(expected if isinstance(expected, tuple) else len(expected))
    assert {LENGTH, LENGTH - 7000} < answers and len(answers) > 10


def test_isal_unpacks_a_volume_and_zlib_what_is_short(monkeypatch, tmp_path):
    """What ISA-L refuses is a BadInput that names zlib's error."""
    begun, real = [], unpacking.isal_zlib.decompressobj
    monkeypatch.setattr(unpacking.isal_zlib, "decompressobj", lambda bits: begun.append(bits) or real(bits))
    stream = gzip.compress(nibabel.Nifti1Image(np.zeros((40, 40, 40), np.uint8), np.eye(4)).to_bytes())
    (tmp_path / "a.nii.gz").write_bytes(stream)
    assert read_image(tmp_path / "a.nii.gz")[0].shape == (40, 40, 40) and begun == [31]
    unpacked(gzip.compress(bytes(1000)), 1000)
    assert begun == [31]
    (tmp_path / "a.nii.gz").write_bytes(stream[:-6] + bytes(6))
    with pytest.raises(BadInput, match=r"cannot be read to its end \(error\)"):
        read_image(tmp_path / "a.nii.gz")
