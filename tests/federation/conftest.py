"""One running federation for each file of tests; a site is a real process in a real sandbox."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from worlds.federation import World


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed, and sites refuse to train without it")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World.running(tmp_path_factory.mktemp("world"), relayed=True) as found:
        yield found
        for running in [found.lab.server, *(site.running for site in found.lab.sites.values())]:
            running.check()
