"""What one attempt is: everything that its masks, shares and signatures are bound to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from archipel.privacy.secure_aggregation.packing import packed, statement
from archipel.privacy.secure_aggregation.roster import Roster
from archipel.vocabulary import BadInput
from archipel.vocabulary.things import Thing


class Stage(StrEnum):
    """What is summed: one sum of each leaves a site for each model that it is given."""

    UPDATES = "updates"
    METRICS = "metrics"


@dataclass(frozen=True)
class Attempt:
    """One try to form one sum over ``members``, the sites that shares are dealt to, in the order of the roster.

    ``model`` is the hash of the received model, ``arguments`` that of the task's arguments.
    """

    job: str
    roster: bytes
    round: int
    attempt: int
    model: str
    arguments: str
    stage: Stage
    members: tuple[str, ...]
    context: bytes = field(init=False)
    """The hash of all of it, 32 bytes."""

    @classmethod
    def over(
        cls, roster: Roster, members: frozenset[str] | tuple[str, ...], *, job: str, round: int, attempt: int,  # noqa: A002
        model: str, arguments: str, stage: Stage = Stage.UPDATES,
    ) -> Attempt:  # fmt: skip
        """An attempt over sites of a roster. Raises BadInput for a site that is not in it."""
        return cls(job, roster.digest(), round, attempt, model, arguments, stage, in_order(roster, members))

    def __post_init__(self) -> None:
        if min(self.round, self.attempt) < 0 or max(self.round, self.attempt) >= 2**63:
            raise BadInput(f"attempt {self.attempt} of round {self.round}", "is out of range", "count from 0 on")
        fields = (self.job, self.roster, self.round, self.attempt, self.model, self.arguments, self.stage.value)
        body = statement("attempt", *fields, packed(*self.members))
        object.__setattr__(self, "context", hashlib.sha256(body).digest())

    @property
    def thing(self) -> Thing:
        """Its words in an error."""
        words = f"attempt {self.attempt} of round {self.round} ({self.stage.value})"
        return Thing.worded(words, round=self.round, attempt=self.attempt, stage=self.stage.value)


def in_order(roster: Roster, names: frozenset[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Names in the order of the roster, each once. Raises BadInput for a name that is not in it, or twice in it."""
    if len(set(names)) != len(names):
        raise BadInput("a set of sites", "names a site twice", "name each site once")
    return tuple(sorted(names, key=roster.position))
