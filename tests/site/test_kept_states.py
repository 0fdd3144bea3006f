"""What stays at a site from round to round: of rounds that count only, complete or absent, and gone at the end."""

from __future__ import annotations

import os

import pytest
from test_attempts_at_a_stage import HEAD, Stages

from archipel.governance import record_hash
from archipel.site.execution import kept_states
from archipel.site.execution.task_store import SiteTaskStore
from archipel.site.state.folder import StateFolder
from archipel.tasks import LocalUpdate
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, LocalPart, RoundClosed, Task, TaskKind, Update

MADE = blob_hash(b"made")


class Site(Stages):
    """A site's store of a job with a local part, whose states are short texts."""

    def __init__(self, site: StateFolder) -> None:
        super().__init__(site)
        self.local = self.job.model_copy(update={"local": LocalPart(tensors=self.job.tensors, blob=MADE)})

    def keep(self, task: Task, state: bytes) -> None:
        self.store.begin(task)
        update = Update(
            key=task.key, site=self.site.name, task_hash=record_hash(task), model=blob_hash(state), samples=1
        )
        self.store.keep(task, LocalUpdate(update, state=state))

    def settle(self, task: Task, *contributors: str) -> None:
        closed = RoundClosed(
            **dict(task.key),
            job_hash=self.hash,
            committed=bool(contributors),
            contributors=contributors,
            model=MADE if contributors else None,
        )
        self.store.settle(closed, HEAD, None)

    def kept(self, task: Task) -> bytes | None:
        return SiteTaskStore(self.site).states.kept_for(self.local, task)

    def train(self, round_: int, attempt: int = 1) -> Task:
        return self.task(round_, attempt, self.job.initial_model if round_ == 1 else MADE)

    def measure(self, round_: int, model: str = MADE, about: str = "") -> Task:
        return self.task(round_, 1, model, TaskKind.EVALUATE, about)

    @property
    def files(self) -> int:
        return len(list(self.site.tensor_files.iterdir()))


@pytest.fixture
def site(with_table: StateFolder) -> Site:
    return Site(with_table)


def test_an_attempt_starts_from_the_last_round_that_counted_here_and_never_from_an_aborted_attempt(site: Site) -> None:
    name = site.site.name
    assert site.kept(site.train(1)) is None, "then it has the initial values"
    site.keep(site.train(1), b"aborted")
    assert site.kept(site.train(1, 2)) is site.kept(site.train(2)) is None
    site.settle(site.train(1))
    site.keep(site.train(1, 2), b"round 1")
    site.settle(site.train(1, 2), name)
    assert site.kept(site.train(2)) == site.kept(site.measure(1)) == b"round 1" and site.files == 1
    site.keep(site.train(2), b"without this site")
    site.settle(site.train(2), "elsewhere")
    assert site.kept(site.train(3)) == site.kept(site.measure(2)) == b"round 1" and site.files == 1
    site.keep(site.train(3), b"round 3")
    assert site.kept(site.train(3, 2)) == b"round 1", "its result has not come"
    site.settle(site.train(3), name)
    assert site.kept(site.train(4)) == site.kept(site.measure(3)) == b"round 3" and site.files == 1
    assert site.kept(site.train(3)) is None, "what a round that counted started from is gone"


@pytest.mark.parametrize("step", ["the file is written", "the rows are written"])
def test_a_kill_while_it_is_kept_leaves_it_whole_or_absent(
    site: Site, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.keep(site.train(1), b"round 1")
    site.settle(site.train(1), site.site.name)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    place = {"the file is written": (os, "fsync"), "the rows are written": (kept_states, "name")}[step]
    with monkeypatch.context() as patched, pytest.raises(Killed):
        # A process that is killed removes nothing.
        patched.setattr("pathlib.Path.unlink", killed)
        patched.setattr(*place, killed)
        site.keep(site.train(2), b"torn")
    assert site.files == 2
    SiteTaskStore(site.site).sweep()
    assert site.files == 1 and site.kept(site.train(2)) == b"round 1"
    assert SiteTaskStore(site.site).find(site.train(2)) is None, "the update is absent too, so the task is done again"
    site.keep(site.train(2), b"round 2")
    site.settle(site.train(2), site.site.name)
    assert site.kept(site.train(3)) == b"round 2"


def test_another_job_of_the_same_name_gets_nothing_of_it(site: Site) -> None:
    site.keep(site.train(1), b"round 1")
    site.settle(site.train(1), site.site.name)
    other = site.train(2).model_copy(update={"job_hash": blob_hash(b"another job")})
    assert site.kept(site.train(2)) == b"round 1" and site.kept(other) is None


def test_a_local_model_is_measured_with_what_its_own_training_kept(site: Site) -> None:
    site.keep(site.train(1), b"round 1")
    site.settle(site.train(1), site.site.name)
    alone = site.task(1, 1, site.job.initial_model, TaskKind.LOCAL)
    assert site.kept(alone) is None
    site.keep(alone, b"alone")
    site.settle(alone, site.site.name)
    name = site.site.name
    assert site.kept(site.measure(1, blob_hash(b"alone"), name)) == b"alone"
    assert site.kept(site.measure(1)) == b"round 1"
    assert site.kept(site.measure(1, blob_hash(b"theirs"), "elsewhere")) is None
    with pytest.raises(Conflict, match="whose local part is not kept at this site") as error:
        site.kept(site.measure(1, blob_hash(b"of the server's choice"), name))
    assert error.value.code is ErrorCode.NOT_FOUND


@pytest.mark.parametrize("replaced", [b"round 2", b"", None], ids=["changed", "cut", "gone"])
def test_what_was_changed_on_the_disk_starts_no_task(site: Site, replaced: bytes | None) -> None:
    site.keep(site.train(1), b"round 1")
    site.settle(site.train(1), site.site.name)
    (file,) = site.site.tensor_files.iterdir()
    file.unlink()
    if replaced is not None:
        file.write_bytes(replaced)
    for task in (site.train(2), site.measure(1)):
        with pytest.raises(ArchipelError, match=r"task .*starts from .*(changed since it was kept|is gone)") as error:
            site.kept(task)
        assert error.value.code is ErrorCode.TRUST


def test_it_is_removed_when_the_experiment_ends(site: Site) -> None:
    alone = site.task(1, 1, site.job.initial_model, TaskKind.LOCAL)
    for task, state in ((site.train(1), b"round 1"), (alone, b"alone")):
        site.keep(task, state)
        site.settle(task, site.site.name)
    assert site.files == 2
    site.store.forget(site.job.experiment)
    assert site.files == 0 and site.kept(site.train(2)) is None
