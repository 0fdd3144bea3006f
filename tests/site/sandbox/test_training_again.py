"""A worker that dies says nothing of the plan: its task is done again, once, by a new one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clip import registered

from archipel.data import Cohort, Prepared
from archipel.governance import job_hash
from archipel.plans.job_builder import draft
from archipel.site.approval import authorisation, decisions, offers
from archipel.site.audit import journal
from archipel.site.execution import preparation
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.execution.training import SandboxTrainer
from archipel.site.sandbox import WorkerTaskFailed, command, tree
from archipel.site.state.folder import StateFolder
from archipel.site.withdrawals import withdrawals
from archipel.site.withdrawn.opt_outs import OptOut
from archipel.tasks import Compute
from archipel.tensors import decode
from archipel.vocabulary import (
    ArchipelError,
    ErrorCode,
    PrivacyTerms,
    Refused,
    RosterEntry,
    RoundTerms,
    StepTerms,
    StorageFull,
    Task,
    TaskKey,
    TrainingPass,
    WorkerLimits,
)
from worlds.people import ANNA, approve
from worlds.sandbox import PLAN
from worlds.site import SERVER

pytestmark = pytest.mark.processes


class Trial:
    """An approved experiment with the hostile plan at a joined site."""

    def __init__(self, site: StateFolder, privacy: PrivacyTerms | None = None) -> None:
        made = draft(
            PLAN,
            experiment="again",
            roster=[RosterEntry(site=site.name, identity_key=site.identity.public, dataset="table")],
            server_key=SERVER.public,
            terms=RoundTerms(rounds=9, quorum=1),
            limits=WorkerLimits(memory_mb=400, wall_s=30, tmp_mb=16, processes=24),
            privacy=privacy or PrivacyTerms(),
        )
        self.site, self.job, self.hash = site, made.job, job_hash(made.job)
        for content in made.plan.files.blobs.values():
            site.blobs.put(content)
        offers.record(site, made.job)
        approve(site, "again")
        self.fetched = 0

        async def fetch(blob: str, window: memoryview) -> None:
            self.fetched += 1
            window[:] = made.initial_model

        def allowed() -> authorisation.Authorisation:
            return authorisation.authorise(site, "again", self.hash)

        self.trainer = SandboxTrainer(site, SiteTaskStore(site), made.job, allowed, fetch)

    def task(self, code: str, round_: int = 1) -> Task:
        key = TaskKey(experiment="again", round=round_)
        one = TrainingPass(round=round_, arguments={"code": code})
        return Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=(one,))

    async def run(self, code: str, round_: int = 1) -> dict[str, np.ndarray]:
        """The tensors that the plan trained."""
        async with self.trainer.run(self.task(code, round_)) as trained:
            assert trained.result is not None
            return decode(bytes(trained.result))

    def has_trained(self) -> bool:
        """Whether the plan has set each number of the model to 5, in the memory that it shares with its agent."""
        if self.trainer._result is None:
            return False
        with self.trainer._result.view() as window:
            return bytes(window[:8]) != bytes(8) and decode(bytes(window))["weight"].tolist() == [5.0] * 4

    def starts(self) -> int:
        return sum(line.kind == "worker-started" for line in journal.lines(self.site.database))


def workers() -> list[int]:
    found = []
    for pid in tree.descendants(os.getpid()):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:
            continue
        if b"archipel.site.worker" in words and not words[0].endswith(b"bwrap"):
            found.append(pid)
    return found


async def until(ready: Callable[[], bool]) -> None:
    # On a busy machine a worker takes more than ten seconds to start.
    async with asyncio.timeout(60):
        while not ready():  # noqa: ASYNC110 - what a process does sets no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def trial(with_table: StateFolder) -> AsyncIterator[Trial]:
    made = Trial(with_table)
    yield made
    await made.trainer.close()


async def test_a_worker_killed_from_outside_costs_no_round(trial: Trial) -> None:
    code = "import time; model['weight'][:] += 5; time.sleep(0.4)"
    doing = asyncio.create_task(trial.run(code))
    await until(trial.has_trained)
    (first,) = workers()
    os.kill(first, signal.SIGKILL)
    # The model is trained in place: what the first worker left of it is not trained on.
    assert (await doing)["weight"].tolist() == [5.0] * 4
    assert trial.starts() == 2
    assert trial.fetched == 2


async def test_a_model_that_is_trained_without_steps_is_in_memory_once(trial: Trial) -> None:
    for number in (1, 2):
        assert (await trial.run("model['weight'][:] += 3", number))["weight"].tolist() == [3.0] * 4
    assert not trial.trainer._models._buffers and trial.starts() == 1
    # One that was kept for a measurement is not fetched again.
    await trial.trainer._models.get(trial.job.initial_model)
    assert trial.fetched == 3
    assert (await trial.run("model['weight'][:] += 4", 3))["weight"].tolist() == [4.0] * 4
    assert trial.fetched == 3


async def test_a_plan_that_always_kills_its_worker_fails_after_the_second(trial: Trial) -> None:
    with pytest.raises(WorkerTaskFailed) as failed:
        await trial.run("import os; os.kill(os.getpid(), 9)")
    assert (failed.value.failure.code, failed.value.failure.retry) == (ErrorCode.CRASHED, True)
    assert trial.starts() == 2


def starting(monkeypatch: pytest.MonkeyPatch, *programs: list[str] | None) -> list[int]:
    """Each worker that is started runs the next of these programs; after them, and for None, the real one."""
    started: list[int] = []
    real, left = command.worker_arguments, list(programs)

    def arguments(channel: int, sandboxed: bool) -> list[str]:
        started.append(channel)
        return (left.pop(0) if left else None) or real(channel, sandboxed)

    monkeypatch.setattr(command, "worker_arguments", arguments)
    return started


KILLED = ["/bin/sh", "-c", "kill -9 $$"]


async def test_a_worker_that_is_killed_while_it_starts_costs_no_round(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starting(monkeypatch, KILLED)
    assert (await trial.run("model['weight'][:] = 5"))["weight"].tolist() == [5.0] * 4
    assert len(started) == 2 and trial.starts() == 1 and trial.fetched == 1


def whose_command_line_names(place: Path) -> list[int]:
    """Every process of this machine with a path below ``place`` among its words, whoever its parent is."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if f"{place}/".encode() in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
    return found


# Bubblewrap's child dies with it only once the sandbox is made: before that it goes on, or waits without end.
@pytest.mark.parametrize("left", ['"$@"', 'sh -c "sleep 100; :" "$0"'])
async def test_a_first_process_that_is_killed_before_the_sandbox_is_made_leaves_nothing(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    real, started, used = command.bubblewrap_arguments, [], trial.site.folder / "site.toml"

    def arguments(**given: Any) -> list[str]:
        started.append(given)
        killed = ["/bin/sh", "-c", f"{left} & kill -9 $$", str(used)]
        return [*killed, *real(**given)] if len(started) == 1 else real(**given)

    monkeypatch.setattr(command, "bubblewrap_arguments", arguments)
    assert (await asyncio.wait_for(trial.run("model['weight'][:] = 5"), 60))["weight"].tolist() == [5.0] * 4
    assert len(started) == 2 and trial.starts() == 1, "what outlived its first process is not used"
    for _ in range(1000):
        # It imports to the end before it sees that its agent has given it up.
        if set(whose_command_line_names(trial.site.folder)) <= set(tree.descendants(os.getpid())):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("what outlived its first process still runs")


@pytest.mark.parametrize("program", [KILLED, ["/bin/sh", "-c", "echo no memory left >&2; exit 1"]])
async def test_a_worker_that_never_becomes_ready_is_crashed_and_may_be_tried_again(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, program: list[str]
) -> None:
    # What an earlier worker printed is not what this one says.
    (trial.site.logs / "again.log").write_text("bwrap: this machine has no sandbox\n")
    started = starting(monkeypatch, program, program)
    with pytest.raises(WorkerTaskFailed) as failed:
        await trial.run("")
    assert (failed.value.failure.code, failed.value.failure.retry) == (ErrorCode.CRASHED, True)
    assert "did not start (exit status" in failed.value.detail and len(started) == 2
    assert not list(trial.site.folder.glob("stage-*")) and not workers()


async def test_a_sandbox_that_its_own_programs_cannot_make_is_still_a_missing_sandbox(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starting(monkeypatch, ["/no/such/program"])
    with pytest.raises(ArchipelError, match="no/such/program") as refused:
        await trial.run("")
    assert refused.value.code is ErrorCode.SANDBOX and len(started) == 1


async def test_a_worker_without_a_task_is_ended_and_gives_its_memory_back(trial: Trial) -> None:
    trial.site.settings = trial.site.settings.model_copy(update={"worker_idle_s": 0.3})
    # A task may take longer: only the time without one counts.
    await trial.run("import time; time.sleep(0.5); model['weight'][:] = 5")
    assert len(workers()) == 1 and trial.starts() == 1
    await trial.run("", 2)
    assert trial.starts() == 1, "the next task came before the end of the idle time"
    await until(lambda: not workers())
    await until(lambda: not trial.trainer._models._buffers)
    assert (await trial.run("model['weight'][:] = 7", 3))["weight"].tolist() == [7.0] * 4
    assert trial.starts() == 2


async def test_a_plan_that_raises_is_not_tried_again_and_keeps_its_worker(trial: Trial) -> None:
    with pytest.raises(WorkerTaskFailed):
        await trial.run("raise ValueError")
    await trial.run("", 2)
    assert trial.starts() == 1


async def test_a_worker_is_not_started_again_for_an_approval_that_was_withdrawn(trial: Trial) -> None:
    doing = asyncio.create_task(trial.run("import time; model['weight'][:] += 5; time.sleep(30)"))
    await until(trial.has_trained)
    assert trial.starts() == 1 and len(workers()) == 1
    decisions.revoke(trial.site.database, "again", by=ANNA)
    await trial.trainer.stop()
    with pytest.raises(Refused):
        await doing
    assert trial.starts() == 1
    assert not workers()


async def test_a_worker_that_the_journal_has_no_room_for_does_not_live(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("the journal", "no space is left", "free some")

    monkeypatch.setattr(journal, "append", full)
    with pytest.raises(StorageFull):
        await trial.run("")
    assert not workers()


async def test_who_is_withdrawn_while_samples_are_prepared_is_not_given_to_the_worker(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, withdrawn = (
        preparation.prepared,
        authorisation.authorise(trial.site, "again", trial.hash).cohort.subjects[0],
    )
    cohorts: list[Cohort] = []

    async def prepared(site: StateFolder, root: Path, cohort: Cohort) -> Prepared:
        made = await prepare(site, root, cohort)
        if not cohorts:
            withdrawals.withdraw(site, [OptOut(withdrawn)], by=ANNA)
        cohorts.append(cohort)
        return made

    monkeypatch.setattr(preparation, "prepared", prepared)
    await trial.run("")
    assert withdrawn in cohorts[0].subjects and withdrawn not in cohorts[1].subjects
    (started,) = [line for line in journal.lines(trial.site.database) if line.kind == "worker-started"]
    assert started.body["subjects"] == len(cohorts[1].subjects)


async def test_a_step_changes_what_a_worker_trained_before_it_leaves(with_table: StateFolder, tmp_path: Path) -> None:
    clip = StepTerms(name="clip", parameters={"bound": 0.5})
    with registered():
        trial = Trial(with_table, PrivacyTerms(steps=(clip,)))
        try:
            computing = Compute(trial.job, with_table.name, trial.trainer, tmp_path)
            for number in (1, 2):
                made = await computing(trial.task("model['weight'][:] += 3", number))
                assert made.tensor_file is not None
                with (await trial.trainer._models.get(trial.job.initial_model)).view() as window:
                    given = decode(bytes(window))
                left = decode(made.tensor_file.read_bytes())
                moved = np.concatenate([(left[name].astype(float) - given[name]).ravel() for name in given])
                assert np.linalg.norm(moved) == pytest.approx(0.5, rel=1e-5)
                assert made.update.metrics["update_norm"].mean() >= 6.0 - 1e-6
        finally:
            await trial.trainer.close()
