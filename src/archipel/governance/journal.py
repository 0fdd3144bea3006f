"""The journal: an append-only, hash-chained table, written in the same transactions as the state that it records.

Each line's hash covers its number, time, kind, body and the hash of the line before it; changing, removing or inserting
a line breaks the chain from there on. Cutting lines off the end leaves a chain that is whole, so signed heads are
exchanged between site and server: a head that is older than another, or that the chain does not contain, shows the cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated

from pydantic import Field, JsonValue
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, Text, insert, select

from archipel.governance.canonical import canonical
from archipel.governance.keys import IdentityKey, verify
from archipel.storage import Statement, utc_now
from archipel.tensors import document_hash
from archipel.vocabulary import Hash, JsonObject, Record
from archipel.vocabulary.bounds import EXACT
from archipel.vocabulary.visible import escape_hidden

GENESIS = "sha256:" + "0" * 64
SERVER_JOURNAL = "server"
"""The owner in the heads of a server's journal that sites are sent."""


class JournalEntry(Record):
    """One line: what happened, as a kind and a JSON body."""

    number: int
    at: str
    kind: str
    body: JsonObject
    previous: Hash
    hash: Hash

    def expected_hash(self) -> str:
        """The hash that follows from the line's content and the line before it."""
        return document_hash(canonical(self.model_dump(mode="json", exclude={"hash"})))

    def fits_its_hash(self) -> bool:
        """Whether the hash follows from the content; content without a canonical form was never hashed."""
        try:
            return self.expected_hash() == self.hash
        except ValueError:
            return False


class JournalHead(Record):
    """How long a journal was and what its last line hashed to, signed by its owner."""

    owner: Annotated[str, Field(max_length=63)]
    number: Annotated[int, Field(ge=0, lt=EXACT)]
    hash: Hash
    at: Annotated[str, Field(max_length=40)]
    signature: Annotated[str, Field(max_length=200)] = ""

    def message(self) -> bytes:
        """The bytes that are signed."""
        return b"archipel-journal-head/1\n" + canonical(self.model_copy(update={"signature": ""}))

    def is_signed_by(self, public: str) -> bool:
        """Whether the owner with this identity key signed the head."""
        return verify(public, self.signature, self.message())


class HeadFault(Record):
    """Two signed heads of one journal, shown in this order, that a journal which only grows cannot both have.

    If ``shown`` has more lines, its owner said that the kept head is not among them.
    """

    kept: JournalHead
    shown: JournalHead

    def __str__(self) -> str:
        kept, shown = self.kept, self.shown
        # The time is the other party's text.
        then, now = escape_hidden(kept.at), escape_hidden(shown.at)
        if shown.number >= kept.number:
            what = f"line {kept.number} is not the same on {then} and on {now}"
        else:
            what = f"line {kept.number} existed on {then}; on {now} line {shown.number} was the last"
        return f"{what}: a backup was restored there, or lines were removed or written again"


def follows(head: JournalHead, known: JournalHead) -> bool:
    """Whether a journal that had the one head may have the other now, as far as the two heads show."""
    return head.number > known.number or (head.number == known.number and head.hash == known.hash)


def journal_table(metadata: MetaData) -> Table:
    """The journal's table, to be part of a server's or a site's schema."""
    return Table(
        "journal",
        metadata,
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("at", String(32), nullable=False),
        Column("kind", String(64), nullable=False),
        Column("body", Text, nullable=False),
        Column("previous", String(71), nullable=False),
        Column("hash", String(71), nullable=False),
    )


def append(connection: Connection, table: Table, kind: str, body: Mapping[str, JsonValue]) -> JournalEntry:
    """Add a line inside the caller's write transaction, together with the change that it records."""
    newest, insertion = _statements(table)
    last = newest.first(connection)
    number, previous = (last["number"] + 1, last["hash"]) if last else (1, GENESIS)
    at, text = utc_now(), canonical(body)
    hashed = document_hash(_line(number, at, kind, text, previous))
    row = {"number": number, "at": at, "kind": kind, "previous": previous, "hash": hashed}
    insertion.run(connection, row | {"body": text.decode()})
    return JournalEntry.model_validate(row | {"body": dict(body)})


def _line(number: int, at: str, kind: str, body: bytes, previous: str) -> bytes:
    """What ``JournalEntry.expected_hash`` hashes, from a body that is canonical already: the same bytes."""
    before, after = canonical({"at": at}), canonical({"kind": kind, "number": number, "previous": previous})
    return before[:-1] + b',"body":' + body + b"," + after[1:]


@lru_cache
def _statements(table: Table) -> tuple[Statement, Statement]:
    """The newest line's number and hash, and the insertion: composed once, which costs as much as executing them."""
    newest = select(table.c.number, table.c.hash).order_by(table.c.number.desc()).limit(1)
    return Statement(newest), Statement(insert(table))


def entries(connection: Connection, table: Table, after: int = 0) -> Iterable[JournalEntry]:
    """The lines after number ``after``, oldest first."""
    query = select(table).where(table.c.number > after).order_by(table.c.number)
    for row in connection.execute(query).mappings():
        yield JournalEntry(**(dict(row) | {"body": json.loads(row["body"])}))


def head(connection: Connection, table: Table, owner: str) -> JournalHead:
    """The journal's unsigned head now; number 0 when it is empty."""
    last = _statements(table)[0].first(connection)
    if last is None:
        return JournalHead(owner=owner, number=0, hash=GENESIS, at=utc_now())
    return JournalHead(owner=owner, number=last["number"], hash=last["hash"], at=utc_now())


def sign_head(key: IdentityKey, unsigned: JournalHead) -> JournalHead:
    """The head with its owner's signature."""
    return unsigned.model_copy(update={"signature": key.sign(unsigned.message())})


def check_chain(lines: Iterable[JournalEntry], journal_heads: Iterable[JournalHead] = ()) -> list[str]:
    """What is wrong with a journal, one sentence each; an empty list proves it whole.

    ``journal_heads`` are heads of this journal that others kept (the caller has checked their signatures).
    """
    faults: list[str] = []
    hashes = {0: GENESIS}
    previous, number = GENESIS, 0
    for line in lines:
        if line.number != number + 1:
            faults.append(f"line {number + 1} is missing: line {line.number} follows line {number}")
        if not line.fits_its_hash():
            faults.append(f"line {line.number} ({line.kind}, {line.at}) was changed: its hash does not fit its content")
        elif line.previous != previous and line.number == number + 1:
            faults.append(f"line {line.number} ({line.kind}, {line.at}) does not continue line {number}")
        previous, number = line.hash, line.number
        hashes[number] = previous
    for known in journal_heads:
        if known.number > number:
            faults.append(f"the end was cut off after line {number}: line {known.number} was attested on {known.at}")
        elif hashes.get(known.number) != known.hash:
            faults.append(f"line {known.number} is not the one attested on {known.at}: the journal was rewritten")
    return faults
