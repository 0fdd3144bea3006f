"""The system calls a plan may not make, as a BPF program for the kernel's seccomp filter (x86_64 and aarch64).

Namespaces already hide the network, other processes and the rest of the disk; the filter keeps a plan away from
kernel interfaces that no training needs and that break out of namespaces when they have a fault. A call that is
refused gets EPERM, or ENOSYS where libraries know what to do without it. Sources: Linux
``Documentation/userspace-api/seccomp_filter.rst``, ``include/uapi/linux/bpf_common.h``,
``arch/x86/entry/syscalls/syscall_64.tbl``, ``include/uapi/asm-generic/unistd.h``.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

from archipel.vocabulary import ArchipelError, ErrorCode, Thing

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT, _THIRD_ARGUMENT = 0, 4, 16, 24, 32
"""Offsets in ``struct seccomp_data``; an argument is 64 bits wide, its lower half first on both machines."""

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET; NEWTIME only comes with clone3 and unshare."""

REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "io_setup": (206, 0),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "personality": (135, 92),
    "process_mrelease": (448, 448),
    "nfsservctl": (180, 42),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
"""Calls by number on (x86_64, aarch64). System V objects and queues are memory that no process shows."""

MISSING: dict[str, tuple[int, int]] = {"clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447)}
"""Answered as by a kernel without them, so that libraries fall back: to clone, whose flags a filter can read, and to
files in sized folders. Memory behind an anonymous file is in no process's count as long as no process maps it."""

_SOCKET = (41, 198)
_SOCKETPAIR = (53, 199)
_SET_SOCKET_OPTION = (54, 208)
_BUFFER_SIZES = (socket.SO_SNDBUF, socket.SO_RCVBUF, 32, 33)
"""With SO_SNDBUFFORCE and SO_RCVBUFFORCE. What waits in a socket is in no process's memory, so that no plan may let
more wait there than the watch counts for each socket.
"""
_CLONE = (56, 220)
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
    refuse, missing = _REFUSE | errno.EPERM, _REFUSE | errno.ENOSYS
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
    for calls in (_SOCKET, _SOCKETPAIR):
        lines += _when(calls[column], only_unix)
    sizes = [_instruction(_LOAD, _THIRD_ARGUMENT)]
    for option in _BUFFER_SIZES:
        sizes += [_instruction(_JUMP_EQUAL, option, 0, 1), _returning(refuse)]
    lines += _when(_SET_SOCKET_OPTION[column], sizes)
    no_namespaces = [
        _instruction(_LOAD, _FIRST_ARGUMENT),
        _instruction(_JUMP_ANY_BIT, _NEW_NAMESPACES, 0, 1),
        _returning(refuse),
    ]
    lines += _when(_CLONE[column], no_namespaces)
    terminal = [_instruction(_LOAD, _SECOND_ARGUMENT)]
    for request in _TERMINAL_INPUT:
        terminal += [_instruction(_JUMP_EQUAL, request, 0, 1), _returning(refuse)]
    lines += _when(_IOCTL[column], terminal)
    for numbers in REFUSED.values():
        number = numbers[column]
        if number is not None:
            lines += [_instruction(_JUMP_EQUAL, number, 0, 1), _returning(refuse)]
    for absent in MISSING.values():
        lines += [_instruction(_JUMP_EQUAL, absent[column], 0, 1), _returning(missing)]
    lines.append(_returning(_ALLOW))
    return b"".join(lines)


def program_here() -> bytes:
    """The filter for this machine."""
    return program(platform.machine())
