"""What tests, benchmarks and examples import from the package is there: mypy does not read all of them."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests", "benchmarks", "examples", "scripts")
PACKAGES = ("archipel", "worlds")


def imported(source: str) -> Iterator[tuple[int, str, str]]:
    """The line, module and name of each import from our packages, those within functions too; "" for a whole module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found = [(one.name, "") for one in node.names]
            case ast.ImportFrom(module=str() as module, level=0):
                found = [(module, one.name) for one in node.names]
            case _:
                continue
        yield from ((node.lineno, module, name) for module, name in found if module.partition(".")[0] in PACKAGES)


def resolves(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
        if name and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in PACKAGES:
            return False
        raise
    return True


def broken(source: str) -> list[str]:
    return [
        f"line {line}: {module} {name}".rstrip()
        for line, module, name in imported(source)
        if not resolves(module, name)
    ]


def test_every_import_from_the_package_resolves() -> None:
    files = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    assert {path.relative_to(ROOT).parts[0] for path in files} >= {"tests", "benchmarks", "examples"}
    found = {str(path.relative_to(ROOT)): broken(path.read_text()) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from archipel.plans import Plan, draft", []),
        ("from archipel import plans, connect", []),
        ("import archipel.tensors.sums as sums", []),
        ("from numpy import array", []),
        ("from archipel.plans import Plan, Gone", ["line 1: archipel.plans Gone"]),
        ("def late():\n    from archipel.gone import Plan", ["line 2: archipel.gone Plan"]),
        ("import archipel.plans.gone", ["line 1: archipel.plans.gone"]),
    ],
)
def test_a_name_that_is_gone_is_found(source: str, found: list[str]) -> None:
    assert broken(source) == found
