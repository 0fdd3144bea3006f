"""REST documents about experiments: their jobs, states, rounds, measurements and models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archipel.transport.rest.reply import Reply
from archipel.vocabulary import Details, Failure, Hash, Job, Lineage, Record, Value
from archipel.vocabulary.bounds import MOST_PARAMETERS
from archipel.vocabulary.packages import Packages
from archipel.vocabulary.states import ApprovalState, ExperimentState, ParticipantStatus, RoundState

Means = dict[str, float]
"""The mean of each metric by its name."""


class Submission(Record):
    """A job to keep and to ask its sites about."""

    job: Job


class Arguments(Record):
    """Hyper-parameters to change."""

    arguments: Annotated[dict[str, Value], Field(max_length=MOST_PARAMETERS)]


class ApprovalView(Reply):
    """What a site has answered; ``subjects`` is how many its cohort has, once it approved, if the site discloses it.

    ``packages`` are those that the job names with their versions at the site, None for one that it lacks; None in all
    while it has not said, and where it does not disclose that (``packages_withheld``).
    """

    site: str
    state: ApprovalState
    subjects: int | None = None
    at: str
    packages: Packages | None = None
    packages_withheld: bool = False


class Measurement(Reply):
    """One model on the held-out subjects: the means over all of them, and at each site.

    ``details`` and ``per_site_details`` say more than the mean of those metrics whose plan asks for it.
    """

    validation: Means
    per_site: dict[str, Means]
    subjects: int
    details: Details = {}
    per_site_details: dict[str, Details] = {}


class BaselinesView(Reply):
    """The last model, the ensemble of the sites' own models, and each of these, as far as they were measured."""

    federated: Measurement | None = None
    ensemble: Measurement | None = None
    local: dict[str, Measurement] = {}

    def by_model(self) -> dict[str, Measurement]:
        """Each measured model by what people call it: the federated one, the ensemble, then each site alone."""
        named = {"federated": self.federated, "ensemble": self.ensemble}
        named |= {f"{site} alone": local for site, local in sorted(self.local.items())}
        return {model: measured for model, measured in named.items() if measured is not None}


class ExperimentSummary(Reply):
    """An experiment in a line. ``asked_by`` names the access token that submitted it; times are ISO, UTC.

    ``awaited`` are the sites that a running experiment waits for because they are not connected, each until when.
    """

    experiment: str
    state: ExperimentState
    asked_by: str | None = None
    round: int
    rounds: int
    reason: str | None = None
    awaited: dict[str, str] = {}
    created: str
    started: str | None = None
    ended: str | None = None

    @property
    def ended_early(self) -> str | None:
        """Why it finished before its last round; None for one that did not."""
        return self.reason if self.state is ExperimentState.FINISHED and self.round < self.rounds else None

    @property
    def waits_for(self) -> str:
        """Whom it waits for and how long; empty when it waits for no site.

        >>> until = {"ulm": "2026-11-30T16:20:05+00:00", "jena": "2026-11-30T16:20:05+00:00"}
        >>> ExperimentSummary(experiment="e", state="running", round=1, rounds=3, created="", awaited=until).waits_for
        'waits until 2026-11-30 16:20:05 UTC for jena, ulm to connect'
        """
        parts = []
        for until in sorted(set(self.awaited.values())):
            sites = sorted(site for site, at in self.awaited.items() if at == until)
            parts.append(f"until {until[:19].replace('T', ' ')} UTC for {', '.join(sites)}")
        return f"waits {' and '.join(parts)} to connect" if parts else ""


class ExperimentView(ExperimentSummary):
    """An experiment with its job, its sites' answers and what its models reached."""

    job: Job
    job_hash: Hash
    arguments: dict[str, Value]
    approvals: tuple[ApprovalView, ...] = ()
    baselines: BaselinesView = BaselinesView()


class SiteRoundView(Reply):
    """One site's part of a round; ``validation`` and its ``details`` are of the model that the round started from.

    ``samples`` is None, and the metrics are empty, where they leave the site only within a sum.
    """

    state: ParticipantStatus
    samples: int | None = 0
    seconds: float = 0.0
    metrics: Means = {}
    validation: Means = {}
    details: Details = {}
    failure: Failure | None = None


class RoundView(Reply):
    """One attempt at a training round; ``samples`` is the sum over the sites that contributed.

    ``validation`` with its ``details`` is of the model that it started from, ``model_validation`` with
    ``model_details`` of the one that it produced, known once a later exchange has measured it.
    """

    round: int
    attempt: int
    state: RoundState
    seconds: float | None = None
    opened: str
    closed: str | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    arguments: dict[str, Value] = {}
    model: Hash | None = None
    contributors: tuple[str, ...] = ()
    sites: dict[str, SiteRoundView] = {}
    samples: int = 0
    metrics: Means = {}
    validation: Means = {}
    details: Details = {}
    model_validation: Means = {}
    model_details: Details = {}

    @property
    def is_committed(self) -> bool:
        """Whether the round counts."""
        return self.state is RoundState.COMMITTED


class ModelView(Reply):
    """A kept model: last, best, initial or ``local:<site>``; ``validation`` None until it was measured.

    The best one is the initial model itself, of round 0, as long as no round made a better one. ``lineage`` is where
    the experiment's initial model came from, None for one that its plan made.

    >>> initial = "blake3:" + "0" * 64
    >>> ModelView(name="best", round=0, hash=initial).origin
    'the untrained initial model'
    >>> ModelView(name="best", round=0, hash=initial, lineage={"file": initial}).origin
    'the model that it started from (a file of the researcher)'
    """

    name: str
    round: int
    hash: Hash
    validation: Means | None = None
    lineage: Lineage | None = None
    details: Details = {}

    @property
    def site(self) -> str | None:
        """The site that trained it alone; None for a model of the federation."""
        return self.name.removeprefix("local:") if self.name.startswith("local:") else None

    @property
    def is_initial(self) -> bool:
        """Whether no round of this experiment made it."""
        return self.round == 0 and self.site is None

    @property
    def is_untrained(self) -> bool:
        """Whether nothing trained it, as far as its job says."""
        return self.is_initial and self.lineage is None

    @property
    def origin(self) -> str:
        """What made it, for people."""
        if self.is_untrained:
            return "the untrained initial model"
        if self.is_initial:
            return f"the model that it started from ({self.lineage})"
        return f"trained at {self.site} alone, a baseline" if self.site else f"after round {self.round}"
