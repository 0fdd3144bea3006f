"""A served federation, a connection to it and a tiny plan."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import archipel
from worlds.research import TINY_PLAN, World, served


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with served(tmp_path_factory.mktemp("federation")) as found:
        yield found


@pytest.fixture
def federation(world: World) -> Iterator[archipel.Federation]:
    found = archipel.connect(world.url, token=world.token(), ca=world.ca)
    yield found
    found.close()


@pytest.fixture
def experiment(world: World, federation: archipel.Federation) -> archipel.Experiment:
    """Submitted and approved by all three sites."""
    made = federation.create(TINY_PLAN, rounds=3, quorum=2, title="Tiny", baselines=True).submit()
    for site in made.job.sites:
        world.experiments.answer(made.name, site, "approved")
    return made
