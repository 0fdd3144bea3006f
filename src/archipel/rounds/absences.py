"""How long the loop waits for sites that are not connected, and what is said about it.

A site is awaited for the grace period, counted from when it was lost. After that it is away until it returns: no round
waits for it any more, so that an absence costs its grace once, in however many rounds it lasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from archipel.rounds.experiment_store import Opened
from archipel.rounds.fleet import Fleet
from archipel.rounds.stages import Stage
from archipel.rounds.tables import AWAITED
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.states import ParticipantStatus


@dataclass(frozen=True)
class Waiting:
    """Until when the loop waits for which sites, in seconds of its clock, and which sites it does not wait for."""

    until: Mapping[str, float] = field(default_factory=dict)
    away: tuple[str, ...] = ()

    def ended(self) -> Waiting:
        """The same sites, none of which is awaited any more.

        >>> Waiting({"b": 5.0}, ("a",)).ended()
        Waiting(until={}, away=('a', 'b'))
        """
        return Waiting(away=tuple(sorted({*self.away, *self.until})))

    def left(self, now: float) -> dict[str, float]:
        """How many more seconds each is awaited."""
        return {site: max(until - now, 0.0) for site, until in self.until.items()}


_NOBODY = Waiting()


def absent(fleet: Fleet, sites: Iterable[str]) -> dict[str, float]:
    """Those of the sites that are not connected, and since when, in seconds of the loop's clock."""
    since = {site: fleet.absent_since(site) for site in sites}
    return {site: at for site, at in since.items() if at is not None}


def short_since(since: Mapping[str, float], spare: int) -> float:
    """Since when fewer than the quorum are there, where ``spare`` sites more than the quorum take part.

    >>> short_since({"a": 5.0, "b": 20.0, "c": 10.0}, spare=1)
    10.0
    """
    return sorted(since.values())[spare]


def never_complete(stage: Stage, quorum: int, invited: int, absent_sites: Iterable[str], waited_s: float) -> str:
    """Why an experiment pauses whose quorum was not there for as long as a round may last, for people."""
    names = sorted(absent_sites)
    return (
        f"{stage} needs {pluralise(quorum, 'site')} and {invited - len(names)} of {invited} "
        f"{'is' if invited - len(names) == 1 else 'are'} connected; {', '.join(names)} did not connect within "
        f"{waited_s:.0f} s; resume when enough are connected"
    )


def waiting_in(opened: Opened, ends: float, grace_ends: Mapping[str, float]) -> Waiting:
    """Whom an open attempt waits for that is not connected.

    While other sites may still deliver, these are the lost ones, each to the end of its grace. When only an absent site
    can still make up the quorum, the attempt waits for it until its own end.
    """
    states = opened.sites.values()
    # Asked after every event, of every site: nearly always all are there.
    if ParticipantStatus.LOST not in states and ParticipantStatus.AWAY not in states:
        return _NOBODY
    away = tuple(sorted(site for site, state in opened.sites.items() if state is ParticipantStatus.AWAY))
    if any(state in AWAITED for state in states):
        lost = (site for site, state in opened.sites.items() if state is ParticipantStatus.LOST)
        return Waiting({site: grace_ends[site] for site in sorted(lost)}, away)
    return Waiting(dict.fromkeys(away, ends))
