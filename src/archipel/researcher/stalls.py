"""Why an experiment does not go on, as the error that says it: who said no, or what failed and what can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from archipel.vocabulary import ArchipelError, ErrorCode, Failure, Refused


def without_quorum(document: Mapping[str, Any], quorum: int) -> Refused:
    """So many sites said no that the quorum can no longer be reached."""
    others = [one for one in document["approvals"] if one["state"] != "approved"]
    approved = len(document["approvals"]) - len(others)
    no = ", ".join(f"{one['site']} {one['state']}" for one in others)
    return Refused(
        f"experiment {document['experiment']}",
        f"{approved} sites approved, its quorum is {quorum}: {no}",
        "talk to the sites, then create a job that they accept",
        code=ErrorCode.NOT_APPROVED,
    )


def unfinished(document: Mapping[str, Any], newest: Sequence[Mapping[str, Any]]) -> ArchipelError:
    """Why an experiment stands still, with what sites said in its newest round or attempt."""
    failed = {
        site: Failure.model_validate(part["failure"])
        for one in newest
        for site, part in sorted(one["sites"].items())
        if part["failure"]
    }
    name, reason = document["experiment"], document.get("reason")
    goes_on = document["state"] == "paused" and all(failure.retry for failure in failed.values())
    return ArchipelError(
        f"experiment {name}",
        f"is {document['state']} after round {document['round']} of {document['rounds']}"
        + (f" ({reason})" if reason else "")
        + "".join(f"; {site} failed: {failure}" for site, failure in list(failed.items())[:3]),
        f"look at .history and .failures (archipel experiment failures {name})"
        + ("; it goes on with run() or resume()" if goes_on else ""),
        code=ErrorCode.CONFLICT,
    )
