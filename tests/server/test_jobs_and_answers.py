"""What a server takes from researchers and sites: jobs that can be written down, offered and found again; answers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import select
from test_models_that_last import close, store

from archipel.governance import Approval, IdentityKey, JournalHead, approve, job_hash, sign_head
from archipel.rounds import ExperimentState, ExperimentVerb
from archipel.server.experiments import hub, views
from archipel.server.experiments.experiment_store import SqlExperimentStore
from archipel.server.experiments.records import MOST_ANSWERS
from archipel.server.experiments.service import Experiments
from archipel.server.membership.federation import ServerContext
from archipel.server.sites.servicer import FederationServicer
from archipel.server.state import schema
from archipel.server.state.limits import ServerLimits
from archipel.tensors import encode
from archipel.transport import AnswerMessage, FromServer, Peer
from archipel.transport.rest import Interrupted
from archipel.vocabulary import BadInput, Job, NotPermitted, StorageFull
from archipel.vocabulary.bounds import LONGEST_JOB
from worlds.people import OLGA
from worlds.server import Applicant, records_of


def lines(federation: ServerContext, kind: str) -> list[dict[str, Any]]:
    return [line.body for line in federation.registry.journal() if line.kind == kind]


def answer(kept: SqlExperimentStore, site: Applicant, state: str, approval: dict[str, Any] | None) -> AnswerMessage:
    values = {"experiment": kept.job.experiment, "job_hash": kept.job_hash, "state": state, "approval": approval}
    return AnswerMessage.model_validate(values)


def approved(federation: ServerContext, kept: SqlExperimentStore, site: Applicant) -> None:
    draft = Approval(
        experiment=kept.job.experiment,
        site=site.site,
        job_hash=kept.job_hash,
        cohort_hash="sha256:" + "0" * 64,
        approved_at="2026-11-21T08:00:00+00:00",
    )
    signed = approve(site.identity, draft).model_dump(mode="json")
    records_of(federation).keep_answer(site.site, answer(kept, site, "approved", signed))


def state(federation: ServerContext) -> str:
    return str(views.experiment(federation.database, "first").state)


def test_a_job_that_is_too_long_is_refused(federation: ServerContext, enrolled: Applicant) -> None:
    job = store(federation, enrolled, "higher").job
    labels = {str(number): "x" * 1000 for number in range(LONGEST_JOB // 1000)}
    long = job.model_copy(update={"experiment": "long", "needs": job.needs.model_copy(update={"labels": labels})})
    with pytest.raises(BadInput, match="job long: is a document of 8 MiB; at most 8 MiB are accepted"):
        records_of(federation).keep_job(long, job_hash(long), "ada")


def test_a_site_is_told_whose_token_asks_and_the_journal_keeps_it(
    federation: ServerContext, enrolled: Applicant
) -> None:
    _, ada = federation.tokens.create("Ada", ["research"], timedelta(days=1), datetime.now(UTC), by=OLGA)
    job = store(federation, enrolled, "higher").job.model_copy(update={"experiment": "second"})
    records_of(federation).keep_job(job, job_hash(job), ada.id)
    named = {offer.experiment: offer.asked_by for offer in Experiments(federation).offers("berlin")}
    assert named["second"] == "Ada"
    assert lines(federation, "experiment-submitted")[-1]["asked_by"] == "Ada"


def test_where_an_experiment_stands_is_one_row(federation: ServerContext, enrolled: Applicant) -> None:
    kept = store(federation, enrolled, "higher")
    standing = {"experiment": "first", "state": "waiting", "round": 0, "rounds": kept.job.terms.rounds, "reason": None}
    (row,) = views.experiments(federation.database)
    assert {key: getattr(row, key) for key in standing} == standing
    assert row.created == views.experiment(federation.database, "first").created


def test_bounds_that_do_not_read_back_from_json_are_refused(federation: ServerContext, enrolled: Applicant) -> None:
    values = store(federation, enrolled, "higher").job.model_dump(mode="json")
    wide = {"name": "rate", "kind": "float", "default": 1e16, "minimum": 0, "maximum": 1e17}
    with pytest.raises(ValueError, match="hyper-parameter rate: bounds must be within 2\\*\\*53"):
        Job.model_validate(values | {"parameters": [wide], "arguments": {"rate": 1e16}})


def test_a_job_without_canonical_form_is_told_so(federation: ServerContext, enrolled: Applicant) -> None:
    values = store(federation, enrolled, "higher").job.model_dump(mode="json")
    values["limits"]["memory_mb"] = 2**60
    with pytest.raises(BadInput, match="job first: has no canonical form"):
        job_hash(Job.model_validate(values))


def test_an_answer_that_approves_nothing_brings_no_document(federation: ServerContext, enrolled: Applicant) -> None:
    kept = store(federation, enrolled, "higher")
    said = answer(kept, enrolled, "rejected", {"anything": "x" * 100_000})
    records_of(federation).keep_answer("berlin", said)
    assert [line["approval"] for line in lines(federation, "site-rejected")] == [None]
    with federation.database.read() as connection:
        assert connection.scalar(select(schema.approvals.c.approval)) is None


def test_the_head_that_comes_with_an_answer_is_kept_with_it(federation: ServerContext, enrolled: Applicant) -> None:
    kept = store(federation, enrolled, "higher")
    records = records_of(federation)
    for number, stays, state_ in [(7, 7, "rejected"), (9, 9, "rejected"), (8, 9, "revoked")]:
        unsigned = JournalHead(owner="berlin", number=number, hash="sha256:" + "1" * 64, at="")
        head = sign_head(enrolled.identity, unsigned)
        newest = records.keep_answer("berlin", answer(kept, enrolled, state_, None), head)
        assert newest is not None and newest.number == stays
    with federation.database.read() as connection:
        assert connection.scalar(select(schema.site_journal_heads.c.number)) == 9
    assert lines(federation, "site-journal-fault") == []


async def test_an_answer_with_a_head_takes_a_receipt_and_one_with_a_strangers_is_refused(
    federation: ServerContext, enrolled: Applicant
) -> None:
    kept = store(federation, enrolled, "higher")
    wire, said = FederationServicer(Experiments(federation)), []
    wire._identity_keys["berlin"] = enrolled.identity.public

    async def send(message: FromServer) -> None:
        said.append(message)

    stream = hub.Stream(Peer("berlin", "1"), send)
    unsigned = JournalHead(owner="berlin", number=7, hash="sha256:" + "1" * 64, at="")
    for key in (IdentityKey.generate(), enrolled.identity):
        shown = sign_head(key, unsigned).model_dump(mode="json")
        await wire._take(stream, answer(kept, enrolled, "rejected", None).model_copy(update={"head": shown}))
    (beat,) = said
    assert JournalHead.model_validate(beat.attested).is_signed_by(federation.identity.public)
    assert beat.attested["number"] == 7 and len(lines(federation, "site-rejected")) == 1


def test_an_approval_is_a_small_document(federation: ServerContext, enrolled: Applicant) -> None:
    kept = store(federation, enrolled, "higher")
    draft = Approval(
        experiment="first", site="berlin", job_hash=kept.job_hash, cohort_hash="sha256:" + "0" * 64, approved_at="now"
    )
    before = len(federation.registry.journal())
    for change in ({"approved_at": "x" * (20 << 20)}, {"signature": "x" * (20 << 20)}):
        long = approve(enrolled.identity, draft).model_copy(update=change).model_dump(mode="json")
        with pytest.raises(ValidationError, match="at most"):
            records_of(federation).keep_answer("berlin", answer(kept, enrolled, "approved", long))
    assert len(federation.registry.journal()) == before


def test_a_site_changes_its_mind_so_often_and_no_more_but_may_always_revoke(
    federation: ServerContext, enrolled: Applicant
) -> None:
    kept = store(federation, enrolled, "higher")
    records = records_of(federation)
    for number in range(MOST_ANSWERS - 1):
        records.keep_answer("berlin", answer(kept, enrolled, "rejected" if number % 2 else "revoked", None))
    approved(federation, kept, enrolled)
    records.keep_answer("berlin", answer(kept, enrolled, "revoked", None))
    journaled = len(federation.registry.journal())
    records.keep_answer("berlin", answer(kept, enrolled, "revoked", None))
    with pytest.raises(NotPermitted, match=f"is one too many about first: {MOST_ANSWERS} are kept"):
        records.keep_answer("berlin", answer(kept, enrolled, "rejected", None))
    with pytest.raises(NotPermitted, match=f"is one too many about first: {MOST_ANSWERS} are kept"):
        approved(federation, kept, enrolled)
    assert len(federation.registry.journal()) == journaled
    assert kept.progress().invited == ()


def test_a_removed_sites_approvals_count_no_more(federation: ServerContext, enrolled: Applicant) -> None:
    kept = store(federation, enrolled, "higher")
    approved(federation, kept, enrolled)
    assert kept.progress().invited == ("berlin",)
    federation.registry.remove_site("berlin", by=OLGA)
    assert kept.progress().invited == ()
    assert [line["reason"] for line in lines(federation, "site-revoked")] == ["the site was removed"]


def test_the_pause_after_one_step_is_journaled(federation: ServerContext, enrolled: Applicant) -> None:
    kept = store(federation, enrolled, "higher")
    approved(federation, kept, enrolled)
    records_of(federation).steer(kept.job, ExperimentVerb.STEP, by=OLGA)
    close(kept, 1, 0.5)
    assert state(federation) == "running", "its model is measured first"
    assert kept.progress().pause_after == 1
    kept.stepped()
    assert state(federation) == "paused" and kept.progress().pause_after is None
    assert [line["reason"] for line in lines(federation, "experiment-paused")] == ["one step was asked for"]


async def test_a_disk_that_is_full_between_two_loops_ends_no_experiment(
    federation: ServerContext, enrolled: Applicant, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store(federation, enrolled, "higher", encode({"w": np.zeros(2, np.float32)}))
    approved(federation, kept, enrolled)
    experiments, looks = Experiments(replace(federation, limits=ServerLimits(retry_s=0.01))), 0

    async def look(found: SqlExperimentStore) -> bool:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise StorageFull("server.db", "the disk is full", "free space there")
        return (await asyncio.to_thread(found.progress)).state is ExperimentState.RUNNING

    monkeypatch.setattr(experiments, "_goes_on", look)
    records_of(federation).steer(kept.job, ExperimentVerb.CANCEL, by=OLGA)
    async with asyncio.timeout(20):
        await experiments._supervise("first", kept.job, kept.job_hash)
    assert looks == 2
    told = [one.body for one in views.events(federation.database, "first", 0) if one.kind == "interrupted"]
    assert told == [Interrupted(reason="server.db: the disk is full; free space there")]


async def test_a_site_that_takes_no_message_is_let_go() -> None:

    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    stream = hub.Stream(Peer("berlin", "1"), never, message_s=0.01)
    async with asyncio.timeout(20):
        await stream.send(hub.TaskWithdrawn.model_validate({"key": {"experiment": "first", "round": 1}, "reason": ""}))
    assert stream.closed.is_set()
