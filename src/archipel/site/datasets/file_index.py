"""What was found in each file of a dataset, kept in the site's database so that a re-scan opens only what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self, cast

from sqlalchemy import Connection, delete, func, insert, select

from archipel.data import FileFacts, Found, Purpose, Signature
from archipel.site.state import schema
from archipel.site.withdrawn import register
from archipel.storage import Database

_files = schema.files
_BATCH = 500
"""How many new facts are written in one transaction: a scan of many files neither fills memory nor starts over."""


class _Row(NamedTuple):
    """A row of the table ``files``, in the order of its columns after the dataset; ``facts`` is a FileFacts as JSON.

    ``row[2:6]`` is the signature that the file had when it was examined.
    """

    place: str
    purpose: str
    size: int
    modified_ns: int
    changed_ns: int
    inode: int
    facts: str


class _Ahead(NamedTuple):
    """All rows of one purpose from place ``first`` to ``last``, or to the end when that is None."""

    first: str
    last: str | None
    rows: Mapping[str, _Row]

    def covers(self, place: str) -> bool:
        """Whether the rows cover this place."""
        return self.first <= place and (self.last is None or place <= self.last)


class SqlFileIndex:
    """The index of one dataset; ``with`` writes what is left at the end, also after an error.

    What is found may be of any patient in the dataset: when a patient withdraws meanwhile, nothing of it is kept.
    ``batch`` files are read, and written, at once.
    """

    def __init__(self, database: Database, dataset: str, batch: int = _BATCH) -> None:
        self._database, self._dataset, self._batch = database, dataset, batch
        self._new: dict[tuple[str, str], _Row] = {}
        self._ahead: dict[str, _Ahead] = {}
        self._out: frozenset[tuple[str, str]] = frozenset()
        self._parsed: dict[tuple[str, str], tuple[_Row, object]] = {}
        self._wrote = False

    def is_overtaken(self, connection: Connection) -> bool:
        """Whether a patient withdrew from the dataset since this index was opened."""
        return not register.out_of(connection, self._dataset) <= self._out

    def get(self, place: str, purpose: Purpose[Found], signature: Signature) -> FileFacts[Found] | None:
        """The last answer if the file is as it was."""
        key = place, purpose.name
        row = self._new.get(key) or self._read(place, purpose.name)
        # The numbers of a signature: a record of them for each file would take longer than to compare.
        if row is None or row[2:6] != signature:
            return None
        known = self._parsed.get(key)
        if known is not None and known[0] is row:
            # A report asks for the same files several times.
            return cast(FileFacts[Found], known[1])
        if len(self._parsed) >= self._batch:
            self._parsed.clear()
        found = purpose.record.model_validate_json(row.facts)
        self._parsed[key] = row, found
        return found

    def _read(self, place: str, purpose: str) -> _Row | None:
        """What the database has: scans ask in the order of places, so that one query answers for many files."""
        ahead = self._ahead.get(purpose)
        if ahead is None or not ahead.covers(place):
            query = select(*(_files.c[name] for name in _Row._fields)).where(
                _files.c.dataset == self._dataset, _files.c.purpose == purpose, _files.c.place >= place
            )
            with self._database.read() as connection:
                found = connection.execute(query.order_by(_files.c.place).limit(self._batch)).all()
            rows = list(map(_Row._make, found))
            last = rows[-1].place if len(rows) == self._batch else None
            ahead = self._ahead[purpose] = _Ahead(place, last, {row.place: row for row in rows})
        return ahead.rows.get(place)

    def count(self) -> int:
        """How many files of the dataset were read before; 0 for a new dataset."""
        query = select(func.count(_files.c.place.distinct())).where(_files.c.dataset == self._dataset)
        with self._database.read() as connection:
            return connection.scalar(query) or 0

    def known(self, purpose: Purpose[Found]) -> Iterator[tuple[str, FileFacts[Found]]]:
        """All that was found in the dataset's files for one purpose, place by place; they may have changed since."""
        query = select(_files.c.place, _files.c.facts).where(
            _files.c.dataset == self._dataset, _files.c.purpose == purpose.name
        )
        with self._database.read() as connection:
            for row in connection.execute(query.order_by(_files.c.place)):
                yield row.place, purpose.record.model_validate_json(row.facts)

    def put(self, place: str, purpose: Purpose[Found], signature: Signature, facts: FileFacts[Found]) -> None:
        """Remember the facts in the place of the last answer."""
        text = facts.model_dump_json(exclude_defaults=True)
        self._new[place, purpose.name] = _Row(place, purpose.name, *signature, text)
        if len(self._new) >= self._batch:
            self.flush()

    def flush(self) -> None:
        """Write what is new; remove everything again if a patient withdrew."""
        if not self._new and not self._wrote:
            return
        with self._database.write() as connection:
            if self.is_overtaken(connection):
                connection.execute(delete(_files).where(_files.c.dataset == self._dataset))
            elif self._new:
                rows = [{"dataset": self._dataset, **row._asdict()} for row in self._new.values()]
                connection.execute(insert(_files).prefix_with("OR REPLACE", dialect="sqlite"), rows)
                self._wrote = True
        self._new.clear()
        self._ahead.clear()
        self._parsed.clear()

    def __enter__(self) -> Self:
        with self._database.read() as connection:
            self._out = register.out_of(connection, self._dataset)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
