"""What a command prints into a pipe or a file is whole: no line is broken at the 80 columns of no terminal."""

from __future__ import annotations

import io

import pytest

from archipel.cli import tables
from archipel.cli.screens import screen_for
from archipel.cli.site_terminal import console, print_table

HASH = "sha256:" + "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def test_a_hash_in_a_pipe_is_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(f"approved heart for 6 subjects of dataset table version 1: job {HASH}, cohort {HASH}")
    assert capsys.readouterr().out.count(HASH) == 2
    print_table(["asked_by", "job"], [{"asked_by": "Anna", "job": HASH + HASH}])
    printed = capsys.readouterr().out
    assert HASH + HASH in printed and "asked by" in printed
    assert max(map(len, printed.splitlines())) < 200, "a table is as wide as what is in it"
    tables.show("jobs", [{"job": HASH, "cohort": HASH}], as_json=False)
    assert capsys.readouterr().out.count(HASH) == 2


def test_columns_that_a_person_asks_for_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    written = io.StringIO()
    screen_for(written).print(HASH)
    assert max(map(len, written.getvalue().splitlines())) <= 40
