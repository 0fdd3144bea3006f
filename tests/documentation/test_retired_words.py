"""Words that the glossary lists as retired are not in public names, commands, options, REST fields and prose."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

import archipel
import archipel.transport.rest
from archipel.cli.main import SUB_COMMANDS
from worlds.source_trees import tree_of

ROOT = Path(__file__).parents[2]
SOURCE = Path(archipel.__file__).parent


def retired(heading: str) -> dict[str, str]:
    section = (ROOT / "docs/glossary.md").read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE)
    return {old: new for old, new in rows if old != "retired"}


WORDS = retired("Retired words")


def parts(name: str) -> list[str]:
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


@cache
def faults(name: str) -> list[str]:
    words = parts(name)
    text = " ".join(words)
    return [word for word in words if word in WORDS and not re.search(rf"\b{re.escape(WORDS[word])}\b", text)]


def members(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
            arguments = getattr(node, "args", None)
            if arguments is not None and not node.name.startswith("_"):
                yield from (one.arg for one in arguments.args + arguments.kwonlyargs)
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from members(node.body)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def public_names() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE)
        # A migration is the history of a schema: it keeps the names of its time.
        if "migrations" not in place.parts:
            yield str(place), path.stem
            yield from ((str(place), name) for name in members(tree_of(path).body) if name[0] != "_")


def commands(command: object, name: str) -> Iterator[tuple[str, list[str]]]:
    if isinstance(command, TyperGroup):
        yield name, []
        for inner, one in command.commands.items():
            yield from commands(one, f"{name} {inner}")
    else:
        assert isinstance(command, TyperCommand)
        yield name, [option for one in command.params for option in [one.name or "", *one.opts, *one.secondary_opts]]


def test_the_table_is_read() -> None:
    assert WORDS["shelf"] == "task store" and len(WORDS) > 30
    assert faults("find_shelf") == ["shelf"] and faults("heads") == ["heads"]
    assert faults("site_journal_heads") == [] and faults("ToldOutside") == ["told"]


def test_no_public_name_has_a_retired_word() -> None:
    found = [f"{place}: {name} ({', '.join(faults(name))})" for place, name in public_names() if faults(name)]
    assert found == []


@pytest.mark.parametrize("name", sorted(SUB_COMMANDS))
def test_no_command_or_option_has_a_retired_word(name: str) -> None:
    app = get_command(importlib.import_module(f"archipel.cli.{name}").app)
    for command, options in commands(app, f"archipel {name}"):
        assert faults(command) == [], command
        assert [option for option in options if faults(option)] == [], command


def test_no_rest_field_has_a_retired_word() -> None:
    records = [getattr(archipel.transport.rest, name) for name in archipel.transport.rest.__all__]
    fields = [
        f"{record.__name__}.{name}"
        for record in records
        if isinstance(record, type) and issubclass(record, BaseModel)
        for field, info in record.model_fields.items()
        for name in {field, info.alias or field, info.serialization_alias or field}
        if faults(name)
    ]
    assert len(records) > 10
    assert fields == []


def prose() -> Iterator[tuple[str, str]]:
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "Makefile",
        *sorted((ROOT / "docs").rglob("*.md")),
    ]:
        yield page.name, page.read_text().partition("## Retired words")[0]
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node.value


def test_no_prose_has_a_retired_phrase() -> None:
    phrases = "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in retired("Retired phrases"))
    pattern = re.compile(rf"(?<!there )(?<!There )(?<![\w-])({phrases})(?![\w-])")
    assert pattern.search("this is no\nfile") and not pattern.search("there is no file")
    assert [(place, match[1]) for place, text in prose() for match in pattern.finditer(text)] == []
