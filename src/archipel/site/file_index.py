"""What was found in each file of a dataset, kept in the site's database so that a re-scan opens only what changed."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from sqlalchemy import delete, insert, select

from archipel.data import FileFacts, Signature
from archipel.site import schema
from archipel.site.state import SiteState

_files = schema.files
_BATCH = 500
"""How many new facts are written in one transaction: a scan of many files neither fills memory nor starts over."""


class SqlFileIndex:
    """The index of one dataset; ``with`` writes what is left at the end, also after an error."""

    def __init__(self, site: SiteState, dataset: str) -> None:
        self._site, self._dataset = site, dataset
        self._new: dict[tuple[str, str], dict[str, Any]] = {}

    def get(self, place: str, purpose: str, signature: Signature) -> FileFacts | None:
        """The facts if the file is as it was."""
        row = self._new.get((place, purpose))
        if row is None:
            with self._site.database.read() as connection:
                query = select(_files).where(
                    _files.c.dataset == self._dataset, _files.c.place == place, _files.c.purpose == purpose
                )
                found = connection.execute(query).mappings().first()
            row = dict(found) if found is not None else None
        if row is None or signature != Signature(row["size"], row["modified_ns"], row["changed_ns"], row["inode"]):
            return None
        return FileFacts.model_validate_json(row["facts"])

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
            for place, purpose in self._new:
                connection.execute(
                    delete(_files).where(
                        _files.c.dataset == self._dataset, _files.c.place == place, _files.c.purpose == purpose
                    )
                )
            connection.execute(insert(_files), list(self._new.values()))
        self._new.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
