"""The system calls a plan may not make, as a BPF program for the kernel's seccomp filter (x86_64 and aarch64).

Namespaces already hide the network, other processes and the rest of the disk; the filter keeps a plan away from
kernel interfaces that no training needs and that break out of namespaces when they have a fault. A call that is
refused gets EPERM, or ENOSYS where libraries know what to do without it. Calls through which two sandboxes could tell
each other something by a file that both see are answered with success and do nothing. Sources: Linux
``Documentation/userspace-api/seccomp_filter.rst``, ``include/uapi/linux/bpf_common.h``.
"""

from __future__ import annotations

import errno
import platform
import signal
import socket
import struct

from archipel.site.sandbox.system_calls import (
    DONE,
    EVICTIONS,
    FCNTL,
    FILE_CONTROLS,
    LOCKS,
    MADVISE,
    MISSING,
    REFUSED,
)
from archipel.vocabulary import ArchipelError, ErrorCode, Thing

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _MASK, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 24, 32
"""Offsets in ``struct seccomp_data``; an argument is 64 bits wide, its lower half first on both machines."""

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET; NEWTIME only comes with clone3 and unshare."""

_SOCKET = (41, 198)
_SOCKETPAIR = (53, 199)
_SET_SOCKET_OPTION = (54, 208)
_BUFFER_SIZES = (socket.SO_SNDBUF, socket.SO_RCVBUF, 32, 33)
"""With SO_SNDBUFFORCE and SO_RCVBUFFORCE. What waits in a socket is in no process's memory, so that no plan may let
more wait there than the watch counts for each socket.
"""
_CLONE = (56, 220)
_EXIT_SIGNAL = 0xFF
_PIDFD = 0x1000
"""CSIGNAL and CLONE_PIDFD. The signal that a child's end sends to its parent could be SIGCONT, which wakes a frozen
worker when the agent ends the child; the number of a pidfd counts the processes of the whole machine.
"""
_IOCTL = (16, 29)
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put characters into a terminal that another process reads."""


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _returning(value: int) -> bytes:
    return _instruction(_RETURN, value)


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """These instructions for this system call only; whatever they load, the call's number is loaded again after."""
    inner = [*body, _instruction(_LOAD, _NUMBER)]
    return [_instruction(_JUMP_EQUAL, number, 0, len(inner)), *inner]


def program(machine: str) -> bytes:
    """The filter for a machine: an array of ``struct sock_filter``. Raises ArchipelError (code sandbox) for others."""
    if machine not in _AUDIT:
        raise ArchipelError(
            Thing("machine", machine),
            "has no system call filter here",
            f"run the site on {' or '.join(_AUDIT)}",
            code=ErrorCode.SANDBOX,
        )
    column = list(_AUDIT).index(machine)
    refuse, missing, done = _REFUSE | errno.EPERM, _REFUSE | errno.ENOSYS, _REFUSE
    lines = [
        _instruction(_LOAD, _ARCHITECTURE),
        _instruction(_JUMP_EQUAL, _AUDIT[machine], 1, 0),
        _returning(_KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        lines += [_instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _returning(_KILL)]
    only_unix = [
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_JUMP_EQUAL, socket.AF_UNIX, 1, 0),
        _returning(refuse),
    ]
    for opening in (_SOCKET, _SOCKETPAIR):
        lines += _when(opening[column], only_unix)
    sizes = [_instruction(_LOAD, _THIRD_ARGUMENT)]
    for option in _BUFFER_SIZES:
        sizes += [_instruction(_JUMP_EQUAL, option, 0, 1), _returning(refuse)]
    lines += _when(_SET_SOCKET_OPTION[column], sizes)
    plain_children = [
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_JUMP_ANY_BIT, _NEW_NAMESPACES | _PIDFD, 0, 1),
        _returning(refuse),
        _instruction(_MASK, _EXIT_SIGNAL),
        _instruction(_JUMP_EQUAL, 0, 2, 0),
        _instruction(_JUMP_EQUAL, signal.SIGCHLD, 1, 0),
        _returning(refuse),
    ]
    lines += _when(_CLONE[column], plain_children)
    controls = [_instruction(_LOAD, _SECOND_ARGUMENT)]
    for command in LOCKS:
        controls += [_instruction(_JUMP_EQUAL, command, 0, 1), _returning(done)]
    for command in FILE_CONTROLS:
        controls += [_instruction(_JUMP_EQUAL, command, 0, 1), _returning(_ALLOW)]
    lines += _when(FCNTL[column], [*controls, _returning(refuse)])
    advice = [_instruction(_LOAD, _THIRD_ARGUMENT)]
    for eviction in EVICTIONS:
        advice += [_instruction(_JUMP_EQUAL, eviction, 0, 1), _returning(done)]
    lines += _when(MADVISE[column], advice)
    terminal = [_instruction(_LOAD, _SECOND_ARGUMENT)]
    for request in _TERMINAL_INPUT:
        terminal += [_instruction(_JUMP_EQUAL, request, 0, 1), _returning(refuse)]
    lines += _when(_IOCTL[column], terminal)
    for calls, answer in ((REFUSED, refuse), (MISSING, missing), (DONE, done)):
        for numbers in calls.values():
            number = numbers[column]
            if number is not None:
                lines += [_instruction(_JUMP_EQUAL, number, 0, 1), _returning(answer)]
    lines.append(_returning(_ALLOW))
    return b"".join(lines)


def program_here() -> bytes:
    """The filter for this machine."""
    return program(platform.machine())
