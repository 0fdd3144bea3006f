"""The system-call filter, run by a small interpreter of its own, so that both machines' tables are tested on one."""

from __future__ import annotations

import errno
import fcntl
import signal
import struct

import pytest

from archipel.site.sandbox.seccomp import program
from archipel.site.sandbox.system_calls import DONE, FCNTL, MADVISE, MISSING, REFUSED
from archipel.vocabulary import ArchipelError

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
NOTHING_DONE = 0x00050000
"""Refused with the error 0, which the caller takes for success."""
SOCKET, SOCKETPAIR, CLONE, IOCTL = (41, 198), (53, 199), (56, 220), (16, 29)
FORK = 17


def judged(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the program returns (classic BPF: load, jumps, return)."""
    values = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, MACHINES[machine][1] if architecture is None else architecture, 0, *values)
    steps = list(struct.iter_unpack("<HBBI", program(machine)))
    accumulator, position = 0, 0
    while True:
        code, if_true, if_false, value = steps[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x15:
                position += if_true if accumulator == value else if_false
            case 0x35:
                position += if_true if accumulator >= value else if_false
            case 0x45:
                position += if_true if accumulator & value else if_false
            case 0x54:
                accumulator &= value
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"instruction {code:#x}")


@pytest.mark.parametrize("machine", MACHINES)
def test_every_listed_call_is_refused(machine: str) -> None:
    column = MACHINES[machine][0]
    for name, numbers in REFUSED.items():
        number = numbers[column]
        if number is not None:
            assert judged(machine, number) == REFUSE | errno.EPERM, name
    for name, present in MISSING.items():
        number = present[column]
        if number is not None:
            assert judged(machine, number) == REFUSE | errno.ENOSYS, name
    for name, done in DONE.items():
        assert judged(machine, done[column]) == NOTHING_DONE, name


@pytest.mark.parametrize("machine", MACHINES)
def test_futexes_are_those_that_threads_and_locks_of_processes_use(machine: str) -> None:
    """What another sandbox hears by a futex stays as slow as one thread for each (see ``measure_channels.py``)."""
    column = MACHINES[machine][0]
    wait, wake, private = 0, 1, 128
    for operation in (wait, wake, wait | private, wake | private):
        assert judged(machine, (202, 98)[column], 0, operation) == ALLOW
    for number in (449, 454, 455, 456):
        assert judged(machine, number) == REFUSE | errno.ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_no_new_namespace_is_made_by_clone(machine: str) -> None:
    clone = CLONE[MACHINES[machine][0]]
    for bit in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert judged(machine, clone, bit | FORK) == REFUSE | errno.EPERM
        assert judged(machine, clone, bit | FORK | 0xFF << 32) == REFUSE | errno.EPERM
    assert judged(machine, clone, FORK) == ALLOW
    threads = 0x003D0F00
    assert judged(machine, clone, threads) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_a_childs_end_sends_no_other_signal_than_that_of_a_child(machine: str) -> None:
    clone, pidfd = CLONE[MACHINES[machine][0]], 0x1000
    waking = signal.SIGCONT
    assert judged(machine, clone, waking) == judged(machine, clone, FORK | pidfd) == REFUSE | errno.EPERM
    assert {judged(machine, clone, number) for number in range(1, 256) if number != FORK} == {REFUSE | errno.EPERM}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_file_is_not_locked_and_tells_nothing_of_who_else_uses_it(machine: str) -> None:
    fcntl_, madvise = FCNTL[MACHINES[machine][0]], MADVISE[MACHINES[machine][0]]
    locks = (fcntl.F_SETLK, fcntl.F_SETLKW, 37, 38)
    assert {judged(machine, fcntl_, 3, command) for command in locks} == {NOTHING_DONE}
    leases, notes, hints, set_signal = (1024, 1025), (1026,), range(1035, 1041), 10
    others = (*leases, *notes, *hints, set_signal, 99)
    assert {judged(machine, fcntl_, 3, command) for command in others} == {REFUSE | errno.EPERM}
    ordinary = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC)
    assert {judged(machine, fcntl_, 3, command) for command in ordinary} == {ALLOW}
    assert judged(machine, madvise, 0, 4096, 21) == judged(machine, madvise, 0, 4096, 20) == NOTHING_DONE
    assert judged(machine, madvise, 0, 4096, 4) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_local_only(machine: str) -> None:
    for call in (SOCKET, SOCKETPAIR):
        number = call[MACHINES[machine][0]]
        assert judged(machine, number, 1, 1) == ALLOW
        assert {judged(machine, number, family) for family in range(46) if family != 1} == {REFUSE | errno.EPERM}


@pytest.mark.parametrize("machine", MACHINES)
def test_no_socket_holds_more_than_it_does_by_itself(machine: str) -> None:
    number = (54, 208)[MACHINES[machine][0]]
    sizes, reuse = (7, 8, 32, 33), 2
    assert {judged(machine, number, 3, 1, option) for option in sizes} == {REFUSE | errno.EPERM}
    assert judged(machine, number, 3, 1, reuse) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_typed_into_a_terminal(machine: str) -> None:
    number = IOCTL[MACHINES[machine][0]]
    assert judged(machine, number, 0, 0x5412) == judged(machine, number, 0, 0x541C) == REFUSE | errno.EPERM
    assert judged(machine, number, 0, 0x5401) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_ordinary_calls_pass(machine: str) -> None:
    ordinary = {
        "x86_64": (1, 2, 3, 9, 10, 11, 39, 57, 59, 60, 202, 231, 257),
        "aarch64": (56, 57, 63, 64, 93, 94, 98, 222),
    }
    assert {judged(machine, number) for number in ordinary[machine]} == {ALLOW}


def test_calls_of_another_architecture_kill() -> None:
    assert judged("x86_64", 1, architecture=0x40000003) == KILL
    assert judged("x86_64", 0x40000000 + 1) == KILL
    assert judged("aarch64", 4, architecture=0x40000028) == KILL


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(ArchipelError, match="riscv64"):
        program("riscv64")
