"""The rules on a set of sites that a sum is to be formed over, and on the signatures that agree to it."""

from __future__ import annotations

from collections.abc import Sequence

from archipel.privacy.secure_aggregation.attempts import Attempt, in_order
from archipel.privacy.secure_aggregation.messages import SetSignature, set_statement
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.privacy.secure_aggregation.terms import Terms
from archipel.vocabulary import Refused


def check_set(attempt: Attempt, members: tuple[str, ...], roster: Roster, terms: Terms) -> None:
    """Raises Refused where a set is not of this attempt, not in order, or too small."""
    if not set(members) <= set(attempt.members) or members != in_order(roster, members):
        raise Refused(attempt.thing, "got a set that is not of its members, in order", "send a set of its members")
    least = terms.quorum(len(attempt.members))
    if len(members) < least:
        raise Refused(
            attempt.thing,
            f"got a set of {len(members)} sites, and a sum is over {least} or more",
            "wait for more sites, or start another attempt",
        )


def check_signatures(
    attempt: Attempt, members: tuple[str, ...], signatures: Sequence[SetSignature], roster: Roster, terms: Terms
) -> None:
    """Raises Refused where fewer different sites of the set than the threshold signed it."""
    least = terms.threshold(len(attempt.members))
    good, bad = set(), []
    for one in signatures:
        body = set_statement(attempt.context, members, one.head)
        if one.site in members and roster.signed(one.site, one.signature, body):
            good.add(one.site)
        else:
            bad.append(one.site)
    if len(good) < least:
        wrong = f" (wrong: {', '.join(sorted(bad))})" if bad else ""
        raise Refused(
            attempt.thing,
            f"has {len(good)} right signatures for its set{wrong}, and {least} are needed",
            "collect the signatures of more sites of the set",
        )


def places(attempt: Attempt, dealer: str, members: tuple[str, ...]) -> list[int]:
    """Which of a dealer's seeds open a sum over a set: its self seed, then those with the members outside the set."""
    outside = [index for index, name in enumerate(attempt.members) if name not in members]
    return [attempt.members.index(dealer), *outside]
