"""What the command line prints of an error, and of rows that came from elsewhere."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.main import get_command

from archipel.cli.json_option import json_was_given, note_json
from archipel.cli.main import SUB_COMMANDS
from archipel.cli.tables import cell, show

HOSTILE = "\x1b]0;owned\x07\u202edetaeler"


@pytest.mark.processes
def test_an_error_of_another_party_moves_no_cursor_and_reverses_no_text() -> None:
    code = f"""
import importlib
from archipel.vocabulary import ArchipelError

def app():
    raise ArchipelError({HOSTILE!r}, "says this", "look at it")

main = importlib.import_module("archipel.cli.main")
main.app = app
main.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: \\x1b]0;owned\\x07\\u202edetaeler: says this; look at it\n"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("words", "is_asked"),
    [
        (("dataset", "check", "--json", "brain"), True),
        (("dataset", "check", "--", "--json"), False),
        (("reject", "heart", "--note", "--json"), False),
        (("reject", "heart", "--note=--json"), False),
        (("plans", "--dataset", "--json"), False),
        (("plans", "--dataset", "--json", "--json"), True),
    ],
)
def test_json_asks_for_a_document_only_where_it_is_the_option_and_no_id_or_value(
    tmp_path: Path, words: tuple[str, ...], is_asked: bool
) -> None:
    environment = {**os.environ, "ARCHIPEL_SITE_STATE": str(tmp_path / "none")}
    command = [sys.executable, "-m", "archipel", "site", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "error: " in done.stderr
    assert ('"error"' in done.stdout) is is_asked


def test_a_cell_of_a_table_shows_what_is_hidden_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cell([HOSTILE, "b"]) == "\\x1b]0;owned\\x07\\u202edetaeler b"
    show("sites", [{"site": HOSTILE}], as_json=False)
    assert "owned" in (out := capsys.readouterr().out) and not set(out) & {"\x1b", "\x07", "\u202e"}


def test_each_line_of_a_text_in_a_cell_has_a_bar() -> None:
    assert cell("ValueError: a\nsite-b: finished") == "| ValueError: a\n| site-b: finished"


def test_no_line_of_an_error_passes_for_another_error(capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module("archipel.cli.main")._print_error("site a: says\nerror: all is well")
    assert capsys.readouterr().err == "error: site a: says\n  error: all is well\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, below in getattr(command, "commands", {}).items():
        yield from _commands(below, f"{name} {inner}")


def test_every_command_with_json_prints_its_errors_so_too() -> None:
    found = {
        name: option
        for sub in SUB_COMMANDS
        for name, command in _commands(get_command(importlib.import_module(f"archipel.cli.{sub}").app), sub)
        for option in command.params
        if "--json" in option.opts
    }
    assert len(found) > 20
    for name, option in found.items():
        note_json(False)
        option.process_value(typer.Context(get_command(typer.Typer(callback=print))), True)
        assert json_was_given(), name


@pytest.mark.processes
def test_what_libraries_warn_of_and_log_reaches_no_terminal() -> None:
    """nibabel and Pillow among them; with -W a programmer sees the warnings all the same."""
    code = """
import importlib, logging, warnings
import nibabel

def app():
    warnings.warn("deprecated")
    warnings.warn("overflow", RuntimeWarning)
    logging.getLogger("PIL.TiffImagePlugin").error("more samples than can be decoded")
    logging.getLogger("nibabel.global").error("pixdim[1,2,3] should be positive")

main = importlib.import_module("archipel.cli.main")
main.app = app
main.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True)
    assert "UserWarning: deprecated" in done.stderr
