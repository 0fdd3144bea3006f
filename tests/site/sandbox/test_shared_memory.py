"""Who can write shared memory, and when."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os

import pytest

from archipel.site.sandbox import SharedBuffer
from archipel.vocabulary import Conflict

F_GET_SEALS = 1034


def test_a_sealed_frame_is_read_and_not_written() -> None:
    frame = SharedBuffer.holding(b"a model")
    with frame.view() as window:
        assert bytes(window) == b"a model"
        assert window.readonly
    with pytest.raises(PermissionError):
        os.pwrite(frame.fd, b"x", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(frame.fd, frame.size)
    other = os.open(f"/proc/self/fd/{frame.fd}", os.O_RDWR)
    with pytest.raises(PermissionError):
        mmap.mmap(other, frame.size)
    os.close(other)
    with pytest.raises(Conflict):
        frame.write(b"y", 0)
    frame.close()


def test_a_read_only_mapping_of_a_sealed_frame_cannot_be_made_writable() -> None:
    frame = SharedBuffer.holding(b"x" * mmap.PAGESIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    address = ctypes.c_void_p(libc.mmap(None, mmap.PAGESIZE, mmap.PROT_READ, mmap.MAP_SHARED, frame.fd, 0))
    assert libc.mprotect(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE) == -1
    libc.munmap(address, mmap.PAGESIZE)
    frame.close()


def test_only_the_agent_writes_a_frame_that_is_used_again() -> None:
    frame = SharedBuffer.holding(b"first")
    given = os.dup(frame.fd)
    frame.reuse()
    frame.write(b"again", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(given, frame.size)
    frame.seal()
    with frame.view() as window:
        assert bytes(window) == b"again"
    os.close(given)
    frame.close()


def test_no_frame_changes_its_size() -> None:
    frame = SharedBuffer.create(100)
    for size in (1, 1000):
        with pytest.raises(PermissionError):
            os.ftruncate(frame.fd, size)
    frame.close()


def test_no_seal_is_taken_off_and_an_overlong_write_is_refused() -> None:
    frame = SharedBuffer.create(4)
    with pytest.raises(ValueError, match="different structures"):
        frame.write(b"12345", 0)
    frame.seal()
    assert fcntl.fcntl(frame.fd, F_GET_SEALS) & (2 | 4 | 16) == 22
    frame.close()
