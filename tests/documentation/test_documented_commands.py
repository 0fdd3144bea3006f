"""Every command that README and docs tell people to type is one that the command line takes."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from archipel.cli.main import SUB_COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(first_word: str) -> Iterator[str]:
    for page in PAGES:
        text = page.read_text()
        lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
        # In running text and tables a command is one when it names options or arguments too.
        lines += [span for span in re.findall(r"`([^`\n]+)`", text) if span.count(" ") >= 3]
        for line in (part for one in lines for part in one.split(" | ")):
            words = shlex.split(line.split(" > ")[0], comments=True)
            if words[:1] == [first_word]:
                yield shlex.join(words)


@pytest.mark.parametrize("command", sorted(set(commands("archipel"))))
def test_a_documented_command_is_taken(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIPEL_SITE_STATE", "site")
    monkeypatch.setenv("ARCHIPEL_SERVER_STATE", "server")
    _, name, *rest = shlex.split(command)
    assert name in SUB_COMMANDS
    found = get_command(importlib.import_module(f"archipel.cli.{name}").app)
    context = found.make_context(name, rest)
    while isinstance(found, TyperGroup):
        name, inner, rest = found.resolve_command(context, [*context._protected_args, *context.args])
        assert inner is not None
        found, context = inner, inner.make_context(name, rest, parent=context)


@pytest.mark.parametrize("command", sorted(set(commands("make"))))
def test_a_documented_door_is_in_the_makefile(command: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in shlex.split(command)[1:] if "=" not in word} <= targets


def test_every_python_block_is_python() -> None:
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, page.name, "exec")


def test_every_link_to_a_file_has_its_file() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_room_is_named_for_what_it_is_for() -> None:
    for room in sorted((ROOT / "src" / "archipel").iterdir()):
        if (room / "__init__.py").is_file():
            text = (room / "__init__.py").read_text().strip()
            assert text.startswith('"""'), room.name
