"""An experiment store in memory, for simulations and tests: the same rules as a durable one; it ends with the
process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from archipel.rounds.attempts import check_attempts_left
from archipel.rounds.early_end import ASKED_FOR, check_can_finish
from archipel.rounds.experiment_store import NO_MEMORY, Delivery, ExperimentProgress, Kept, Opened, StageRecord
from archipel.rounds.named_models import BEST, MEMORY, named_after, named_at_start
from archipel.rounds.tables import ExperimentVerb, next_state
from archipel.tensors import blob_hash
from archipel.vocabulary import Failure, Job, MetricSum, RoundClosed, TaskKey, TaskKind, Value
from archipel.vocabulary.states import ExperimentState, ParticipantStatus


def model_path(folder: Path, model: str) -> Path:
    """Where an experiment store with this folder keeps the tensor file of a model, by the model's hash."""
    return folder / f"{model.partition(':')[2]}.model"


class MemoryExperimentStore:
    """One experiment store; the tensor files of its models are files in ``folder``, see ``model_path``.

    ``models`` are the files by hash. Only models that have a name are kept, by the same rule as at a server. ``follow``
    is called with each attempt's record when it has ended.
    """

    is_durable = False

    def __init__(
        self,
        job: Job,
        folder: Path,
        invited: Sequence[str] | None = None,
        follow: Callable[[StageRecord], None] = lambda _: None,
    ) -> None:
        self.follow = follow
        self.job, self.folder = job, folder
        self.state = ExperimentState.WAITING
        self.reason = ""
        self.arguments: dict[str, Value] = dict(job.arguments)
        self.records: list[StageRecord] = []
        self.models: dict[str, Path] = {}
        self.named = named_at_start(job)
        self.model = job.initial_model
        self.local_models: dict[str, str] = {}
        self._passes: dict[int, dict[str, Value]] = {}
        self.invited = tuple(invited if invited is not None else job.sites)
        self.pause_after: int | None = None
        self.ending: str | None = None
        self.awaited: dict[str, float] = {}
        self.away: tuple[str, ...] = ()
        self._opened: Opened | None = None
        self._tries = 0
        self._names = itertools.count()

    def control(self, verb: ExperimentVerb) -> None:
        """A person's verb. Raises Conflict when the state does not allow it, or the attempts are used up."""
        state = next_state(self.job.experiment, self.state, verb)
        finishes = verb is ExperimentVerb.FINISH
        if finishes:
            check_can_finish(self.job, self.progress())
        if self.state is ExperimentState.PAUSED and state is ExperimentState.RUNNING:
            progress = self.progress()
            check_attempts_left(self.job, replace(progress, ending=ASKED_FOR) if finishes else progress)
        if finishes and self.ending is None:
            self.ending = ASKED_FOR
        self.state, self._tries, self.pause_after = state, 0, None
        if verb is ExperimentVerb.STEP:
            done = [record.stage.round for record in self.records if record.committed]
            self.pause_after = max(done, default=0) + 1

    def progress(self) -> ExperimentProgress:
        """Everything the loop needs to continue from here."""
        done = {record.stage for record in self.records if record.committed}
        attempts = {record.stage: record.attempt for record in self.records if record.stage not in done}
        trained = sum(stage.kind is TaskKind.TRAIN for stage in done)
        best = self.named.get(BEST)
        return ExperimentProgress(
            state=self.state,
            rounds_done=trained,
            done=frozenset(done),
            attempts=attempts,
            model=self.model,
            local_models=dict(self.local_models),
            arguments=dict(self.arguments),
            invited=self.invited,
            opened=self._opened,
            pause_after=self.pause_after,
            tries=self._tries,
            memory={
                name.removeprefix(MEMORY): kept.model for name, kept in self.named.items() if name.startswith(MEMORY)
            },
            ending=self.ending,
            best_round=best.round if best else None,
        )

    def passes(self) -> dict[int, dict[str, Value]]:
        """The arguments of each round of training, by its number."""
        return dict(self._passes)

    def measured(self, metric: str, after: int) -> dict[int, MetricSum | None]:
        """What the committed rounds measured, by their number."""
        trained = self.committed(TaskKind.TRAIN)
        return {one.stage.round: one.validation.get(metric) for one in trained if one.stage.round > after}

    def open(self, opened: Opened) -> None:
        """A stage's attempt begins."""
        self._opened = replace(opened)
        if opened.stage.kind is TaskKind.TRAIN:
            self._passes[opened.stage.round] = opened.task.passes[0].arguments

    def awaiting(self, sites: Mapping[str, float], away: Sequence[str]) -> None:
        """The loop waits for these sites, and not for those that are away."""
        self.awaited, self.away = dict(sites), tuple(away)

    def heard(self, key: TaskKey, working: Sequence[str], delivered: Sequence[Delivery]) -> None:
        """The updates of some sites count from now on, and others work on their task."""
        opened = self._current(key)
        for site in working:
            # Shown late: what became of the site meanwhile stays.
            if opened.sites[site] is ParticipantStatus.INVITED:
                opened.sites[site] = ParticipantStatus.WORKING
        for site, update, tensor_file in delivered:
            opened.sites[site] = ParticipantStatus.DELIVERED
            opened.updates[site] = update
            if tensor_file is not None:
                opened.tensor_files[site] = tensor_file

    def failed(self, key: TaskKey, site: str, failure: Failure) -> None:
        """A site's part failed."""
        opened = self._current(key)
        opened.sites[site] = ParticipantStatus.FAILED
        opened.failures[site] = failure

    def result_file(self) -> Path:
        """A place for the next model's tensor file."""
        return self.folder / f"result-{next(self._names)}"

    def local(self, blob: str) -> AbstractContextManager[Path]:
        """A file with a model or memory."""
        return nullcontext(self.models[blob])

    def close(
        self,
        record: StageRecord,
        closed: RoundClosed,
        result: Path | None,
        local: dict[str, Path],
        memory: Mapping[str, Kept] = NO_MEMORY,
    ) -> tuple[str, ...]:
        """The attempt ends."""
        if result is not None and closed.model is not None:
            self._keep(result, closed.model)
            self.model = closed.model
        for kept in memory.values():
            self._keep(kept.file, kept.hash)
        for site, tensor_file in local.items():
            self.local_models[site] = self._keep(tensor_file, blob_hash(tensor_file.read_bytes()))
        opened = self._opened
        if opened is not None:
            for site, tensor_file in opened.tensor_files.items():
                if site not in local:
                    tensor_file.unlink(missing_ok=True)
        self.records.append(record)
        self.follow(record)
        self._opened = None
        self._tries = 0 if record.committed else self._tries + 1
        if record.committed:
            made = {site: self.local_models[site] for site in local}
            self.named = named_after(
                self.job, self.named, record, made, {name: kept.hash for name, kept in memory.items()}
            )
            self._delete_unnamed()
        return self.progress().invited

    def stall(self, reason: str) -> None:
        """The experiment pauses with the reason as text."""
        self.state, self.reason = next_state(self.job.experiment, self.state, ExperimentVerb.STALL), reason
        self._tries = 0

    def stepped(self) -> None:
        """The step is done."""
        self.state = next_state(self.job.experiment, self.state, ExperimentVerb.PAUSE)
        self.pause_after, self._tries = None, 0

    def end_early(self, reason: str) -> None:
        """No further round begins."""
        self.ending, self._tries = reason, 0

    def finish(self, reason: str | None = None) -> None:
        """All stages are done."""
        self.state = next_state(self.job.experiment, self.state, ExperimentVerb.COMPLETE)
        self.reason = reason or ""

    def refused(self, key: TaskKey, sites: Sequence[str]) -> None:
        """An attempt was cancelled while it was open."""
        self._current(key)
        self._opened = None

    def committed(self, kind: TaskKind, about: str = "") -> list[StageRecord]:
        """The committed records of one kind, in order."""
        wanted = [record for record in self.records if record.committed and record.stage.kind is kind]
        return [record for record in wanted if record.stage.about == about]

    def add_model(self, tensor_file: bytes, model: str) -> None:
        """Put a model's tensor file, which has the hash ``model``, where the sites find it."""
        self.models[model] = model_path(self.folder, model)
        self.models[model].write_bytes(tensor_file)

    def _keep(self, tensor_file: Path, model: str) -> str:
        self.models[model] = tensor_file.replace(model_path(self.folder, model))
        return model

    def _delete_unnamed(self) -> None:
        kept = {one.model for one in self.named.values()}
        for model in self.models.keys() - kept:
            self.models.pop(model).unlink(missing_ok=True)

    def _current(self, key: TaskKey) -> Opened:
        if self._opened is None or self._opened.task.key != key:
            raise KeyError(str(key))
        return self._opened
