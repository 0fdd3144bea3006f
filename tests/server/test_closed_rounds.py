"""What a closed round means for a site afterwards: nothing more counts, and it hears what it may have missed."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import delete, insert, update
from test_jobs_and_answers import answer
from test_models_that_last import store

from archipel.governance import Approval, approve, job_hash, record_hash
from archipel.rounds import StageRecord
from archipel.rounds.experiment_store import Opened, SiteRecord
from archipel.rounds.stages import Stage
from archipel.server.experiments import hub, views
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.state import schema
from archipel.tensors import blob_hash
from archipel.transport import FromServer, Peer, RoundMessage
from archipel.vocabulary import (
    Conflict,
    ErrorCode,
    Job,
    RoundClosed,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
    Update,
)
from archipel.vocabulary.states import ParticipantStatus
from worlds.server import Applicant, records_of, running_job, sql_store_of


def store_of(federation: ServerContext, job: Job) -> SqlExperimentStore:
    return sql_store_of(federation, job, job_hash(job))


@pytest.mark.parametrize("status", [ParticipantStatus.MISSING, ParticipantStatus.LATE])
def test_an_update_of_a_site_that_did_not_deliver_in_time_is_refused_for_good(
    federation: ServerContext, enrolled: Applicant, status: ParticipantStatus
) -> None:
    job = running_job(federation, enrolled)
    records, store = records_of(federation), store_of(federation, job)
    key = TaskKey(experiment="first", round=1)
    task = Task(key=key, job_hash=job_hash(job), models=(job.initial_model,), passes=(TrainingPass(round=1),))
    update_ = Update(
        key=key, site="berlin", task_hash=record_hash(task), model=blob_hash(b"x"), model_bytes=1, samples=3
    )
    store.open(Opened(Stage(kind=TaskKind.TRAIN, round=1), 1, task, {"berlin": ParticipantStatus.INVITED}, 60.0))
    assert records.expects("berlin", update_) == (job, False)
    record = StageRecord(
        stage=Stage(kind=TaskKind.TRAIN, round=1), attempt=1, committed=False, seconds=1.0, contributors=(),
        sites={"berlin": SiteRecord(state=status)},
    )  # fmt: skip
    word = RoundClosed(experiment="first", round=1, attempt=1, job_hash=job_hash(job), committed=False, contributors=())
    store.close(record, word, None, {})
    with pytest.raises(Conflict, match=f"the round is failed and the site's part {status}") as refused:
        records.expects("berlin", update_)
    assert refused.value.code is ErrorCode.ROUND_CLOSED


def _closed(draw: random.Random, number: int) -> StageRecord:
    sites = draw.sample(["berlin", "rome", "oslo"], draw.randint(1, 3))
    kind = draw.choice([TaskKind.TRAIN, TaskKind.TRAIN, TaskKind.EVALUATE])
    return StageRecord(
        stage=Stage(kind=kind, round=number), attempt=1, committed=True, seconds=1.0,
        contributors=tuple(sorted(draw.sample(sites, draw.randint(0, len(sites))))),
        sites={site: SiteRecord(state=ParticipantStatus.DELIVERED) for site in sites},
    )  # fmt: skip


def _keep(federation: ServerContext, number: int, record: str, kind: TaskKind) -> None:
    with federation.database.write() as connection:
        connection.execute(
            insert(schema.rounds).values(
                experiment="first", round=number, kind=kind, about="", attempt=1, state="committed", model_before="",
                arguments="{}", opened_at=f"{number:04}", closed_at=f"{number:04}", record=record,
            )
        )  # fmt: skip


def test_a_site_hears_its_last_stages_and_trainings_and_the_newest(
    federation: ServerContext, enrolled: Applicant
) -> None:
    """The oracle reads every record there is."""
    running_job(federation, enrolled)
    draw = random.Random(0)
    for _ in range(30):
        with federation.database.write() as connection:
            connection.execute(delete(schema.rounds))
        records = [_closed(draw, number) for number in range(1, draw.randint(2, 9))]
        for number, record in enumerate(records, 1):
            _keep(federation, number, record.model_dump_json(), record.stage.kind)
        mine = [record for record in records if "berlin" in record.sites]
        trained = [one for one in mine if one.stage.kind is TaskKind.TRAIN and "berlin" in one.contributors]
        counts = [one for one in records if one.stage.kind is TaskKind.TRAIN]
        wanted = sorted({one.stage.round for one in [*mine[-2:], *trained[-1:], *counts[-1:]]})
        assert [word.round for word in views.last_closed(federation.database, "berlin")] == wanted


def test_no_record_older_than_those_is_read(federation: ServerContext, enrolled: Applicant) -> None:
    running_job(federation, enrolled)
    sites = {"berlin": SiteRecord(state=ParticipantStatus.DELIVERED)}
    _keep(federation, 1, "nobody reads this", TaskKind.TRAIN)
    for number in (2, 3):
        record = StageRecord(
            stage=Stage(kind=TaskKind.TRAIN, round=number), attempt=1, committed=True, seconds=1.0,
            contributors=("berlin",), sites=sites,
        )  # fmt: skip
        _keep(federation, number, record.model_dump_json(), TaskKind.TRAIN)
    assert [word.round for word in views.last_closed(federation.database, "berlin")] == [2, 3]
    with federation.database.write() as connection:
        connection.execute(update(schema.experiments).values(state="finished"))
    assert views.last_closed(federation.database, "berlin") == []


def test_a_site_that_was_away_or_approved_late_hears_the_last_round_that_counts(
    federation: ServerContext, enrolled: Applicant
) -> None:
    running_job(federation, enrolled)
    for number, kind in ((4, TaskKind.TRAIN), (5, TaskKind.TRAIN), (6, TaskKind.LOCAL)):
        record = StageRecord(
            stage=Stage(kind=kind, round=number), attempt=1, committed=True, seconds=1.0, contributors=("rome",),
            sites={"rome": SiteRecord(state=ParticipantStatus.DELIVERED)},
        )  # fmt: skip
        _keep(federation, number, record.model_dump_json(), kind)
    assert [(word.round, word.kind) for word in views.last_closed(federation.database, "berlin")] == [
        (5, TaskKind.TRAIN)
    ]
    # It is not said to a site that the job does not name.
    assert views.last_closed(federation.database, "nowhere") == []


async def test_a_site_that_approves_while_it_is_connected_gets_the_last_round_that_counts(
    federation: ServerContext, enrolled: Applicant
) -> None:
    kept = store(federation, enrolled, "higher")
    record = StageRecord(
        stage=Stage(kind=TaskKind.TRAIN, round=5), attempt=1, committed=True, seconds=1.0, contributors=("rome",),
        sites={"rome": SiteRecord(state=ParticipantStatus.DELIVERED)},
    )  # fmt: skip
    _keep(federation, 5, record.model_dump_json(), TaskKind.TRAIN)
    experiments, said = Experiments(federation), []

    async def send(message: FromServer) -> None:
        said.append(message)

    experiments.hub.attach(hub.Stream(Peer("berlin", "1"), send))
    draft = Approval(
        experiment="first", site="berlin", job_hash=kept.job_hash, cohort_hash="sha256:" + "0" * 64, approved_at="now"
    )
    signed = approve(enrolled.identity, draft).model_dump(mode="json")
    await experiments.answer("berlin", answer(kept, enrolled, "rejected", None))
    assert said == []
    await experiments.answer("berlin", answer(kept, enrolled, "approved", signed))
    assert [one.closed.round for one in said if isinstance(one, RoundMessage)] == [5]
