"""The experiment store: what an experiment's loop must find again after a crash, behind one interface.

The server keeps it in its database, each call one transaction together with the journal's line; a simulation keeps it
in memory. The loop holds no other lasting state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from archipel.rounds.stages import Stage
from archipel.vocabulary import Failure, Hash, MetricSum, Record, RoundClosed, Task, TaskKey, Update, Value
from archipel.vocabulary.states import ExperimentState, ParticipantStatus


class SiteRecord(Record):
    """One site's part of a closed round; ``samples`` is None where it leaves the site only within a sum."""

    state: ParticipantStatus
    samples: int | None = 0
    seconds: float = 0.0
    bytes_up: int = 0
    metrics: dict[str, MetricSum] = {}
    validation: dict[str, MetricSum] = {}
    failure: Failure | None = None


class StageRecord(Record):
    """The record of one attempt at a stage: who contributed, its costs, and what was measured.

    ``samples``, ``metrics`` and ``validation`` are sums over the contributing sites; ``validation`` is of the model
    that the stage started from.
    """

    stage: Stage
    attempt: int
    committed: bool
    seconds: float
    contributors: tuple[str, ...]
    sites: dict[str, SiteRecord]
    samples: int = 0
    metrics: dict[str, MetricSum] = {}
    validation: dict[str, MetricSum] = {}
    model: Hash | None = None


@dataclass
class Opened:
    """An attempt at a stage that is running."""

    stage: Stage
    attempt: int
    task: Task
    sites: dict[str, ParticipantStatus]
    remaining_s: float
    updates: dict[str, Update] = field(default_factory=dict)
    tensor_files: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True)
class Kept:
    """A finished file and the content address of its bytes."""

    file: Path
    hash: Hash


@dataclass(frozen=True)
class ExperimentProgress:
    """How far an experiment is: all that the loop needs to continue, of a size that does not grow with its rounds.

    ``rounds_done`` rounds of training are committed and the later stages in ``done``; ``attempts`` counts those made
    at a stage that is not, and ``tries`` those of them that failed since the experiment's state last changed.
    ``memory`` is what the strategy keeps after the last committed round, by name. ``ending`` is why no further round
    begins; None for an experiment that continues to its last. ``best_round`` made the model that is the best so far.
    """

    state: ExperimentState
    rounds_done: int
    done: frozenset[Stage]
    attempts: dict[Stage, int]
    model: str
    local_models: dict[str, str]
    arguments: dict[str, Value]
    invited: tuple[str, ...]
    opened: Opened | None = None
    pause_after: int | None = None
    tries: int = 0
    memory: Mapping[str, Hash] = field(default_factory=dict)
    ending: str | None = None
    best_round: int | None = None


class Delivery(NamedTuple):
    """A site's update that has arrived whole, with its tensor file if it has one."""

    site: str
    update: Update
    tensor_file: Path | None


NO_MEMORY: Mapping[str, Kept] = MappingProxyType({})


class ExperimentStore(Protocol):
    """State of one experiment. Of a store that ``is_durable``, what a call did survives a power cut when it returns, so
    that a call may wait for a disk.
    """

    is_durable: bool

    def progress(self) -> ExperimentProgress:
        """Everything the loop needs to continue from here."""

    def passes(self) -> dict[int, dict[str, Value]]:
        """The arguments of each committed round of training, by its number."""

    def measured(self, metric: str, after: int) -> dict[int, MetricSum | None]:
        """What each committed round of training after round ``after`` measured of a validation metric, by its number.

        A round measures the model that it starts from; None where no site reported the metric.
        """

    def open(self, opened: Opened) -> None:
        """A stage's attempt begins."""

    def awaiting(self, sites: Mapping[str, float], away: Sequence[str]) -> None:
        """The loop waits for sites that are not connected, so many seconds each; not for those that are ``away``.

        This is for display; nothing follows from it.
        """

    def heard(self, key: TaskKey, working: Sequence[str], delivered: Sequence[Delivery]) -> None:
        """The updates of some sites count from now on, and others work on their task, which is for display: nothing
        follows from it. All of this is kept or nothing.
        """

    def failed(self, key: TaskKey, site: str, failure: Failure) -> None:
        """A site's part failed."""

    def result_file(self) -> Path:
        """A place for the next model's tensor file, in the file system that ``close`` will keep it in."""

    def local(self, blob: Hash) -> AbstractContextManager[Path]:
        """A local file with a model or memory that ``progress`` names, to be read within the context."""

    def close(
        self,
        record: StageRecord,
        closed: RoundClosed,
        result: Path | None,
        local: dict[str, Path],
        memory: Mapping[str, Kept] = NO_MEMORY,
    ) -> tuple[str, ...]:
        """The attempt ends: its record, the new model (``result``) and each site's own model (``local``) are kept.

        ``memory`` is what the strategy keeps from now on, in place of what it kept before; it counts if and only if
        the round does. Returns the sites that are invited now.
        """

    def stall(self, reason: str) -> None:
        """The experiment cannot continue by itself and pauses, with the reason as text."""

    def stepped(self) -> None:
        """The one round that was asked for is done, and its model is measured: the experiment pauses."""

    def end_early(self, reason: str) -> None:
        """No further round begins, with the reason as text; what follows the last round comes next."""

    def finish(self, reason: str | None = None) -> None:
        """All stages are done; ``reason`` is why this is before the job's last round, if it is."""

    def refused(self, key: TaskKey, sites: Sequence[str]) -> None:
        """An attempt was cancelled while it was open."""
