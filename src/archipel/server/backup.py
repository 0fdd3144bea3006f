"""A copy of a server's state folder, made while it runs: a folder that can take the server's place.

The database is copied whole, as of one moment, and then what its rows name. A round that commits meanwhile removes the
model before it. The database is then copied again, so that the copy has everything that its rows name.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import and_, select

from archipel.governance import check_chain
from archipel.governance.journal import JournalEntry, entries
from archipel.server.experiments import parsed_job
from archipel.server.membership import ServerContext
from archipel.server.state import ServerState, schema
from archipel.storage import BlobStore, Database, disk_errors_named, sync_folder
from archipel.vocabulary import BadInput, Conflict, NotFound, Thing
from archipel.vocabulary.states import RoundState

TRIES = 5
_CHUNK = 1 << 20


class Copied(NamedTuple):
    """What a copy holds: lines of the journal, blobs and spooled updates; ``faults`` say what is wrong with it."""

    lines: int
    blobs: int
    updates: int
    faults: tuple[str, ...]


class _Named(NamedTuple):
    """What the rows of a database name: blobs by their hashes, and file names in the spool."""

    blobs: frozenset[str]
    spools: frozenset[str]


def copy(federation: ServerContext, folder: Path) -> Copied:
    """Copy the state folder to ``folder``, which is there when the copy is whole and not before.

    A damaged journal and missing or damaged files are copied as they are and reported, because such a server needs its
    copy most. Raises Conflict when something is there already, and StorageFull.
    """
    if folder.exists():
        raise Conflict(Thing.folder(folder), "is there already", "name a new folder for each copy")
    part = folder.with_name(folder.name + ".part")
    with disk_errors_named(part):
        if part.exists():
            shutil.rmtree(part)
        part.mkdir(mode=0o700, parents=True)
    try:
        copied = _fill(federation, ServerState(part))
        with disk_errors_named(folder):
            part.rename(folder)
            sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return copied


def _fill(federation: ServerContext, copied: ServerState) -> Copied:
    with disk_errors_named(copied.root):
        for path in (copied.keys, copied.spool):
            path.mkdir(mode=0o700)
        for path in federation.state.keys.iterdir():
            _copy_file(path, copied.keys / path.name)
    # The copy is a folder of its own, wherever the database and the blobs of the original lie.
    settings = federation.settings.model_copy(update={"database": None, "blobs": "blobs"})
    blobs = copied.blobs(settings)
    for _ in range(TRIES):
        _copy_database(federation.database, copied.root / "server.db")
        named = _named(copied.root / "server.db")
        missing = _copy_named(named, (federation.blobs, federation.state.spool), (blobs, copied.spool))
        if not missing:
            break
    blobs.sweep(named.blobs)
    for path in copied.spool.iterdir():
        if path.name not in named.spools:
            path.unlink()
    lines, faults = _journal(copied.root / "server.db")
    copied.write_settings(settings)
    faults += [f"{name} is named by the database and is missing or damaged" for name in missing]
    return Copied(lines, len(named.blobs), len(named.spools), tuple(faults))


def _copy_database(database: Database, place: Path) -> None:
    place.unlink(missing_ok=True)
    os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    source = database.engine.raw_connection()
    try:
        with closing(sqlite3.connect(place)) as target:
            source.driver_connection.backup(target)  # type: ignore[union-attr]
    finally:
        source.close()


def _named(place: Path) -> _Named:
    """What must be there for a server to go on from this database."""
    joined = and_(
        *(
            schema.rounds.c[name] == schema.updates.c[name]
            for name in ("experiment", "round", "kind", "about", "attempt")
        )
    )
    spools = select(schema.updates.c.spool).join(schema.rounds, joined)
    spools = spools.where(schema.rounds.c.state == RoundState.OPEN, schema.updates.c.spool.is_not(None))
    with closing(Database(f"sqlite:///{place}")) as database, database.read() as connection:
        blobs = set(connection.scalars(select(schema.models.c.hash)))
        blobs |= set(
            connection.scalars(select(schema.rounds.c.model_before).where(schema.rounds.c.state == RoundState.OPEN))
        )
        for text in connection.scalars(select(schema.experiments.c.job)):
            job = parsed_job(text)
            blobs |= job.blobs
        return _Named(frozenset(blobs), frozenset(connection.scalars(spools)))


def _copy_named(named: _Named, source: tuple[BlobStore, Path], target: tuple[BlobStore, Path]) -> list[str]:
    """Copy what is not there yet, from blobs and a spool to others; names what is missing or has other bytes."""
    (blobs_before, spool_before), (blobs, spool) = source, target
    missing: list[str] = []

    def tried(name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (FileNotFoundError, NotFound, BadInput):
            missing.append(name)

    for blob in sorted(named.blobs):
        if not blobs.has(blob):
            tried(blob, partial(_copy_blob, blobs_before, blobs, blob))
    for name in sorted(named.spools):
        if not (spool / name).exists():
            tried(name, partial(_copy_file, spool_before / name, spool / name))
    return missing


def _copy_blob(source: BlobStore, target: BlobStore, blob: str) -> None:
    """A blob of which the bytes are those that its name says."""
    with source.open(blob) as file, target.writer() as writer:
        while chunk := file.read(_CHUNK):
            writer.write(chunk)
        writer.commit(blob)


def _copy_file(source: Path, place: Path) -> None:
    with source.open("rb") as file, disk_errors_named(place.parent):
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            shutil.copyfileobj(file, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
    if not source.exists():
        # Its round closed, and another update may have been written over it meanwhile.
        place.unlink()
        raise FileNotFoundError(source)


def _journal(place: Path) -> tuple[int, list[str]]:
    """How many lines the journal has, and what is wrong with it."""
    lines: list[JournalEntry] = []
    with closing(Database(f"sqlite:///{place}")) as database, database.read() as connection:
        try:
            lines.extend(entries(connection, schema.journal))
        except ValueError:
            return len(lines), [*check_chain(lines), f"line {len(lines) + 1} of the journal cannot be read"]
    return len(lines), check_chain(lines)
