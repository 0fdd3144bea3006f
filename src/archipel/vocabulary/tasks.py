"""Task and update: one site's part of a round and what it sends back."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from archipel.vocabulary.bounds import MOST_PARAMETERS, MOST_ROUNDS, MOST_SITES, Count
from archipel.vocabulary.metrics import MetricSums
from archipel.vocabulary.names import ExperimentId, Hash, Name, SiteName, Value
from archipel.vocabulary.records import Many, Record
from archipel.vocabulary.things import Thing

Arguments = Annotated[dict[Name, Value], Field(max_length=MOST_PARAMETERS)]
"""Values of hyper-parameters, by name."""


class TaskKind(StrEnum):
    """What a task asks a site to do.

    TRAIN: validate the given model, then train it once. LOCAL: train it through all passes without averaging (the
    local-only baseline). EVALUATE: validate the given model, or the ensemble of the given models.
    """

    TRAIN = "train"
    LOCAL = "local"
    EVALUATE = "evaluate"


class TaskKey(Record):
    """Identifies a task: delivered again under this key, it is answered with the same bytes.

    ``about`` distinguishes evaluations of one round: "" for the federated model, a site name for that site's local
    model, "ensemble" for all local models together.
    """

    experiment: ExperimentId
    round: Count
    attempt: Annotated[Count, Field(ge=1)] = 1
    kind: TaskKind = TaskKind.TRAIN
    about: Annotated[str, Field(max_length=63)] = ""

    def __str__(self) -> str:
        about = f" of {self.about}" if self.about else ""
        return f"{self.experiment} round {self.round}.{self.attempt} {self.kind}{about}"

    def update_of(self, site: str) -> Thing:
        """What an error about a site's update for this task is about."""
        return Thing.worded(f"update of {site} for {self}", site=site, task=self)


class TrainingPass(Record):
    """One pass of training: the round whose random streams and schedule it uses, and the plan's arguments."""

    round: Count
    arguments: Arguments = {}


class Task(Record):
    """What the server asks of one site. Two tasks are the same if all fields are equal; delivery times are not among
    them.
    """

    key: TaskKey
    job_hash: Hash
    models: Annotated[Many[Hash], Field(min_length=1, max_length=MOST_SITES)]
    passes: Annotated[Many[TrainingPass], Field(max_length=MOST_ROUNDS)] = ()

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.key.kind is not TaskKind.EVALUATE and len(self.models) != 1:
            raise ValueError("a training task names exactly one model")
        if self.key.kind is TaskKind.TRAIN and len(self.passes) != 1:
            raise ValueError("a train task has exactly one pass")
        if self.key.kind is TaskKind.LOCAL and not self.passes:
            raise ValueError("a local task has at least one pass")
        return self


class Update(Record):
    """What a site sends back for a task: counts and metric sums here, the tensors in the tensor file named by
    ``model``.

    ``samples`` is the weight n of this site's end weights in sum(n*w)/sum(n). ``metrics`` come from training,
    ``validation`` from validating the task's model before training. ``seconds`` is wall time in
    the worker: whole seconds, no more than the job allows.
    """

    key: TaskKey
    site: SiteName
    task_hash: Hash
    model: Hash | None = None
    model_bytes: Count = 0
    samples: Count
    metrics: MetricSums = {}
    validation: MetricSums = {}
    seconds: Count = 0

    @property
    def thing(self) -> Thing:
        """What an error about this update is about."""
        return self.key.update_of(self.site)


class RoundClosed(Record):
    """The server's result of a round, to be signed: which sites count. A site commits its state of the round only if
    named.
    """

    experiment: ExperimentId
    round: Count
    attempt: Annotated[Count, Field(ge=1)]
    kind: TaskKind = TaskKind.TRAIN
    about: Annotated[str, Field(max_length=63)] = ""
    job_hash: Hash
    committed: bool
    contributors: Annotated[Many[SiteName], Field(max_length=MOST_SITES)]
    model: Hash | None = None

    @property
    def key(self) -> TaskKey:
        """The key of the tasks that this result is about."""
        return TaskKey(
            experiment=self.experiment, round=self.round, attempt=self.attempt, kind=self.kind, about=self.about
        )
