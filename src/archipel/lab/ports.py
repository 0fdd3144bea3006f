"""Ports of 127.0.0.1 that no other program takes between the choice of a number and its use.

A port that the kernel chooses for a bind to 0 is one that an outgoing connection of any process may have a moment later
(``ip_local_port_range``). Ports chosen here are below that range, and a process that has chosen one holds an abstract
Unix socket with the port in its name until it ends (Linux, unix(7)): two processes never choose the same port.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

HOST = "127.0.0.1"

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_000
_TRIES = 1_000
_reserved: list[socket.socket] = []
_chance = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that is free now, and that is this process's until it ends.

    Raises
    ------
    OSError
        If no port is free below the range of outgoing connections.
    """
    end = int(_RANGE.read_text().split()[0])
    for _ in range(_TRIES):
        port = _chance.randrange(_LOWEST, end)
        if _reserve(port):
            return port
    raise OSError(f"no port of {HOST} from {_LOWEST} to {end - 1} is free ({_TRIES} were tried)")


def _reserve(port: int) -> bool:
    with contextlib.ExitStack() as undo:
        name = undo.enter_context(socket.socket(socket.AF_UNIX))
        try:
            name.bind(f"\0archipel-port-{port}")
            with socket.socket() as probe:
                probe.bind((HOST, port))
        except OSError:
            return False
        _reserved.append(name)
        undo.pop_all()
    return True
