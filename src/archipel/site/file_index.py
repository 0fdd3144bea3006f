"""What was found in each file of a dataset, kept in the site's database so that a re-scan opens only what changed."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from sqlalchemy import insert, select

from archipel.data import FileFacts, Signature
from archipel.site import schema
from archipel.site.state import SiteState

_files = schema.files
_BATCH = 500
"""How many new facts are written in one transaction: a scan of many files neither fills memory nor starts over."""


class _Ahead(NamedTuple):
    """Rows of one purpose, all there are from place ``first`` to ``last``, or to the end when that is None."""

    first: str
    last: str | None
    rows: Mapping[str, Mapping[Any, Any]]

    def covers(self, place: str) -> bool:
        """Whether the rows answer for this place."""
        return self.first <= place and (self.last is None or place <= self.last)


class SqlFileIndex:
    """The index of one dataset; ``with`` writes what is left at the end, also after an error."""

    def __init__(self, site: SiteState, dataset: str) -> None:
        self._site, self._dataset = site, dataset
        self._new: dict[tuple[str, str], dict[str, Any]] = {}
        self._ahead: dict[str, _Ahead] = {}

    def get(self, place: str, purpose: str, signature: Signature) -> FileFacts | None:
        """The facts if the file is as it was."""
        row: Mapping[Any, Any] | None = self._new.get((place, purpose))
        if row is None:
            row = self._read(place, purpose)
        if row is None or signature != Signature(row["size"], row["modified_ns"], row["changed_ns"], row["inode"]):
            return None
        return FileFacts.model_validate_json(row["facts"])

    def _read(self, place: str, purpose: str) -> Mapping[Any, Any] | None:
        """What the database has: scans ask in the order of places, so that one query answers for many files."""
        ahead = self._ahead.get(purpose)
        if ahead is None or not ahead.covers(place):
            query = select(_files).where(
                _files.c.dataset == self._dataset, _files.c.purpose == purpose, _files.c.place >= place
            )
            with self._site.database.read() as connection:
                rows = connection.execute(query.order_by(_files.c.place).limit(_BATCH)).mappings().all()
            last = rows[-1]["place"] if len(rows) == _BATCH else None
            ahead = self._ahead[purpose] = _Ahead(place, last, {row["place"]: row for row in rows})
        return ahead.rows.get(place)

    def put(self, place: str, purpose: str, signature: Signature, facts: FileFacts) -> None:
        """Remember the facts."""
        self._new[place, purpose] = {
            "dataset": self._dataset,
            "place": place,
            "purpose": purpose,
            **signature._asdict(),
            "facts": facts.model_dump_json(),
        }
        if len(self._new) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what is new."""
        if not self._new:
            return
        with self._site.database.write() as connection:
            connection.execute(insert(_files).prefix_with("OR REPLACE", dialect="sqlite"), list(self._new.values()))
        self._new.clear()
        self._ahead.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
