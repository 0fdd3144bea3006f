"""A file index whose progress is shown: each file that is asked for is one step, before which the work may stop."""

from __future__ import annotations

from archipel.data import FileFacts, FileIndex, Found, Purpose, Signature
from archipel.vocabulary import Watch
from archipel.vocabulary.long_work import show_nothing

FILES = "files scanned"


def is_shown(watch: Watch) -> bool:
    """Whether anybody is shown how far the work is."""
    return watch.show is not show_nothing


class WatchedIndex:
    """Counts the files that are asked for; ``total`` is how many there probably are, 0 if that is unknown.

    Raises Cancelled from ``get`` when the work is to stop.
    """

    def __init__(self, index: FileIndex, watch: Watch, total: int = 0, what: str = FILES) -> None:
        self._index, self._watch, self._total, self._what = index, watch, total, what
        self._asked: set[str] = set()
        self._shows = is_shown(watch)

    def get(self, place: str, purpose: Purpose[Found], signature: Signature) -> FileFacts[Found] | None:
        """The facts if the file is as it was."""
        self._watch.check()
        if self._shows and place not in self._asked:
            done = len(self._asked)
            self._asked.add(place)
            self._watch.at(self._what, done, self._total if self._total > done else None)
        return self._index.get(place, purpose, signature)

    def put(self, place: str, purpose: Purpose[Found], signature: Signature, facts: FileFacts[Found]) -> None:
        """Remember the facts."""
        self._index.put(place, purpose, signature, facts)
