"""What the server shows of both journals: heads of its own, and heads of the site's that it countersigned (receipts).

All are kept. A head of the server's journal that is older than the last one, or differs from it at the same line, is
journaled here as a fault with both heads; the work continues. From then on the later head is the one
that others are compared with, so that one restored backup is one fault.
"""

from __future__ import annotations

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection, bindparam, delete, insert, select, text

from archipel.governance import SERVER_JOURNAL, HeadFault, JournalHead, follows
from archipel.site.audit import journal
from archipel.site.audit.journal_entries import ServerJournalFault, add_entry
from archipel.site.state import SiteJournalKind, StateFolder, schema
from archipel.storage import Database, Statement, utc_now
from archipel.transport.messages import Document
from archipel.vocabulary import BadInput, ErrorCode, NotFound
from archipel.vocabulary.remedies import StartAgent

_log = structlog.get_logger("archipel.heads")
_FIELDS = ("number", "hash", "at", "signature")

_heads = schema.server_journal_heads
# Composed once: every round comes with heads.
_NEWEST = Statement(select(_heads).order_by(text("rowid DESC")).limit(1))
_FORGET = Statement(
    delete(_heads).where(_heads.c.number == bindparam("number_named"), _heads.c.hash == bindparam("hash_named"))
)
_ADD = Statement(insert(_heads))
_ADD_RECEIPT = Statement(insert(schema.receipts).prefix_with("OR IGNORE", dialect="sqlite"))


def is_of_server(server_key: str, head: JournalHead) -> bool:
    """Whether the server signed this head as one of its own journal."""
    return head.owner == SERVER_JOURNAL and head.is_signed_by(server_key)


def is_receipt(server_key: str, owner: str, head: JournalHead) -> bool:
    """Whether the server countersigned this head of the journal of ``owner``, this site."""
    return head.owner == owner and head.is_signed_by(server_key)


def record_seen(
    site: StateFolder, shown: Document | None, attested: Document | None, contains: bool | None = None
) -> None:
    """Keep what a welcome or a heartbeat of the server carries, in one transaction; what is known already costs none.

    ``contains`` is what the server says of the head that came last, which this site's hello named: False is a fault.
    Raises BadInput (code trust), and keeps nothing, when one of them is not what the server signed.
    """
    head = JournalHead.model_validate(shown) if shown else None
    receipt = JournalHead.model_validate(attested) if attested else None
    if head is None and receipt is None:
        return
    server_key = site.joined().server_key
    if head is not None and not is_of_server(server_key, head):
        raise _unsigned(f"head of the server's journal at line {head.number}")
    if receipt is not None and not is_receipt(server_key, site.name, receipt):
        raise _unsigned(f"receipt for line {receipt.number}")
    with site.database.read() as connection:
        if head is not None and _same(head, newest(connection)):
            head = None
        if receipt is not None and _same(receipt, journal.newest_receipt(connection, site.name)):
            receipt = None
    if head is not None or receipt is not None:
        with site.database.write() as connection:
            keep(connection, head, receipt, contains)


def keep(
    connection: Connection, head: JournalHead | None, receipt: JournalHead | None, contains: bool | None = None
) -> None:
    """Keep heads whose signatures were checked, inside the caller's transaction; a fault is journaled in it too."""
    if head is not None:
        known = newest(connection)
        if known is not None and (not follows(head, known) or (contains is False and not _same(head, known))):
            fault = HeadFault(kept=known, shown=head)
            add_entry(connection, SiteJournalKind.SERVER_JOURNAL_FAULT, ServerJournalFault(**dict(fault)))
            _log.error("the server's journal lost or changed lines", fault=str(fault))
        if not _same(head, known):
            # Inserted again even if it was there: the last inserted row is the head that came last, whatever the clock
            # says.
            _FORGET.run(connection, {"number_named": head.number, "hash_named": head.hash})
            _ADD.run(connection, _row(head))
    if receipt is not None:
        _ADD_RECEIPT.run(connection, _row(receipt))


def newest(connection: Connection) -> JournalHead | None:
    """The head of the server's journal that came last; None before any came."""
    row = _NEWEST.first(connection)
    return JournalHead(owner=SERVER_JOURNAL, **{name: row[name] for name in _FIELDS}) if row else None


def last(database: Database) -> JournalHead | None:
    """The same, in a transaction of its own."""
    with database.read() as connection:
        return newest(connection)


def of_server(database: Database) -> JournalHead:
    """The head of the server's journal that came last, for its operator to compare that journal with.

    Raises NotFound before any came.
    """
    found = last(database)
    if found is None:
        raise NotFound(
            "head of the server's journal", "none came yet", "start the agent, which gets one", command=StartAgent()
        )
    return found


def faults(database: Database) -> list[HeadFault]:
    """Every time the server's journal lost or changed lines, oldest first; a damaged line is left out."""
    found = []
    for line in journal.of_kind(database, SiteJournalKind.SERVER_JOURNAL_FAULT):
        try:
            found.append(HeadFault.model_validate(line.body))
        except ValidationError:
            continue
    return found


def _same(head: JournalHead, known: JournalHead | None) -> bool:
    return known is not None and (head.number, head.hash) == (known.number, known.hash)


def _row(head: JournalHead) -> dict[str, int | str]:
    return {"received_at": utc_now()} | head.model_dump(exclude={"owner"})


def _unsigned(thing: str) -> BadInput:
    return BadInput(thing, "is not signed by this server", "it was not kept", code=ErrorCode.TRUST)
