"""The heads of the sites' journals that the server keeps: a journal that was shortened or rewritten is found out.

Of each site the head for the longest journal stays, as the proof, and is what others are compared with. A site whose
journal lost or changed lines (a restored backup, say) is a fault once: while it grows from there, it is not reported
again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from archipel.governance import SERVER_JOURNAL, HeadFault, IdentityKey, JournalHead, follows, sign_head
from archipel.governance import head as head_of
from archipel.server.state import JournalFault, ServerJournalKind, add_entry, schema
from archipel.storage import Database, Statement, utc_now
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, NotFound, NotPermitted, Thing

_log = structlog.get_logger("archipel.heads")
_heads = schema.site_journal_heads
# Composed once: every update comes with a head.
_NEWEST = Statement(select(_heads).where(_heads.c.site == bindparam("named")))
_REPLACE = Statement(update(_heads).where(_heads.c.site == bindparam("named")))
_WHERE_FROM = "give a file that `site journal server-head` or `journal show --head` printed"


def read(identity_key: str, site: str, document: Mapping[str, object]) -> JournalHead:
    """A head as it came in a message. Raises NotPermitted unless the site signed it as one of its own journal."""
    head = JournalHead.model_validate(document)
    if head.owner != site or not head.is_signed_by(identity_key):
        raise NotPermitted(
            Thing.worded(f"journal head of {site}", site=site),
            "is not signed by the site",
            "check the site's identity key",
            code=ErrorCode.TRUST,
        )
    return head


def newest(connection: Connection, site: str) -> JournalHead | None:
    """The head for the longest journal of a site that was kept; None before the first."""
    row = _NEWEST.first(connection, {"named": site})
    if row is None:
        return None
    return JournalHead(owner=site, **{name: row[name] for name in ("number", "hash", "at", "signature")})


def take(connection: Connection, site: str, head: JournalHead, *, in_order: bool) -> JournalHead:
    """Keep a head that ``read`` gave, inside the caller's transaction; returns the one that is kept after it.

    An older head is journaled as a fault and not kept. Unless heads come ``in_order``, as in a hello, a smaller
    number is not a fault: messages and uploads of one site may overtake each other.
    """
    known = newest(connection, site)
    if known is None:
        connection.execute(insert(_heads).values(site=site, **_row(head)))
        return head
    if not follows(head, known):
        if in_order or head.number == known.number:
            note_fault(connection, site, HeadFault(kept=known, shown=head))
        return known
    if head.number > known.number:
        _REPLACE.run(connection, {"named": site, **_row(head)})
        return head
    return known


def take_first(connection: Connection, identity_key: str, site: str, head: JournalHead) -> JournalHead:
    """The same for the head in a site's hello. A kept head of another identity is not compared: that was another
    journal.
    """
    known = newest(connection, site)
    if known is not None and not known.is_signed_by(identity_key):
        connection.execute(delete(_heads).where(_heads.c.site == site))
    return take(connection, site, head, in_order=True)


def note_fault(connection: Connection, site: str, fault: HeadFault) -> None:
    """Journal that a site showed a head that contradicts the kept one, unless this is journaled already."""
    for earlier in reversed(_faults(connection)):
        if earlier.site == site and earlier.kept == fault.kept and follows(fault.shown, earlier.shown):
            return
    add_entry(connection, ServerJournalKind.SITE_JOURNAL_FAULT, _of_site(site, fault))
    _log.error("a site's journal lost or changed lines", site=site, fault=str(fault))


def has(connection: Connection, identity_key: str, site: str, document: Mapping[str, object]) -> bool | None:
    """Whether the server's journal contains the head that a site kept of it; None when the server never signed that
    head.

    If it does not, this is journaled once for each loss.
    """
    kept, table = JournalHead.model_validate(document), schema.journal
    if kept.owner != SERVER_JOURNAL or not kept.is_signed_by(identity_key):
        _log.warning("a site named a head that this server never signed", site=site, number=kept.number)
        return None
    if kept.number == 0 or connection.scalar(select(table.c.hash).where(table.c.number == kept.number)) == kept.hash:
        return True
    known = _own_faults(connection)
    if not any(kept.at <= earlier.shown.at and kept.number > earlier.shown.number for earlier in known):
        fault = HeadFault(kept=kept, shown=head_of(connection, table, SERVER_JOURNAL))
        add_entry(connection, ServerJournalKind.OWN_JOURNAL_FAULT, _of_site(site, fault))
        _log.error("this server's own journal lost or changed lines", site=site, fault=str(fault))
    return False


def own_faults(database: Database) -> list[JournalFault]:
    """Every time a site kept a head that this server's own journal no longer contained, oldest first."""
    with database.read() as connection:
        return _own_faults(connection)


def _own_faults(connection: Connection) -> list[JournalFault]:
    return _faults(connection, ServerJournalKind.OWN_JOURNAL_FAULT)


def faults(database: Database) -> list[JournalFault]:
    """Every time a site's journal lost or changed lines, oldest first: the site, and the two heads that prove it."""
    with database.read() as connection:
        return _faults(connection)


def _faults(
    connection: Connection, kind: ServerJournalKind = ServerJournalKind.SITE_JOURNAL_FAULT
) -> list[JournalFault]:
    return list(_readable_faults(connection, kind))


def _readable_faults(connection: Connection, kind: ServerJournalKind) -> Iterator[JournalFault]:
    """What the journal says; a damaged line is left out here and reported when the journal is verified."""
    table = schema.journal
    for body in connection.scalars(select(table.c.body).where(table.c.kind == kind).order_by(table.c.number)):
        with contextlib.suppress(ValueError):
            yield JournalFault.model_validate_json(body)


def _of_site(site: str, fault: HeadFault) -> JournalFault:
    return JournalFault(site=site, kept=fault.kept, shown=fault.shown)


def of_site(database: Database, identity: IdentityKey, site: str) -> JournalHead:
    """The newest head kept of a site's journal, countersigned. Raises NotFound before the site showed one."""
    with database.read() as connection:
        found = newest(connection, site)
    if found is None:
        raise NotFound(
            Thing.worded(f"journal head of {site}", site=site), "is not kept here", "it comes when the site connects"
        )
    return sign_head(identity, found)


class SiteHead(NamedTuple):
    """The newest head kept of a site's journal, countersigned, and every time that journal lost or changed lines."""

    head: JournalHead
    faults: tuple[JournalFault, ...]


def shown_to_operator(database: Database, identity: IdentityKey, site: str) -> SiteHead:
    """What an operator gives to the people of a site. Raises NotFound before the site showed a head."""
    went_back = tuple(fault for fault in faults(database) if fault.site == site)
    return SiteHead(of_site(database, identity, site), went_back)


def read_own(path: Path, server_key: str, federation: str) -> JournalHead:
    """A head of this server's journal that was kept in a file elsewhere.

    Raises ArchipelError: code bad-input for another document or another journal's head, trust for a wrong signature.
    """
    thing = Thing.file(path)
    try:
        kept = JournalHead.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInput(thing, "is not a journal head", _WHERE_FROM) from error
    # Heads printed by an older version carry the federation's name.
    if kept.owner not in (SERVER_JOURNAL, federation):
        raise BadInput(
            thing,
            f"is a head of the journal of {kept.owner}",
            "give one of this server's",
            values={"owner": kept.owner},
        )
    if not kept.is_signed_by(server_key):
        raise ArchipelError(
            thing, "is not signed by this server", "give a head of this server's journal", code=ErrorCode.TRUST
        )
    return kept


def _row(head: JournalHead) -> dict[str, object]:
    return head.model_dump(mode="json", exclude={"owner"}) | {"received_at": utc_now()}
