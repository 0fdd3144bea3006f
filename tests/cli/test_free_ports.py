"""Ports for servers of a demo or a test: nobody else takes one between its choice and its use."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from archipel.lab import ports

_MANY = "from archipel.lab import ports; print(*[ports.free_port() for _ in range(200)], flush=True); input()"


@pytest.mark.processes
def test_two_processes_never_choose_the_same_port() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _MANY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        for _ in range(3)
    ]
    chosen: list[int] = []
    for process in processes:
        assert process.stdout is not None
        chosen += map(int, process.stdout.readline().split())
    for process in processes:
        process.communicate("\n")
    assert len(chosen) == 600
    assert len(set(chosen)) == 600


def test_a_chosen_port_is_none_that_a_connection_may_be_given() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(ports.free_port() < first for _ in range(20))


def test_a_port_in_use_is_not_chosen_and_none_left_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[socket.socket] = []
    monkeypatch.setattr(ports, "_reserved", kept)
    port = ports.free_port()
    monkeypatch.setattr(ports._chance, "randrange", lambda *bounds: port)
    kept.pop().close()
    with socket.create_server((ports.HOST, port)), pytest.raises(OSError, match="no port of 127"):
        ports.free_port()
    assert ports.free_port() == port
    with pytest.raises(OSError, match="no port of 127"):
        ports.free_port()
    kept.pop().close()
