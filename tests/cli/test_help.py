"""What ``--help`` shows: commands in the order in which people need them, and no text that markup swallowed."""

from __future__ import annotations

import importlib
import re

import pytest
from click.testing import CliRunner as ClickRunner
from typer.main import get_command

from archipel.cli.main import SUB_COMMANDS, app
from archipel.cli.site import app as site_app


def every_command(command: object, words: tuple[str, ...]) -> list[tuple[tuple[str, ...], object]]:
    inner = getattr(command, "commands", {})
    return [(words, command), *(one for name in inner for one in every_command(inner[name], (*words, name)))]


def test_the_commands_of_a_site_come_in_the_order_of_its_life() -> None:
    order = list(get_command(site_app).commands)
    first = ["init", "join", "renew", "start", "status", "plans", "check", "approve", "reject", "revoke"]
    assert [name for name in order if name in first] == first


@pytest.mark.parametrize("name", SUB_COMMANDS)
def test_no_help_ends_in_a_gap(name: str) -> None:
    # Rich takes [words] for markup and leaves nothing of them.
    program = get_command(app)
    found = every_command(get_command(importlib.import_module(f"archipel.cli.{name}").app), (name,))
    for words, _ in found:
        done = ClickRunner().invoke(program, [*words, "--help"], env={"COLUMNS": "300"})
        assert done.exit_code == 0 and not re.search(r" \.(\s|$)", done.stdout), (words, done.stdout)
