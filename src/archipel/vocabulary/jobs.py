"""The job: everything that all sites of an experiment share, one document with one hash that sites approve."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from archipel.vocabulary.bounds import (
    EXACT,
    LONGEST_TEXT,
    MOST_BINS_OF_A_JOB,
    MOST_METRICS,
    MOST_PARAMETERS,
    MOST_ROUNDS,
    MOST_SITES,
)
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.gpus import GpuTerms
from archipel.vocabulary.lineage import Lineage
from archipel.vocabulary.metrics import MetricSpec
from archipel.vocabulary.names import ExperimentId, Hash, Name, SiteName
from archipel.vocabulary.needs import DataNeeds
from archipel.vocabulary.parameters import HyperParameter, check_arguments
from archipel.vocabulary.partition import FrozenPart, LocalPart
from archipel.vocabulary.plans import PlanReference
from archipel.vocabulary.records import Many, Record
from archipel.vocabulary.releases import OPERATIONAL_FIELDS, SUMMED_PREFIX, UPDATE_FIELDS, Release
from archipel.vocabulary.schemas import TensorSchema
from archipel.vocabulary.tasks import Arguments, TaskKey
from archipel.vocabulary.wrong_values import Terms

PublicKey = Annotated[str, StringConstraints(pattern=r"^ed25519:[0-9a-f]{64}$")]
NO_KEY = "ed25519:" + "0" * 64
"""Stands for the keys of server and sites in a job that nobody signs: in a simulation, and for data of one's own."""


class Selection(Terms):
    """Which checkpoint is the best one: a validation metric and its direction.

    >>> Selection(metric="dice", better="higher").metric
    'dice'
    """

    metric: Name
    better: Literal["higher", "lower"]


class OptimiserState(StrEnum):
    """What happens to the optimiser's state between rounds; it never leaves the site.

    >>> OptimiserState("continue-local") is OptimiserState.CONTINUE_LOCAL
    True
    """

    RESET = "reset"
    CONTINUE_LOCAL = "continue-local"


class StrategyTerms(Terms):
    """How updates become the next model: a registered strategy by name, and the values of its parameters."""

    name: Name = "fedavg"
    parameters: Arguments = {}


MOST_STEPS = 16
"""Each step reads a whole update once more."""


class StepTerms(Terms):
    """One change of an update before it leaves a site: a registered step by name, and its parameters' values."""

    name: Name
    parameters: Arguments = {}


class PrivacyTerms(Terms):
    """How updates leave a site.
    ``release``: individually, or only as a term of a sum over sites, which the server keeps (see
        ``privacy/summed_fields.py``). ``steps`` change each update at its site, in this order.
    """

    release: Release = Release.INDIVIDUALLY
    steps: Annotated[Many[StepTerms], Field(max_length=MOST_STEPS)] = ()


class Patience(Terms):
    """When an experiment ends by itself: after so many rounds in a row without a gain in a validation metric.

    A model gains when it is better than every model that counted as a gain before, by ``smallest_gain`` or more; with 0
    any better value counts. The initial model is the first that later ones are compared with.

    >>> Patience(metric="dice", rounds=5, smallest_gain=0.01).in_words
    'no gain of 0.01 in dice for 5 rounds'
    """

    metric: Name
    rounds: Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
    smallest_gain: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0

    @property
    def in_words(self) -> str:
        """The reason for which it ends an experiment."""
        gain = f"gain of {self.smallest_gain:g}" if self.smallest_gain else "gain"
        return f"no {gain} in {self.metric} for {pluralise(self.rounds, 'round')}"


class RoundTerms(Terms):
    """How many rounds there are, how long each waits, and when the experiment ends before the last one.

    ``quorum`` sites must deliver; ``deadline_s`` bounds a round; a lost site is awaited ``grace_s`` seconds;
    a round without quorum is tried again ``retries`` times, then the experiment pauses. ``resumes`` bounds the attempts
    at a round: it is tried at most as often as it would be if it were resumed so many times. ``patience`` ends the
    experiment early by itself. ``measurements`` bounds how often the federated model is measured between rounds: after
    a step or a pause, and once where the experiment ends early.
    """

    rounds: Annotated[int, Field(ge=1, le=MOST_ROUNDS)]
    quorum: Annotated[int, Field(ge=1)]
    deadline_s: Annotated[float, Field(gt=0)] = 3600.0
    grace_s: Annotated[float, Field(ge=0)] = 300.0
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    resumes: Annotated[int, Field(ge=0, le=100)] = 10
    patience: Patience | None = None
    measurements: Annotated[int, Field(ge=1, le=MOST_ROUNDS)] = 10

    @property
    def attempts(self) -> int:
        """How many attempts at one stage there may be in all.

        >>> RoundTerms(rounds=5, quorum=2, retries=2, resumes=10).attempts
        33
        """
        return (1 + self.retries) * (1 + self.resumes)


class Baselines(Terms):
    """What the federated model is compared with: each site's own model, and the ensemble of these models.

    >>> Baselines(local=True, ensemble=True).ensemble
    True
    """

    local: bool = False
    ensemble: bool = False

    @model_validator(mode="after")
    def _ensemble_needs_local(self) -> Self:
        if self.ensemble and not self.local:
            raise ValueError(
                "baseline ensemble needs baseline local: the ensemble is made of the local models; give local=True too"
            )
        return self


class WorkerLimits(Terms):
    """What one worker may use at a site: memory and temporary files in 2**20 bytes, times in seconds.

    ``cpu_s`` and ``wall_s`` are limits for one training pass.

    >>> WorkerLimits(memory_mb=8192, threads=2).wall_s
    3600.0
    """

    memory_mb: Annotated[int, Field(ge=64)] = 4096
    cpu_s: Annotated[float, Field(gt=0)] = 7200.0
    wall_s: Annotated[float, Field(gt=0)] = 3600.0
    tmp_mb: Annotated[int, Field(ge=1)] = 256
    processes: Annotated[int, Field(ge=1)] = 64
    threads: Annotated[int, Field(ge=1)] = 1


class RosterEntry(Record):
    """One site of the job: its identity key (kept for life) and the dataset asked for."""

    site: SiteName
    identity_key: PublicKey
    dataset: Name


class Job(Record):
    """One canonical document (RFC 8785) that server, sites and researcher share; its hash is what a site approves.

    Any change of any field is another job and asks every site again. ``tensors`` are those that every update has, and
    ``initial_model`` has their first values; where a part of the model is ``frozen`` or ``local``, they are the rest.
    ``lineage`` says where the initial model came from; None for one that the plan made. ``gpu`` is what a worker needs
    of a GPU; without it the job runs on the CPU.
    """

    format: Literal["archipel-job/1"] = "archipel-job/1"
    experiment: ExperimentId
    title: Annotated[str, Field(max_length=200)] = ""
    description: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""
    plan: PlanReference
    initial_model: Hash
    lineage: Lineage | None = None
    tensors: TensorSchema
    frozen: FrozenPart | None = None
    local: LocalPart | None = None
    needs: DataNeeds
    metrics: Annotated[Many[MetricSpec], Field(max_length=MOST_METRICS)]
    validation: Annotated[Many[MetricSpec], Field(max_length=MOST_METRICS)] = ()
    parameters: Annotated[Many[HyperParameter], Field(max_length=MOST_PARAMETERS)] = ()
    arguments: Arguments = {}
    optimiser_state: OptimiserState = OptimiserState.RESET
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    seed: Annotated[int, Field(ge=0, lt=EXACT)] = 0
    strategy: StrategyTerms = StrategyTerms()
    privacy: PrivacyTerms = PrivacyTerms()
    terms: RoundTerms
    selection: Selection | None = None
    baselines: Baselines = Baselines()
    limits: WorkerLimits = WorkerLimits()
    gpu: GpuTerms | None = None
    roster: Annotated[Many[RosterEntry], Field(max_length=MOST_SITES)]
    server_key: PublicKey

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        sites = [entry.site for entry in self.roster]
        if not sites or len(set(sites)) != len(sites):
            raise ValueError("the roster must name at least one site and none twice")
        if "ensemble" in sites:
            raise ValueError("no site may be called ensemble: that is what the local models together are called")
        if self.terms.quorum > len(sites):
            raise ValueError(f"quorum {self.terms.quorum} is more than the {len(sites)} sites of the roster")
        if self.selection and self.selection.metric not in {metric.name for metric in self.validation}:
            raise ValueError(f"selection metric {self.selection.metric} is not a validation metric of the plan")
        patience, measured = self.terms.patience, [metric.name for metric in self.validation]
        if patience and patience.metric not in measured:
            known = f"it has {', '.join(measured)}" if measured else "it has none"
            raise ValueError(f"patience metric {patience.metric} is not a validation metric of the plan; {known}")
        if set(self.arguments) != {parameter.name for parameter in self.parameters}:
            raise ValueError("arguments must name every hyper-parameter of the plan and nothing else")
        check_arguments(self.parameters, self.arguments)
        if name := next((metric.name for metric in self.metrics if metric.spread or metric.bins), None):
            raise ValueError(
                f"metric {name} of training has spread or bins: only what is measured in validation may have it"
            )
        if (bins := sum(metric.bins or 0 for metric in self.validation)) > MOST_BINS_OF_A_JOB:
            raise ValueError(f"the metrics have {bins} bins together; the most is {MOST_BINS_OF_A_JOB}")
        self._check_parts()
        if self.privacy.release is Release.SUM:
            self._check_sums()
        return self

    def _check_parts(self) -> None:
        """Raise ValueError unless each part of the model has tensors, no tensor is in two of them, and the baselines
        can be measured.
        """
        place = {spec.name: "sent" for spec in self.tensors.tensors}
        for what, part in (("frozen", self.frozen), ("local", self.local)):
            if part is None:
                continue
            if not (self.tensors.tensors and part.tensors.tensors):
                raise ValueError(f"a model with a {what} part must have tensors in both parts: some sent, some {what}")
            for spec in part.tensors.tensors:
                if spec.name in place:
                    raise ValueError(f"tensor {spec.name} cannot be both {place[spec.name]} and {what}")
                place[spec.name] = what
        if self.local is not None and self.baselines.ensemble:
            raise ValueError(
                "baseline ensemble needs whole models of all sites, and the local part of each stays at its site: "
                "leave the ensemble out; Baselines(local=True) measures each site's own model at that site"
            )

    def _check_sums(self) -> None:
        """Raise ValueError if a single site's numbers would leave although only sums may."""
        if self.terms.quorum < 2:
            raise ValueError("with release sum the quorum must be 2 or more: the sum over one site is its own update")
        if self.baselines.local:
            raise ValueError("release sum and baseline local exclude each other: a site's own model is not a sum")
        for spec in self.tensors.tensors:
            if spec.name.startswith(SUMMED_PREFIX):
                raise ValueError(f"with release sum no tensor may be called {spec.name}: summed fields begin so")

    @property
    def sites(self) -> tuple[str, ...]:
        """The roster's site names in site order, the order in which updates are folded."""
        return tuple(sorted(entry.site for entry in self.roster))

    @property
    def blobs(self) -> frozenset[str]:
        """The blobs that it names: its plan's files, and the tensor files of the model that it starts from."""
        return frozenset((*self.plan.files.values(), *self.starting_blobs))

    @property
    def starting_blobs(self) -> tuple[str, ...]:
        """The tensor files of the model that it starts from: of what is sent, then of what is frozen and of what is
        local, where there is such a part.
        """
        return (self.initial_model, *(part.blob for part in (self.frozen, self.local) if part is not None))

    @property
    def keeps_state(self) -> bool:
        """Whether a site keeps something from round to round: the optimiser's state, or its own local part."""
        return self.optimiser_state is OptimiserState.CONTINUE_LOCAL or self.local is not None

    def is_measured_at(self, key: TaskKey, site: str) -> bool:
        """Whether a site can measure the model of such a task: a model of one site alone is whole only at that site
        when it has a local part.
        """
        return self.local is None or key.about in ("", site)

    def release_of(self, field: str) -> Release:
        """How a field of an update (one of UPDATE_FIELDS) may leave a site, by this job's privacy terms.

        One that may leave only within a sum is a tensor of the update's file, see ``privacy.update_schema``.

        Raises KeyError for a field that no update has.
        """
        if field not in UPDATE_FIELDS:
            raise KeyError(field)
        return Release.INDIVIDUALLY if field in OPERATIONAL_FIELDS else self.privacy.release

    def entry(self, site: str) -> RosterEntry:
        """The roster entry of a site. Raises KeyError when the site is not in the roster."""
        for entry in self.roster:
            if entry.site == site:
                return entry
        raise KeyError(site)
