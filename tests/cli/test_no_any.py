"""Every value that the command line handles has a type: nothing of it is called ``Any``."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from archipel import cli

FILES = sorted(Path(str(cli.__file__)).parent.rglob("*.py"))


def uses_of_any(source: str) -> list[int]:
    """The lines that import or name ``Any``, in annotations that are written as text too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(names=names) if any(one.name == "Any" for one in names):
                found.append(node.lineno)
            case ast.Name(id="Any") | ast.Attribute(attr="Any") | ast.Constant(value="Any"):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_command_handles_a_value_without_a_type(file: Path) -> None:
    assert uses_of_any(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from typing import Any as Anything",
        "import typing\nrows: list[typing.Any] = []",
        "def told(rows: 'Any') -> None: ...",
        "def told() -> dict[str, Any]: ...",
    ],
)
def test_any_is_found_however_it_is_named(source: str) -> None:
    assert uses_of_any(source)


def test_the_whole_command_line_is_looked_at() -> None:
    assert {"site.py", "server.py", "main.py"} <= {file.name for file in FILES}
