"""Examples in docstrings run and give what they say, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import archipel
from worlds.research import World, served

ROOT = Path(__file__).parents[2]
SOURCE = Path(archipel.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("archipel", *path.relative_to(SOURCE).with_suffix("").parts))
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A federation of three sites, for the examples that connect to one."""
    with served(tmp_path_factory.mktemp("federation")) as found:
        yield found


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_the_examples_of_a_module_give_what_they_say(
    module: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if module.startswith("archipel.researcher."):
        world: World = request.getfixturevalue("world")
        monkeypatch.setenv("ARCHIPEL_SERVER", world.url)
        monkeypatch.setenv("ARCHIPEL_TOKEN", world.token())
        monkeypatch.setenv("ARCHIPEL_CA", str(world.ca))
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", sorted(set(archipel.__all__) - {"__version__"}))
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    thing = getattr(archipel, name)
    examples = doctest.DocTestParser().get_examples(thing.__doc__ or "")
    assert any(name in example.source or f"{name.lower()}." in example.source for example in examples)
    assert not any(example.options.get(doctest.SKIP) for example in examples)
    assert thing.__module__ in WITH_EXAMPLES
