"""The system-call filter of the sandbox, as a classic BPF program for x86-64 and 64-bit Arm.

A plan computes and reads files; it needs no socket but those between its own processes, no mounts, no namespaces, no
look into other processes and none of the kernel's large, often attacked interfaces. Numbers are from the kernel's
system-call tables (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h); the program's form from
Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import errno
import platform
import struct

from archipel.vocabulary import ArchipelError, ErrorCode

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME."""
_X32 = 0x40000000

_BOTH = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438,
    "process_madvise": 440, "mount_setattr": 442,
}  # fmt: skip
_TABLES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41, "socketpair": 53, "clone": 56, "clone3": 435, "ptrace": 101, "personality": 135,
            "pivot_root": 155, "chroot": 161, "acct": 163, "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169,
            "init_module": 175, "delete_module": 176, "quotactl": 179, "kexec_load": 246, "add_key": 248,
            "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298, "name_to_handle_at": 303,
            "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
            "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "socket": 198, "socketpair": 199, "clone": 220, "clone3": 435, "ptrace": 117, "personality": 92,
            "pivot_root": 41, "chroot": 51, "acct": 89, "mount": 40, "umount2": 39, "swapon": 224, "reboot": 142,
            "init_module": 105, "delete_module": 106, "quotactl": 60, "kexec_load": 104, "add_key": 217,
            "request_key": 218, "keyctl": 219, "unshare": 97, "perf_event_open": 241, "name_to_handle_at": 264,
            "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
            "finit_module": 273, "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282,
        },
    ),
}  # fmt: skip
_CONDITIONAL = ("socket", "socketpair", "clone", "clone3")


def program(machine: str | None = None) -> bytes:
    """The filter for a machine as ``uname -m`` names it. Raises ArchipelError for one that has no table here."""
    name = machine or platform.machine()
    if name not in _TABLES:
        known = " and ".join(_TABLES)
        raise ArchipelError(f"machine {name}", "has no system-call filter", f"run on {known}", code=ErrorCode.SANDBOX)
    architecture, numbers = _TABLES[name]
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_JUMP_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if name == "x86_64":
        steps += [_step(_JUMP_GREATER_EQUAL, _X32, 0, 1), _step(_RETURN, _KILL)]
    denied = [number for call, number in (numbers | _BOTH).items() if call not in _CONDITIONAL]
    for number in denied:
        steps += [_step(_JUMP_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | errno.EPERM)]
    # The C library falls back to clone, whose flags a filter can see.
    steps += [_step(_JUMP_EQUAL, numbers["clone3"], 0, 1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    for call in ("socket", "socketpair"):
        steps += [
            _step(_JUMP_EQUAL, numbers[call], 0, 4),
            _step(_LOAD, _FIRST_ARGUMENT),
            _step(_JUMP_EQUAL, _AF_UNIX, 0, 1),
            _step(_RETURN, _ALLOW),
            _step(_RETURN, _ERRNO | errno.EPERM),
        ]
    steps += [
        _step(_JUMP_EQUAL, numbers["clone"], 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_AND, _NEW_NAMESPACES & ~0x80),
        _step(_JUMP_EQUAL, 0, 1, 0),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(steps)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)
