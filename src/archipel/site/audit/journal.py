"""The site's journal: lines are added in the transaction of what they record, and the chain can be verified at the
site.

Heads of this journal that the server countersigned (receipts) and a head that the server gives when asked show what
the chain alone cannot show: an end that was cut off, and a journal that was rewritten.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import JsonValue
from sqlalchemy import Connection, RowMapping, select

from archipel.governance import JournalEntry, JournalHead, check_chain, sign_head
from archipel.governance import append as append_to
from archipel.governance import head as head_of
from archipel.governance.canonical import canonical
from archipel.governance.journal import GENESIS
from archipel.site.state import SiteJournalKind, change_of_line, changes, schema
from archipel.storage import Database, utc_now

if TYPE_CHECKING:
    from archipel.site.state import StateFolder

_HEAD = ("number", "hash", "at", "signature")


def append(connection: Connection, kind: str, body: Mapping[str, JsonValue]) -> JournalEntry:
    """Add a line and the change that it records, inside the caller's write transaction.

    ``journal_entries.add_entry`` says what lines there are.
    """
    entry = append_to(connection, schema.journal, kind, body)
    changes.append(connection, change_of_line(kind, body), line=entry.number)
    return entry


def signed_head(site: StateFolder) -> JournalHead:
    """The journal's head now, signed with the site's identity key; what the server keeps."""
    with site.database.read() as connection:
        return sign_head(site.identity, head_of(connection, schema.journal, site.name))


def newest_receipt(connection: Connection, owner: str) -> JournalHead | None:
    """The head for the longest journal among those that the server countersigned; None before the first."""
    query = select(schema.receipts).order_by(schema.receipts.c.number.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return JournalHead(owner=owner, **{name: row[name] for name in _HEAD}) if row else None


def unattested_head(site: StateFolder) -> JournalHead | None:
    """The journal's head, signed, if no receipt covers its last lines yet; None if all lines are covered."""
    with site.database.read() as connection:
        now, attested = head_of(connection, schema.journal, site.name), newest_receipt(connection, site.name)
    if attested is not None and attested.number >= now.number:
        return None
    return sign_head(site.identity, now)


def lines(database: Database, after: int = 0) -> list[JournalEntry]:
    """The lines after number ``after``, oldest first, even if they were changed."""
    query = select(schema.journal).where(schema.journal.c.number > after).order_by(schema.journal.c.number)
    with database.read() as connection:
        return [_line(row) for row in connection.execute(query).mappings()]


def newest(database: Database, count: int) -> list[JournalEntry]:
    """The last ``count`` lines, oldest first."""
    query = select(schema.journal).order_by(schema.journal.c.number.desc()).limit(count)
    with database.read() as connection:
        return [_line(row) for row in connection.execute(query).mappings()][::-1]


def of_kind(database: Database, kind: str) -> list[JournalEntry]:
    """The lines of one kind, oldest first."""
    with database.read() as connection:
        return of_kinds(connection, [kind])


def of_kinds(connection: Connection, kinds: Iterable[str]) -> list[JournalEntry]:
    """The lines of these kinds, oldest first."""
    query = select(schema.journal).where(schema.journal.c.kind.in_(list(kinds))).order_by(schema.journal.c.number)
    return [_line(row) for row in connection.execute(query).mappings()]


def _line(row: RowMapping) -> JournalEntry:
    """The line as stored; one that cannot be read keeps its raw text, which does not match its hash."""
    try:
        entry = JournalEntry(**(dict(row) | {"body": json.loads(row["body"])}))
        if canonical(entry.body).decode() != row["body"]:
            raise ValueError("not the canonical text, as two values for one key would be")
    except (ValueError, TypeError, RecursionError):
        return JournalEntry.model_construct(
            number=row["number"],
            at=str(row["at"]),
            kind=str(row["kind"]),
            body={"unreadable": str(row["body"])},
            previous=str(row["previous"]),
            hash=str(row["hash"]),
        )
    return entry


@dataclass(frozen=True)
class Proof:
    """What verifying found.

    ``lines``: how many there are. ``journal_heads``: how many attested heads they were compared with.
    ``attested``: the last line under one of these that fits. ``problems``: what is wrong.
    """

    lines: int
    journal_heads: int
    attested: int
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong; that lines after ``attested`` are complete cannot be proved."""
        return not self.problems


def verify(site: StateFolder, fresh: Iterable[JournalHead] = ()) -> Proof:
    """Check the journal by its own chain, by the receipts kept here and by ``fresh`` heads that others kept.

    A receipt counts with the server's signature, a fresh head with the server's or the site's own; one without is
    itself a problem, and so is a journal without its first line.
    """
    federation = site.federation()
    server_key = federation.server_key if federation else ""
    with site.database.read() as connection:
        rows = connection.execute(select(schema.receipts)).mappings().all()
        entries = [_line(row) for row in connection.execute(select(schema.journal).order_by("number")).mappings()]
    problems: list[str] = []
    heads = [
        known
        for known in _receipts(site.name, rows, problems)
        if _counts(known, site.name, {"the server's": server_key}, problems)
    ]
    keys = {"the server's": server_key, "this site's": site.identity.public}
    heads += [known for known in fresh if _counts(known, site.name, keys, problems)]
    if not entries:
        problems.append(f"every line is gone: the first of a site's journal is {SiteJournalKind.SITE_MADE}")
    hashes = {entry.number: entry.hash for entry in entries}
    attested = max((known.number for known in heads if hashes.get(known.number) == known.hash), default=0)
    return Proof(len(entries), len(heads), attested, tuple(check_chain(entries, heads) + problems))


def _counts(known: JournalHead, owner: str, keys: dict[str, str], problems: list[str]) -> bool:
    """Whether a head is one of this journal with one of these signatures; if not, the reason is added to the
    problems.
    """
    if known.owner != owner:
        problems.append(f"a head for line {known.number} is of the journal of {known.owner}, not of {owner}")
    elif any(known.is_signed_by(key) for key in keys.values()):
        return True
    else:
        problems.append(f"a head for line {known.number} does not carry {' or '.join(keys)} signature")
    return False


def _receipts(owner: str, rows: Iterable[RowMapping], problems: list[str]) -> Iterator[JournalHead]:
    for row in rows:
        try:
            yield JournalHead(owner=owner, **{name: row[name] for name in _HEAD})
        except ValueError:
            problems.append(f"the receipt for line {row['number']} cannot be read: it was changed")


def export(site: StateFolder) -> Iterator[str]:
    """The journal as JSON lines: every line, then the signed head of the last, for an audit elsewhere."""
    written = lines(site.database)
    for entry in written:
        yield entry.model_dump_json()
    # The head of the exported lines: a line that another process adds meanwhile is in neither.
    number, digest = (written[-1].number, written[-1].hash) if written else (0, GENESIS)
    head = JournalHead(owner=site.name, number=number, hash=digest, at=utc_now())
    yield sign_head(site.identity, head).model_dump_json()
