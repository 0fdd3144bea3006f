"""Calls of the C library and of Linux that Python does not offer.

Each does nothing more than its call; the reason for a call is at its caller.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from enum import IntEnum

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong, ctypes.c_uint)
_READ_AND_WRITE, _PRIVATE, _POPULATE_READ = 3, 2, 22
_SYNC_FILE_RANGE_WRITE = 2


class HeapSetting(IntEnum):
    """What ``mallopt`` of glibc can be asked to change (``malloc.h``)."""

    TRIM_THRESHOLD = -1
    MMAP_THRESHOLD = -3
    ARENA_MAX = -8


def set_heap(setting: HeapSetting, value: int) -> bool:
    """Change how this process's heap is kept; False on a C library that has no such setting."""
    return hasattr(_libc, "mallopt") and _libc.mallopt(int(setting), value) == 1


def begin_writing_back(descriptor: int, start: int, length: int) -> None:
    """Hint to the kernel that it may begin to write these bytes of the file to the disk."""
    _libc.sync_file_range(descriptor, start, length, _SYNC_FILE_RANGE_WRITE)


def private_mapping(descriptor: int, size: int, *, at_once: bool) -> memoryview:
    """The first ``size`` bytes of a file in memory, unmapped with the last view on it; the descriptor is not kept.

    What is written there stays this process's own. ``at_once`` maps every page now, where the kernel is 5.14 or newer.
    Raises OSError.
    """
    address = _libc.mmap(None, size, _READ_AND_WRITE, _PRIVATE, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if at_once:
        _libc.madvise(address, size, _POPULATE_READ)
    memory = (ctypes.c_char * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False
    return memoryview(memory).cast("B")
