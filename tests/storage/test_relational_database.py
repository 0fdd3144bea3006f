"""The database: readers see one state, writers wait for each other, what failed is not there, a full disk is named."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Text, func, insert, select
from sqlalchemy.exc import IntegrityError

from archipel.storage import Database, announce, utc_now
from archipel.vocabulary import ArchipelError, ErrorCode, StorageFull

METADATA = MetaData()
NOTES = Table("notes", METADATA, Column("id", Integer, primary_key=True), Column("text", Text, nullable=False))
MARKS = Table("marks", METADATA, Column("note", Integer, ForeignKey("notes.id"), primary_key=True))


@pytest.fixture
def database(tmp_path: Path) -> Database:
    found = Database(f"sqlite:///{tmp_path / 'notes.db'}")
    METADATA.create_all(found.engine)
    return found


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.scalar(select(func.count()).select_from(NOTES)) or 0


def test_sqlite_is_set_up_to_survive_a_power_cut(database: Database) -> None:
    with database.read() as connection:
        values = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
        assert values == {"journal_mode": "wal", "synchronous": 2}
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError), database.write() as connection:
        connection.execute(insert(NOTES).values(text="half"))
        raise RuntimeError
    assert count(database) == 0


def test_a_row_that_names_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(MARKS).values(note=7))


def test_a_reader_sees_one_state_and_blocks_no_writer(database: Database) -> None:
    with database.read() as reading:
        before = reading.scalar(select(func.count()).select_from(NOTES))
        with database.write() as writing:
            writing.execute(insert(NOTES).values(text="new"))
        assert reading.scalar(select(func.count()).select_from(NOTES)) == before
    assert count(database) == 1


def test_what_a_transaction_announced_is_passed_on_after_its_commit_and_only_then(tmp_path: Path) -> None:
    passed_on: list[tuple[frozenset[str], int]] = []
    database = Database(f"sqlite:///{tmp_path / 'notes.db'}", lambda said: passed_on.append((said, count(database))))
    try:
        METADATA.create_all(database.engine)
        with pytest.raises(ZeroDivisionError), database.write() as connection:
            announce(connection, "rolled back")
            raise ZeroDivisionError
        with database.write() as connection:
            connection.execute(insert(NOTES).values(text="nothing announced"))
        with database.write() as connection:
            connection.execute(insert(NOTES).values(text="announced"))
            announce(connection, "a note")
            announce(connection, "another")
            announce(connection, "a note")
        assert passed_on == [(frozenset({"a note", "another"}), 2)]
    finally:
        database.close()


def test_writers_of_two_connections_wait_for_each_other(database: Database) -> None:
    """Each reads the largest number and writes the next one: with a lost update two would write the same."""
    other = Database(database.url)

    def work(through: Database) -> None:
        for _ in range(25):
            with through.write() as connection:
                largest = connection.scalar(select(func.max(NOTES.c.id))) or 0
                connection.execute(insert(NOTES).values(id=largest + 1, text="note"))

    threads = [threading.Thread(target=work, args=(through,)) for through in (database, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(database) == 50


def test_a_time_is_utc_and_sorts_as_text() -> None:
    first, second = utc_now(), utc_now()
    assert first <= second
    assert len(first) == 32
    assert datetime.fromisoformat(first).utcoffset() is not None


def test_a_database_that_is_damaged_while_it_is_open_is_named(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'notes.db'}")
    try:
        METADATA.create_all(database.engine)
        with database.write() as connection:
            connection.execute(insert(NOTES), [{"text": "x" * 1000}] * 100)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        content = bytearray((tmp_path / "notes.db").read_bytes())
        content[8192:] = b"\xff" * (len(content) - 8192)
        (tmp_path / "notes.db").write_bytes(content)
        with pytest.raises(ArchipelError, match=r"notes\.db: cannot be read: .*restore it from the backup") as raised:
            count(database)
        assert raised.value.code is ErrorCode.CONFIGURATION
    finally:
        database.close()


def test_a_full_disk_is_named_and_the_rows_before_stay(tiny_disk: Path) -> None:
    database = Database(f"sqlite:///{tiny_disk / 'notes.db'}")
    try:
        METADATA.create_all(database.engine)
        with database.write() as connection:
            connection.execute(insert(NOTES).values(text="kept"))
        with pytest.raises(StorageFull, match="the disk is full"), database.write() as connection:
            connection.execute(insert(NOTES).values(text="x" * 3_000_000))
        assert count(database) == 1
        with database.write() as connection:
            connection.execute(insert(NOTES).values(text="small"))
        assert count(database) == 2
    finally:
        database.close()


def test_a_reader_that_finds_no_room_for_the_logs_index_names_the_disk(tiny_disk: Path) -> None:
    path = tiny_disk / "notes.db"
    first = Database(f"sqlite:///{path}")
    METADATA.create_all(first.engine)
    first.close()
    filler = tiny_disk / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    database = Database(f"sqlite:///{path}")
    try:
        with pytest.raises(StorageFull, match="the disk is full"):
            count(database)
        filler.unlink()
        assert count(database) == 0
    finally:
        database.close()
