"""Landlock: a process gives up for good what the sandbox forbids anyway, where the kernel is new enough.

It is a second lock beside the namespaces: a confined process and what it starts write to its temporary folders alone,
trace no process outside, and from Linux 6.12 on signal none, the sandbox's own process 1 included. Source: Linux
``Documentation/userspace-api/landlock.rst``, ``include/uapi/linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_LEAST = 2
"""The first version lets no file be moved between folders, which plans do."""

_WRITE, _MAKE_DEVICES, _REFER, _TRUNCATE = 1 << 1, 1 << 6 | 1 << 11, 1 << 13, 1 << 14
_CHANGE_FOLDERS = 0b1_1111_1111_0000 & ~_MAKE_DEVICES
"""LANDLOCK_ACCESS_FS_REMOVE_DIR to MAKE_SYM without devices."""

_SCOPES = 0b11
"""Abstract sockets and signals, from version 6 on."""

_libc = ctypes.CDLL(None, use_errno=True)


def landlock_version() -> int:
    """The version of the kernel's Landlock; 0 where there is none that helps."""
    found = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)
    return found if found >= _LEAST else 0


def confine(writable: Mapping[str, bool]) -> int:
    """From now on this process, which must have one thread, writes below these folders only.

    The value says whether files may be made and removed there too. Returns the version, 0 where there is no Landlock
    and nothing was done. Raises OSError, RuntimeError.
    """
    version = landlock_version()
    if not version:
        return 0
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - names alone are wanted
        raise RuntimeError("other threads of this process would not be confined")
    change = _WRITE | _CHANGE_FOLDERS | _REFER | (_TRUNCATE if version >= 3 else 0)
    handled = change | _MAKE_DEVICES
    # Older kernels know a shorter record.
    asked = struct.pack("QQQ", handled, 0, _SCOPES) if version >= 6 else struct.pack("Q", handled)
    ruleset = _call(_CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0)
    try:
        for folder, all_of_it in writable.items():
            place = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            try:
                allowed = change if all_of_it else change & (_WRITE | _TRUNCATE)
                _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", allowed, place), 0)
            finally:
                os.close(place)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _call(number: int, *arguments: object) -> int:
    back = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if back < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "Landlock")
    return back
