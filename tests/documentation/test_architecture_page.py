"""The architecture page names packages, files and functions that are there, and every package is on it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from worlds.source_trees import tree_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`([a-z_/]+(?:/|\.py)(?::[A-Za-z_.]+)?)`", PAGE)))


def places(path: str) -> list[Path]:
    """Where a path of the page may lie: below the package or one of its three large parts, or in the checkout."""
    source = ROOT / "src" / "archipel"
    return [base / path for base in (source, source / "site", source / "server", source / "data", ROOT)]


@pytest.mark.parametrize("named", NAMED)
def test_what_the_page_names_is_there(named: str) -> None:
    path, _, name = named.partition(":")
    found = [place for place in places(path) if place.exists()]
    assert found, f"docs/architecture.md names {path}, which is not there"
    if name:
        assert any(defines(place, name.split(".")) for place in found), f"{path} does not define {name}"


def defines(path: Path, names: list[str]) -> bool:
    body = tree_of(path).body
    for name in names:
        inner = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
        match = [node for node in inner if node.name == name]
        if not match:
            return False
        body = match[0].body
    return True


def test_every_package_of_the_layers_stands_on_the_page() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [layer for contract in contracts if contract["type"] == "layers" for layer in contract["layers"]]
    names = {name.strip(" ()") for layer in layers for name in layer.split("|")}
    on_disk = {name for name in names if any(place.exists() for place in [*places(name), *places(f"{name}.py")])}
    missing = sorted(name for name in on_disk if f"`{name}/`" not in PAGE and f"`{name}.py`" not in PAGE)
    assert missing == []
