"""A founded federation, the same one served over TLS, and a site in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from archipel.server.membership.federation import ServerContext
from worlds.server import Applicant, Served, make_server, serving


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[ServerContext]:
    with make_server(tmp_path / "server") as founded:
        yield founded


@pytest.fixture
async def served(federation: ServerContext) -> AsyncIterator[Served]:
    async with serving(federation) as found:
        yield found


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MiB, which only root can mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("a tiny disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def enrolled(federation: ServerContext) -> Applicant:
    """Site berlin, enrolled."""
    return Applicant("berlin").enrol(federation)
