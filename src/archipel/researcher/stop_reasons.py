"""Why an experiment does not continue, as an error: which sites rejected it, or what failed and what can be done."""

from __future__ import annotations

from collections.abc import Sequence

from archipel.rounds.attempts import NEW_JOB
from archipel.transport.rest import ExperimentView, RoundView
from archipel.vocabulary import ArchipelError, ErrorCode, Refused, Thing
from archipel.vocabulary.remedies import ShowFailures
from archipel.vocabulary.states import ApprovalState, ExperimentState
from archipel.vocabulary.visible import quote


def without_quorum(document: ExperimentView, quorum: int) -> Refused:
    """So many sites rejected it that the quorum can no longer be reached."""
    others = [answer for answer in document.approvals if answer.state is not ApprovalState.APPROVED]
    approved = len(document.approvals) - len(others)
    no = ", ".join(f"{answer.site} {answer.state}" for answer in others)
    return Refused(
        Thing("experiment", document.experiment),
        f"{approved} sites approved, its quorum is {quorum}: {no}",
        "talk to the sites, then create a job that they accept",
        code=ErrorCode.NOT_APPROVED,
        values={"approved": approved, "quorum": quorum},
    )


def unfinished(document: ExperimentView, newest: Sequence[RoundView]) -> ArchipelError:
    """Why an experiment is paused, with the failures of sites in its newest round or attempt."""
    failed = {
        site: part.failure
        for attempt in newest
        for site, part in sorted(attempt.sites.items())
        if part.failure is not None
    }
    name, reason = document.experiment, document.reason
    goes_on = (
        document.state is ExperimentState.PAUSED
        and all(failure.retry for failure in failed.values())
        and NEW_JOB not in (reason or "")
    )
    return ArchipelError(
        Thing("experiment", name),
        f"is {document.state} after round {document.round} of {document.rounds}"
        + (f" ({reason})" if reason else "")
        + "".join(f"; {site} failed: {quote(str(failure))}" for site, failure in list(failed.items())[:3]),
        f"see .history and .failures (archipel experiment failures {name})"
        + ("; continue with run() or resume()" if goes_on else ""),
        code=ErrorCode.CONFLICT,
        values={"state": document.state, "round": document.round, "rounds": document.rounds},
        command=ShowFailures(experiment=name),
    )
