"""The server's own journal, for its operators: its newest lines, its signed head, and the proof that it is whole."""

from __future__ import annotations

from collections.abc import Sequence

from archipel.governance import SERVER_JOURNAL, IdentityKey, JournalEntry, JournalHead, sign_head
from archipel.server.membership import MemberRegistry
from archipel.vocabulary import Record


class VerifiedServerJournal(Record):
    """What verifying found: how many lines there are, and what is wrong.

    ``attested`` is the last line under a head that was kept elsewhere: lines before it cannot be missing. It is 0
    without such a head.
    """

    whole: bool
    lines: int
    attested: int
    problems: tuple[str, ...]


def verify(registry: MemberRegistry, kept: Sequence[JournalHead] = ()) -> VerifiedServerJournal:
    """Check the journal by its own chain and by the heads of it that were ``kept`` elsewhere."""
    problems = tuple(registry.journal_faults(kept))
    return VerifiedServerJournal(
        whole=not problems,
        lines=registry.journal_head(SERVER_JOURNAL).number,
        attested=0 if problems else max((head.number for head in kept), default=0),
        problems=problems,
    )


def signed_head(registry: MemberRegistry, identity: IdentityKey) -> JournalHead:
    """The head now, signed by the server, to be kept elsewhere."""
    return sign_head(identity, registry.journal_head(SERVER_JOURNAL))


def newest(registry: MemberRegistry, after: int = 0, last: int | None = None) -> list[JournalEntry]:
    """The lines after number ``after``, oldest first, and of these only the ``last`` ones where that is given."""
    if last is not None:
        after = max(after, registry.journal_head(SERVER_JOURNAL).number - last)
    return registry.journal(after)
