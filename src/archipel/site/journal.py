"""The site's journal: lines are added in the transaction of what they record, and anybody here can prove it whole.

Heads of this journal that the server countersigned (receipts) and a head that the server gives when asked show what
the chain alone cannot: an end that was cut off, and a journal that was written anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, insert, select

from archipel.governance import JournalEntry, JournalHead, check_chain, sign_head
from archipel.governance import append as append_to
from archipel.governance import head as head_of
from archipel.governance.canonical import canonical
from archipel.site import schema
from archipel.storage import utc_now
from archipel.vocabulary import BadInput, ErrorCode

if TYPE_CHECKING:
    from archipel.site.state import SiteState


def append(connection: Connection, kind: str, body: dict[str, Any]) -> JournalEntry:
    """Add a line, inside the caller's write transaction."""
    return append_to(connection, schema.journal, kind, body)


def signed_head(site: SiteState) -> JournalHead:
    """The journal's head now, signed with the site's identity key; what the server keeps."""
    with site.database.read() as connection:
        return sign_head(site.identity, head_of(connection, schema.journal, site.name))


def keep_receipt(site: SiteState, receipt: JournalHead) -> None:
    """Keep a head of this site's journal that the server countersigned.

    Raises BadInput when the server's signature is not on it or it is of another journal.
    """
    if receipt.owner != site.name or not receipt.is_signed_by(site.joined().server_key):
        raise BadInput(
            f"receipt for line {receipt.number}",
            "is not this server's word on this journal",
            "it was not kept",
            code=ErrorCode.TRUST,
        )
    row = receipt.model_dump(exclude={"owner"}) | {"received_at": utc_now()}
    with site.database.write() as connection:
        connection.execute(insert(schema.receipts).prefix_with("OR IGNORE", dialect="sqlite").values(**row))


def lines(site: SiteState, after: int = 0) -> list[JournalEntry]:
    """The lines after number ``after``, oldest first, whether or not somebody changed them."""
    query = select(schema.journal).where(schema.journal.c.number > after).order_by(schema.journal.c.number)
    with site.database.read() as connection:
        return [_line(row) for row in connection.execute(query).mappings()]


def newest(site: SiteState, count: int) -> list[JournalEntry]:
    """The last ``count`` lines, oldest first."""
    query = select(schema.journal).order_by(schema.journal.c.number.desc()).limit(count)
    with site.database.read() as connection:
        return [_line(row) for row in connection.execute(query).mappings()][::-1]


def _line(row: RowMapping) -> JournalEntry:
    """The line as it stands; one that cannot be read keeps its raw text, which does not fit its hash."""
    try:
        entry = JournalEntry(**(dict(row) | {"body": json.loads(row["body"])}))
        if canonical(entry.body).decode() != row["body"]:
            raise ValueError("not the canonical text, as two values for one key would be")
    except (ValueError, TypeError):
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
    """What verifying found: how many lines, how many attested heads they were held against, and what is wrong."""

    lines: int
    heads: int
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(site: SiteState, fresh: Iterable[JournalHead] = ()) -> Proof:
    """Hold the journal against itself, the receipts kept here and ``fresh`` heads that somebody else kept.

    A head is counted only with the server's or the site's own signature; one without is itself a problem.
    """
    found = site.federation()
    server_key = found.server_key if found else ""
    with site.database.read() as connection:
        rows = connection.execute(select(schema.receipts)).mappings().all()
        entries = [_line(row) for row in connection.execute(select(schema.journal).order_by("number")).mappings()]
    problems: list[str] = []
    heads: list[JournalHead] = []
    for known in [*_receipts(site.name, rows, problems), *fresh]:
        if known.owner != site.name:
            problems.append(f"a head for line {known.number} is of the journal of {known.owner}, not of {site.name}")
        elif known.is_signed_by(server_key) or known.is_signed_by(site.identity.public):
            heads.append(known)
        else:
            problems.append(f"a head for line {known.number} carries neither the server's nor this site's signature")
    return Proof(len(entries), len(heads), tuple(check_chain(entries, heads) + problems))


def _receipts(owner: str, rows: Iterable[RowMapping], problems: list[str]) -> Iterator[JournalHead]:
    for row in rows:
        try:
            yield JournalHead(owner=owner, **{name: row[name] for name in ("number", "hash", "at", "signature")})
        except ValueError:
            problems.append(f"the receipt for line {row['number']} cannot be read: it was changed")


def export(site: SiteState) -> Iterator[str]:
    """The journal as JSON lines: every line, then the signed head, for whoever audits it elsewhere."""
    for entry in lines(site):
        yield entry.model_dump_json()
    yield signed_head(site).model_dump_json()
