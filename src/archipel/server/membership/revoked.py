"""What was revoked stays revoked: nothing is revoked twice."""

from __future__ import annotations

from archipel.vocabulary import Conflict, Thing
from archipel.vocabulary.remedies import Nothing


def check_not_revoked(thing: str, name: str, revoked_at: str | None) -> None:
    """Raise Conflict for what was revoked before; ``thing`` is what it is called."""
    if revoked_at is not None:
        raise Conflict(
            Thing(thing, name),
            f"was revoked on {revoked_at}",
            "no action is needed",
            values={"revoked_at": revoked_at},
            command=Nothing(),
        )
