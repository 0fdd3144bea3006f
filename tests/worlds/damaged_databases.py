"""Ways in which a database's file may be damaged, and what is said of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

BACKUP = "restore it from the backup"
OTHER_VERSION = "open it with the version of Archipel that made it, or start over in a new state folder"


def _truncated(file: Path) -> None:
    file.write_bytes(b"")


def _without_tables(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as made:
        made.execute("PRAGMA user_version = 1")


def _text(file: Path) -> None:
    file.write_bytes(b"a page that a web proxy sent instead of the backup\n" * 100)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])


def _other_form(file: Path) -> None:
    with sqlite3.connect(file) as made:
        made.executescript("DROP TABLE alembic_version; CREATE TABLE alembic_version (number INTEGER);")


def _folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES = [
    pytest.param(_truncated, f"has lost its content: there is no table in it; {BACKUP}", id="empty"),
    pytest.param(_without_tables, f"has lost its content: there is no table in it; {BACKUP}", id="no-table"),
    pytest.param(_text, f"cannot be read: file is not a database; {BACKUP}", id="text"),
    pytest.param(_cut, f"cannot be read: database disk image is malformed; {BACKUP}", id="cut"),
    pytest.param(
        _other_form,
        f"has a table alembic_version of another form, which this version of Archipel does not know; {OTHER_VERSION}",
        id="other-form",
    ),
    pytest.param(
        _folder,
        "cannot be opened: unable to open database file; "
        "let the account that runs this command read and write the file and its folder",
        id="folder",
    ),
]
Damage = Callable[[Path], None]
