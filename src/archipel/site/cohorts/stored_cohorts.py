"""Cohorts in the site's database: written and read in pieces, so that neither takes more memory than the cohort."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import Connection, bindparam, delete, insert, select

from archipel.data import Cohort
from archipel.data.cohorts import cohort_of, pieces
from archipel.site.state import schema
from archipel.storage import Database, Statement
from archipel.tensors import BlobHasher

_rows = schema.cohort_pieces
_CONTENT = Statement(select(_rows.c.content).where(_rows.c.cohort_hash == bindparam("hashed")).order_by(_rows.c.number))
_AT_ONCE = 8
"""Pieces, of at most a mebibyte each, that are given to the database in one call."""


def write(connection: Connection, hashed: str, cohort: Cohort) -> None:
    """Keep a cohort under its hash, in the place of what is kept there."""
    connection.execute(delete(_rows).where(_rows.c.cohort_hash == hashed))
    numbered = ({"cohort_hash": hashed, "number": place, "content": one} for place, one in enumerate(pieces(cohort)))
    while some := list(islice(numbered, _AT_ONCE)):
        connection.execute(insert(_rows), some)


def read(connection: Connection, hashed: str) -> Cohort:
    """The cohort that is kept under a hash. Raises ValueError when what is kept is not a cohort."""
    return cohort_of(_pieces(connection, hashed))


def _pieces(connection: Connection, hashed: str) -> Iterator[bytes]:
    return _CONTENT.each(connection, {"hashed": hashed})


@dataclass(frozen=True)
class StoredCohort:
    """What the database has under a cohort's hash: two of them are equal if their exact bytes are."""

    hashed: str
    digest: str
    _database: Database = field(compare=False, repr=False)

    @classmethod
    def of(cls, connection: Connection, database: Database, hashed: str) -> StoredCohort:
        """What is there now."""
        hasher = BlobHasher()
        for piece in _pieces(connection, hashed):
            hasher.update(piece)
        return cls(hashed, hasher.digest(), database)

    def cohort(self) -> Cohort:
        """The cohort, read again. Raises ValueError when it is not a cohort, or not the same bytes any more."""
        hasher = BlobHasher()

        def watched() -> Iterator[bytes]:
            for piece in _pieces(connection, self.hashed):
                hasher.update(piece)
                yield piece

        with self._database.read() as connection:
            cohort = cohort_of(watched())
        if hasher.digest() != self.digest:
            raise ValueError("the stored cohort was changed while it was read")
        return cohort
