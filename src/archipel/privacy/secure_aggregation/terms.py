"""Against whom the sum is protected: how many sites may collude, and how many it takes to open it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from archipel.vocabulary import BadInput, Refused

MOST_SITES = 100
"""A complete graph of pairs costs each site one mask per peer; a larger federation needs another graph."""


class Adversary(StrEnum):
    """What the server is expected to do."""

    MALICIOUS = "malicious"
    """It lies about who is there, sends different stories, and works together with sites."""
    CURIOUS = "curious"
    """It follows the protocol and tries to learn from what it sees."""


@dataclass(frozen=True)
class Terms:
    """The numbers that a job fixes; they are checked when they are made, for the ``sites`` of its roster."""

    sites: int
    colluding: int
    minimum: int
    adversary: Adversary = Adversary.MALICIOUS
    two_sites: bool = False

    @classmethod
    def of(
        cls,
        sites: int,
        adversary: Adversary = Adversary.MALICIOUS,
        colluding: int | None = None,
        minimum: int | None = None,
        *,
        two_sites: bool = False,
    ) -> Terms:
        """The terms with the defaults: a third of the roster may collude, more than half of it is in each sum.

        >>> Terms.of(3), Terms.of(3).threshold(3)
        (Terms(sites=3, colluding=1, minimum=3, adversary=<Adversary.MALICIOUS: 'malicious'>, two_sites=False), 3)
        """
        if colluding is None:
            colluding = 0 if two_sites else max(1, sites // 3)
        if minimum is None:
            minimum = 2 if two_sites else max(sites // 2 + 1, 3, colluding + 2)
        return cls(sites, colluding, minimum, Adversary(adversary), two_sites)

    def __post_init__(self) -> None:
        n, c = self.sites, self.colluding
        if self.two_sites and (n != 2 or c != 0):
            raise _wrong(f"two_sites is for exactly two sites of which none colludes, not {n} sites and {c}")
        if n < 3 and not self.two_sites:
            raise _wrong(
                f"{n} sites are too few: a sum over two tells each of them the other's update",
                "ask three sites or more, or name two_sites if both accept that",
            )
        if n > MOST_SITES:
            raise _wrong(
                f"{n} sites are more than {MOST_SITES}: each site masks once for each other one",
                f"make experiments of at most {MOST_SITES} sites",
            )
        if not self.two_sites and c < 1:
            raise _wrong("at least one site must be expected to collude", "set colluding to 1 or more")
        if self.minimum < c + 2:
            raise _wrong(
                f"a minimum of {self.minimum} leaves fewer than two honest sites in a sum when {c} collude",
                f"set the minimum to {c + 2} or more",
            )
        if self.minimum > n:
            raise _wrong(f"a minimum of {self.minimum} is more than the {n} sites", "lower the minimum, or colluding")
        self.threshold(n)

    def threshold(self, members: int) -> int:
        """How many shares open a seed in an attempt over so many sites. Raises Refused where no number protects it."""
        m, c = members, self.colluding
        t = (m + c) // 2 + 1 if self.adversary is Adversary.MALICIOUS else c + 1
        if t > m or m < self.minimum:
            raise Refused(
                f"an attempt over {m} sites",
                f"needs {max(t, self.minimum)} sites when {c} may collude",
                "wait for more sites, or make a job that expects fewer of them to collude",
            )
        if self.adversary is Adversary.MALICIOUS and 2 * t <= m + c:
            raise Refused(f"a threshold of {t} for {m} sites", f"can be met twice when {c} collude", "raise it")
        return t

    def quorum(self, members: int) -> int:
        """The fewest sites of any set in an attempt over so many."""
        return max(self.threshold(members), self.minimum)


def _wrong(cause: str, remedy: str = "change the terms of the job") -> BadInput:
    return BadInput("terms of secure aggregation", cause, remedy)
