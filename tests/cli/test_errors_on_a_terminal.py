"""What the command line prints of an error, and of rows that came from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archipel.cli.tables import cell, show

HOSTILE = "\x1b]0;owned\x07\u202edetaeler"


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


@pytest.mark.parametrize(("words", "is_asked"), [(("--json", "brain"), True), (("--", "--json"), False)])
def test_after_two_dashes_json_is_an_id_and_asks_for_no_document(
    tmp_path: Path, words: tuple[str, ...], is_asked: bool
) -> None:
    words = ("site", "dataset", "check", "--state", str(tmp_path / "none"), *words)
    done = subprocess.run([sys.executable, "-m", "archipel", *words], capture_output=True, text=True)
    assert done.returncode == 1 and "error: " in done.stderr
    assert ('"error"' in done.stdout) is is_asked


def test_a_cell_of_a_table_shows_what_is_hidden_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cell([HOSTILE, "b"]) == "\\x1b]0;owned\\x07\\u202edetaeler b"
    show("sites", [{"site": HOSTILE}], as_json=False)
    assert "owned" in (out := capsys.readouterr().out) and not set(out) & {"\x1b", "\x07", "\u202e"}
