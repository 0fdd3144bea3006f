"""An exported journal, proved anywhere: without the site's folder, by its chain and the signature at its end.

The journal names its key in its first line. That this key is the site's can only be confirmed by another party, such as
the server, which lists the keys.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import ValidationError

from archipel.governance import JournalEntry, JournalHead, check_chain
from archipel.site.state import SiteJournalKind
from archipel.vocabulary import BadInput
from archipel.vocabulary.remedies import ExportJournal


@dataclass(frozen=True)
class ExportProof:
    """What verifying an export found: the site, the number of lines, the key that signed the head, and the problems."""

    site: str
    lines: int
    key: str
    problems: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(text: str, key: str | None = None, journal_heads: Iterable[JournalHead] = ()) -> ExportProof:
    """Prove an export whole; ``key`` is the site's identity key where it is known, ``journal_heads`` were kept
    elsewhere.

    Raises BadInput when the text does not end with a signed head.
    """
    # Not splitlines: a line of the journal may hold what that takes for its end, such as U+2028 in a note.
    *written, last = text.removesuffix("\n").replace("\r\n", "\n").split("\n")
    try:
        end = JournalHead.model_validate_json(last)
    except ValidationError as error:
        cause = "does not end with a signed head: its end was cut off, or it is not an export"
        raise BadInput(
            "exported journal", cause, "give a file that `archipel site journal export` wrote", command=ExportJournal()
        ) from error
    problems: list[str] = []
    entries: list[JournalEntry] = []
    for number, line in enumerate(written, 1):
        try:
            entry = JournalEntry.model_validate_json(line)
        except ValidationError:
            problems.append(f"line {number} of the file is not a line of a journal")
            continue
        entries.append(entry)
        if entry.model_dump_json() != line:
            problems.append(f"line {number} of the file is not as it was exported: it may say one thing twice")
    first_keys = _values_of(entries, "identity_key", SiteJournalKind.SITE_MADE)
    signer = key or (first_keys[0] if first_keys else "")
    if key is not None and key not in first_keys:
        problems.append(
            f"the journal is of another site: it begins with identity key {', '.join(first_keys) or 'none'}"
        )
    if not end.is_signed_by(signer):
        problems.append("the head at its end is not signed by the site's identity key")
    if end.number != len(written):
        problems.append(f"its head is of line {end.number}, and {len(written)} lines come before it")
    keys = {signer, *_values_of(entries, "server_key", "joined")}
    for known in journal_heads:
        if known.owner != end.owner or not any(known.is_signed_by(one) for one in keys):
            problems.append(
                f"the head for line {known.number} is not of this journal, or it is not signed by a known key"
            )
    return ExportProof(end.owner, len(written), signer, (*check_chain(entries, [end, *journal_heads]), *problems))


def _values_of(entries: list[JournalEntry], name: str, kind: str) -> list[str]:
    return [str(entry.body[name]) for entry in entries if entry.kind == kind and name in entry.body]
