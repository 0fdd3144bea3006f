"""The server's log tells of members, tokens and experiments, whichever process changed them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from structlog.testing import capture_logs

from archipel.governance import job_hash
from archipel.rounds import ExperimentVerb, Opened, ParticipantStatus, SiteRecord, Stage, StageRecord
from archipel.server.membership.federation import ServerContext
from archipel.server.sites import announcing
from archipel.vocabulary import ErrorCode, Failure, RoundClosed, Task, TaskKey, TaskKind, TrainingPass
from worlds.people import ANNA, OLGA
from worlds.server import Applicant, records_of, running_job, sql_store_of


def test_each_new_line_is_told_once_with_whom_it_is_about(federation: ServerContext) -> None:
    after = announcing.newest(federation.database)
    berlin = Applicant("berlin")
    federation.enrolment.enrol(berlin.request(federation.enrolment.create_token("berlin", by=OLGA)), datetime.now(UTC))
    (row,) = federation.registry.certificates()
    federation.registry.revoke_certificate(row.serial, "laptop stolen", by=OLGA)
    federation.tokens.create("Ada", ["research"], timedelta(days=1), datetime.now(UTC), by=OLGA)
    with capture_logs() as told:
        after = announcing.announce(federation.database, after)
        assert announcing.announce(federation.database, after) == after
    kinds = ["join-token-created", "site-enrolled", "certificate-revoked", "access-token-created"]
    assert [line["event"] for line in told] == kinds
    assert (told[1]["site"], told[1]["serial"]) == ("berlin", row.serial)
    assert (told[2]["reason"], told[3]["name"]) == ("laptop stolen", "Ada")


def test_the_life_of_an_experiment_is_in_the_log(federation: ServerContext, enrolled: Applicant) -> None:
    after = announcing.newest(federation.database)
    job = running_job(federation, enrolled)
    for verb in (ExperimentVerb.PAUSE, ExperimentVerb.RESUME):
        records_of(federation).steer(job, verb, by=ANNA)
    store = sql_store_of(federation, job, job_hash(job))
    stage, failure = Stage(kind=TaskKind.TRAIN, round=1), Failure(code=ErrorCode.CRASHED, sentence="it\x1b[2J ended")
    for attempt, committed in ((1, False), (2, True)):
        key = TaskKey(experiment="first", round=1, attempt=attempt)
        task = Task(key=key, job_hash=job_hash(job), models=(job.initial_model,), passes=(TrainingPass(round=1),))
        store.open(Opened(stage, attempt, task, {"berlin": ParticipantStatus.INVITED}, 60.0))
        if not committed:
            store.failed(key, "berlin", failure)
        state = ParticipantStatus.DELIVERED if committed else ParticipantStatus.FAILED
        who = ("berlin",) if committed else ()
        record = StageRecord(
            stage=stage, attempt=attempt, committed=committed, seconds=12.34, contributors=who,
            sites={"berlin": SiteRecord(state=state)},
        )  # fmt: skip
        closed = RoundClosed(**key.model_dump(), job_hash=job_hash(job), committed=committed, contributors=who)
        store.close(record, closed, None, {})
    store.stall("too few sites are connected")
    store.finish()
    with capture_logs() as told:
        announcing.announce(federation.database, after)
    about = {"experiment": "first", "stage": "train 1"}
    assert [line for line in told if line["event"].startswith(("round", "site-failed"))] == [
        {**about, "event": "site-failed", "log_level": "warning", "attempt": 1, "site": "berlin",
         "failure": "crashed: it\\x1b[2J ended"},
        {**about, "event": "round-closed", "log_level": "warning", "attempt": 1, "state": "failed", "seconds": 12.3,
         "others": {"berlin": "failed"}},
        {**about, "event": "round-closed", "log_level": "info", "attempt": 2, "state": "committed", "seconds": 12.3,
         "contributors": ["berlin"]},
    ]  # fmt: skip
    kinds = [line["event"] for line in told if line["event"].startswith("experiment")]
    states = ("submitted", "paused", "running", "paused", "finished")
    assert kinds == [f"experiment-{state}" for state in states]
    turned = {line["event"]: line for line in told}
    assert turned["experiment-running"]["by"] == ANNA.journal_name
    assert turned["experiment-paused"]["reason"] == "too few sites are connected"


def test_a_damaged_line_does_not_end_the_log(federation: ServerContext) -> None:
    after = announcing.newest(federation.database)
    federation.enrolment.create_token("berlin", by=OLGA)
    federation.enrolment.create_token("rome", by=OLGA)
    with federation.database.write() as connection:
        connection.execute(text("UPDATE journal SET body = '{ half' WHERE number = :n"), {"n": after + 1})
    with capture_logs() as told:
        announcing.announce(federation.database, after)
    assert [line.get("site") for line in told] == [None, "rome"]
