"""What the people at this site decided about an experiment before, as the journal has it.

The person who approves is shown these decisions, and the approval names the newest of them: a later decision of
another person must be read first.
"""

from __future__ import annotations

from sqlalchemy import Connection

from archipel.site.audit import journal
from archipel.site.state import OfferState, SiteJournalKind
from archipel.vocabulary import Conflict, Record, Thing
from archipel.vocabulary.remedies import ShowOffer

_DECISIONS = {
    SiteJournalKind.APPROVED.value: OfferState.APPROVED,
    SiteJournalKind.REJECTED.value: OfferState.REJECTED,
    SiteJournalKind.REVOKED.value: OfferState.REVOKED,
}
_OFFERS = {SiteJournalKind.JOB_OFFERED.value, SiteJournalKind.JOB_CHANGED.value}


class EarlierDecision(Record):
    """One decision: who made it, when (ISO 8601 in UTC), and the note.

    ``line`` is the number of its line in the journal. ``same_job`` says whether it was about the job that is offered
    now and not about an earlier one of this name.
    """

    line: int
    state: OfferState
    by: str
    at: str
    note: str
    same_job: bool

    def __str__(self) -> str:
        about = "" if self.same_job else ", when it was another job"
        note = f": {self.note}" if self.note else ""
        return f"{self.state.value} by {self.by} on {self.at}{about}{note}"


def earlier_decisions(connection: Connection, experiment: str) -> tuple[EarlierDecision, ...]:
    """Every decision about the experiment, the oldest first."""
    about = [
        line
        for line in journal.of_kinds(connection, {*_DECISIONS, *_OFFERS})
        if line.body.get("experiment") == experiment
    ]
    offered = max((line.number for line in about if line.kind in _OFFERS), default=0)
    return tuple(
        EarlierDecision(
            line=line.number,
            state=_DECISIONS[line.kind],
            by=str(line.body.get("by", "")),
            at=line.at,
            note=str(line.body.get("note", "")),
            same_job=line.number > offered,
        )
        for line in about
        if line.kind in _DECISIONS
    )


def newest_line(decisions: tuple[EarlierDecision, ...]) -> int:
    """The journal's line of the newest decision, 0 without one: what an approval names to say that it was shown."""
    return decisions[-1].line if decisions else 0


def check_decisions_shown(connection: Connection, experiment: str, shown: int) -> None:
    """Raise Conflict unless ``shown`` is the line of the newest decision about the experiment, 0 without one."""
    known = earlier_decisions(connection, experiment)
    if newest_line(known) != shown:
        what = str(known[-1]) if known else "decided by nobody"
        raise Conflict(
            Thing("experiment", experiment),
            f"was {what}; that was not shown",
            "read it again, then approve it",
            command=ShowOffer(experiment=experiment),
        )
