"""The heads of the sites' journals that the server keeps: a journal that was shortened or rewritten is found out."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection, select

from archipel.governance import JournalHead, append
from archipel.server import schema
from archipel.server.book import keep_head
from archipel.server.federation import Federation
from archipel.vocabulary import ErrorCode, NotPermitted

_log = structlog.get_logger("archipel.heads")


def check(identity_key: str, site: str, head: JournalHead) -> None:
    """Raise NotPermitted unless the site signed this head of its own journal."""
    if head.owner != site or not head.is_signed_by(identity_key):
        raise NotPermitted(
            f"journal head of {site}",
            "is not signed by the site",
            "check the site's identity key",
            code=ErrorCode.TRUST,
        )


def follows(head: JournalHead, known: JournalHead) -> bool:
    """Whether a journal that had the one head may have the other now, as far as the two tell."""
    return head.number > known.number or (head.number == known.number and head.hash == known.hash)


def note_fault(federation: Federation, site: str, known: JournalHead, shown: JournalHead) -> None:
    """Journal that a site showed a head behind the one kept, or another at the same number."""
    with federation.database.write() as connection:
        _note_fault(connection, site, known, shown)


def _note_fault(connection: Connection, site: str, known: JournalHead, shown: JournalHead) -> None:
    body = {"site": site, "kept": known.model_dump(mode="json"), "shown": shown.model_dump(mode="json")}
    append(connection, schema.journal, "site-journal-fault", body)
    _log.error("a site's journal went back", site=site, kept=known.number, shown=shown.number)


def keep(federation: Federation, site: str, head: JournalHead) -> JournalHead:
    """Keep the head a site shows when it connects; returns the newest one that is attested.

    A head that goes back behind the one kept, or has another hash at the same number, is journaled as a fault and the
    older one stays: it is the proof.
    """
    check(federation.registry.site(site).identity_key, site, head)
    table = schema.site_heads
    with federation.database.write() as connection:
        row = connection.execute(select(table).where(table.c.site == site)).mappings().first()
        if row is not None:
            values = {name: row[name] for name in ("number", "hash", "at", "signature")}
            known = JournalHead(owner=site, **values)
            if not follows(head, known):
                _note_fault(connection, site, known, head)
                return known
        keep_head(connection, site, head)
    return head
