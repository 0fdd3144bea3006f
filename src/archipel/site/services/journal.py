"""The site's journal for people and programs: its newest lines, the proof that it is whole, and its export."""

from __future__ import annotations

from collections.abc import Iterable

from archipel.governance import HeadFault, JournalEntry, JournalHead
from archipel.site.audit import export as exports
from archipel.site.audit import journal, journal_heads
from archipel.site.state import SiteJournalKind, StateFolder
from archipel.vocabulary import Record


class VerifiedJournal(Record):
    """What verifying the journal found. ``joined``: the site has a federation, whose server can attest lines.

    ``attested`` is the last line under one of the ``journal_heads``, which another party attested; that lines after it
    are complete cannot be proved.
    """

    site: str
    joined: bool
    whole: bool
    lines: int
    attested: int
    journal_heads: int
    problems: tuple[str, ...]


class VerifiedExport(Record):
    """What verifying an export found: whose it is, its lines, the key that signed its head, and what is wrong."""

    site: str
    whole: bool
    lines: int
    key: str
    problems: tuple[str, ...]


class JournalExcerpt(Record):
    """The newest lines, oldest first.

    ``disclosed_before`` is the newest line before these that says what was disclosed, None where there is none:
    without it the first such line of the excerpt does not show what it changed.
    """

    lines: tuple[JournalEntry, ...]
    disclosed_before: JournalEntry | None


class ExportedJournal(Record):
    """The journal as JSON lines, the signed head last: ``lines`` lines before it, signed by ``key``."""

    lines: int
    key: str
    text: str


class ServerHead(Record):
    """The head of the server's journal that came last, and every time that journal lost or changed lines."""

    head: JournalHead
    faults: tuple[HeadFault, ...]


def verify(site: StateFolder, fresh: Iterable[JournalHead] = ()) -> VerifiedJournal:
    """Check the journal by its own chain, by the receipts kept here and by ``fresh`` heads that others kept."""
    proof = journal.verify(site, fresh)
    return VerifiedJournal(
        site=site.name,
        joined=site.federation() is not None,
        whole=proof.whole,
        lines=proof.lines,
        attested=proof.attested,
        journal_heads=proof.journal_heads,
        problems=proof.problems,
    )


def verify_export(text: str, key: str | None = None, kept: Iterable[JournalHead] = ()) -> VerifiedExport:
    """Prove an exported journal whole, without a site's folder; ``kept`` are heads kept elsewhere.

    Raises BadInput as ``audit.export.verify`` does.
    """
    proof = exports.verify(text, key, kept)
    return VerifiedExport(site=proof.site, whole=proof.whole, lines=proof.lines, key=proof.key, problems=proof.problems)


def newest(site: StateFolder, count: int) -> JournalExcerpt:
    """The last ``count`` lines."""
    lines = journal.newest(site.database, count)
    first = lines[0].number if lines else 0
    before = [
        line for line in journal.of_kind(site.database, SiteJournalKind.DATASETS_DISCLOSED) if line.number < first
    ]
    return JournalExcerpt(lines=tuple(lines), disclosed_before=before[-1] if before else None)


def export(site: StateFolder) -> ExportedJournal:
    """The whole journal, for an audit elsewhere."""
    written = list(journal.export(site))
    text = "".join(f"{line}\n" for line in written)
    return ExportedJournal(lines=len(written) - 1, key=site.identity.public, text=text)


def server_head(site: StateFolder) -> ServerHead:
    """The head of its own journal that the server showed last, for its operator. Raises NotFound before any head
    came.
    """
    return ServerHead(head=journal_heads.of_server(site.database), faults=tuple(journal_heads.faults(site.database)))
