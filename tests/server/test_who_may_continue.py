"""A job may name only blobs that its researcher has, and continue only what its researcher may download."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from archipel.governance import job_hash
from archipel.rounds import Opened, ParticipantStatus, Stage, StageRecord
from archipel.rounds.experiment_store import SiteRecord
from archipel.server.experiments import Experiments
from archipel.server.experiments.model_rows import unnamed
from archipel.server.membership.federation import ServerContext
from archipel.server.state import schema
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import Job, MetricSum, RoundClosed, Task, TaskKey, TaskKind, TrainingPass
from worlds.people import OLGA
from worlds.server import Applicant, Served, job_of, make_server, records_of, serving, sql_store_of

DICE = [{"name": "dice", "better": "higher"}]


def weights(number: int) -> bytes:
    return encode({"w": np.full(4, float(number), np.float32)})


def secret(federation: ServerContext, name: str, *scopes: str) -> tuple[str, str]:
    """An access token of this person: its text and its id."""
    text, _ = federation.tokens.create(name, scopes, timedelta(days=1), datetime.now(UTC), by=OLGA)
    return text, text.split("_")[1]


def train(federation: ServerContext, job: Job, measured: list[float]) -> None:
    """Commit a round for each value, which is of the model that the round starts from."""
    kept = sql_store_of(federation, job, job_hash(job))
    for number, dice in enumerate(measured, 1):
        stage, key = Stage(kind=TaskKind.TRAIN, round=number), TaskKey(experiment=job.experiment, round=number)
        passes = (TrainingPass(round=number, arguments={}),)
        task = Task(key=key, job_hash=kept.job_hash, models=(kept.progress().model,), passes=passes)
        kept.open(Opened(stage, 1, task, {"berlin": ParticipantStatus.INVITED}, 60.0))
        result = kept.result_file()
        result.write_bytes(weights(number))
        about: dict[str, Any] = {
            "attempt": 1,
            "committed": True,
            "contributors": ("berlin",),
            "model": blob_hash(weights(number)),
        }
        record = StageRecord(
            stage=stage,
            seconds=1.0,
            sites={"berlin": SiteRecord(state=ParticipantStatus.DELIVERED)},
            validation={"dice": MetricSum(total=2 * dice, weight=2.0)},
            **about,
        )
        closed = RoundClosed(
            experiment=job.experiment, round=number, kind=TaskKind.TRAIN, job_hash=kept.job_hash, **about
        )
        kept.close(record, closed, result, {})


@dataclass
class Continued:
    """A server where anna's experiment "first" has three rounds: its best model is that after round 1."""

    served: Served
    parent: Job

    def client(self, name: str, *scopes: str) -> httpx.AsyncClient:
        client = self.served.client()
        client.headers["Authorization"] = f"Bearer {secret(self.served.federation, name, *scopes)[0]}"
        return client

    def job(self, experiment: str = "second", start: int = 3, **lineage: Any) -> dict[str, Any]:
        """A job that starts from the model after a round of "first"; ``lineage`` changes what it says of that."""
        said = {"experiment": "first", "job_hash": job_hash(self.parent), "model": "last", "round": start, **lineage}
        changes = {"experiment": experiment, "initial_model": blob_hash(weights(start))}
        return self.parent.model_dump(mode="json") | changes | {"lineage": said if lineage.get("model") != "" else None}


@pytest.fixture
async def continued(tmp_path: Path) -> AsyncIterator[Continued]:
    with make_server(tmp_path / "server") as federation:
        site = Applicant("berlin").enrol(federation)
        job = job_of(
            federation, site, terms={"rounds": 3, "quorum": 1}, validation=DICE,
            selection={"metric": "dice", "better": "higher"},
        )  # fmt: skip
        records_of(federation).keep_job(job, job_hash(job), secret(federation, "anna", "research")[1])
        train(federation, job, [0.5, 0.9, 0.7])
        async with serving(federation, Experiments(federation)) as served:
            yield Continued(served, job)


async def submit(client: httpx.AsyncClient, job: dict[str, Any], *blobs: bytes) -> httpx.Response:
    for data in (b"plan", *blobs):
        assert (await client.put(f"/v1/blobs/{blob_hash(data)}", content=data)).status_code == 200
    return await client.post("/v1/experiments", json={"job": job})


@pytest.mark.parametrize("said", [{"model": ""}, {}], ids=["silently", "as its lineage"])
async def test_a_hash_is_no_right_to_anothers_model(continued: Continued, said: dict[str, Any]) -> None:
    async with continued.client("eve", "research") as eve:
        model = blob_hash(weights(3))
        assert (await eve.get("/v1/experiments/first/models/last")).status_code == 403
        assert (await eve.head(f"/v1/blobs/{model}")).status_code == 404
        refused = await submit(eve, continued.job(**said))
        assert refused.status_code == 403, refused.text
        assert (await eve.get("/v1/experiments/second/models/initial")).status_code == 404
        assert (await eve.get(f"/v1/blobs/{model}")).status_code == 403


async def test_a_hash_is_no_right_to_anothers_model_as_a_file_of_a_plan(continued: Continued) -> None:
    async with continued.client("eve", "research") as eve:
        job = continued.job("mine", 0) | {"lineage": None, "initial_model": blob_hash(weights(0))}
        job["plan"]["files"] = {"plan.py": blob_hash(b"plan"), "weights.py": blob_hash(weights(3))}
        refused = await submit(eve, job, weights(0))
        assert refused.status_code == 403 and blob_hash(weights(3)) in refused.json()["cause"]


async def test_who_has_the_bytes_starts_from_them_and_gains_no_lineage(continued: Continued) -> None:
    async with continued.client("eve", "research") as eve:
        file = continued.job() | {"lineage": {"file": blob_hash(weights(3))}}
        assert (await submit(eve, continued.job(), weights(3))).status_code == 403
        assert (await submit(eve, file, weights(3))).status_code == 201


@pytest.mark.parametrize(("name", "scopes"), [("anna", ("research",)), ("bert", ("research", "models"))])
@pytest.mark.parametrize(("model", "start"), [("last", 3), ("best", 1)])
async def test_who_may_download_a_model_may_continue_it_without_sending_it(
    continued: Continued, name: str, scopes: tuple[str, ...], model: str, start: int
) -> None:
    async with continued.client(name, *scopes) as client:
        assert (await client.head(f"/v1/blobs/{blob_hash(weights(start))}")).status_code == 200
        answer = await submit(client, continued.job(start=start, model=model))
        assert answer.status_code == 201, answer.text
        shown = (await client.get("/v1/experiments/second/models")).json()
        assert [(one["name"], one["lineage"]["experiment"], one["lineage"]["round"]) for one in shown] == [
            ("initial", "first", start)
        ]


@pytest.mark.parametrize(
    "said",
    [
        {"round": 2},
        {"model": "best"},
        {"job_hash": "sha256:" + "0" * 64},
        {"round": 0},
    ],
    ids=["another round", "not the best", "another job", "the start"],
)
async def test_a_lineage_that_is_not_true_is_refused(continued: Continued, said: dict[str, Any]) -> None:
    async with continued.client("anna", "research") as anna:
        refused = await submit(anna, continued.job(**said))
        assert refused.status_code == 400 and "first" in refused.json()["cause"], refused.text
        assert (await anna.get("/v1/experiments/second")).status_code == 404


async def test_an_unknown_parent_is_named(continued: Continued) -> None:
    async with continued.client("bert", "research", "models") as bert:
        refused = await submit(bert, continued.job() | {"lineage": {
            "experiment": "nothing", "job_hash": "sha256:" + "0" * 64, "model": "last", "round": 1}})  # fmt: skip
        assert refused.status_code == 400 and "nothing" in refused.json()["cause"]
    async with continued.client("eve", "research") as eve:
        refused = await submit(eve, continued.job() | {"lineage": {
            "experiment": "nothing", "job_hash": "sha256:" + "0" * 64, "model": "last", "round": 1}})  # fmt: skip
        assert refused.status_code == 404 and refused.json()["thing"] == "experiment nothing"


async def test_a_model_that_another_job_starts_from_outlives_its_experiment(continued: Continued) -> None:
    federation = continued.served.federation
    async with continued.client("anna", "research") as anna:
        assert (await submit(anna, continued.job(start=1, model="best"))).status_code == 201
    with federation.database.write() as connection:
        connection.execute(schema.models.delete().where(schema.models.c.experiment == "first"))
        assert unnamed(connection, [blob_hash(weights(1)), blob_hash(weights(3))]) == [blob_hash(weights(3))]


async def test_the_same_job_again_is_its_owners_after_a_restart_too(continued: Continued) -> None:
    async with continued.client("anna", "research") as anna:
        assert (await submit(anna, continued.job())).status_code == 201
        continued.served.context.unused._sent.clear()
        again = await anna.post("/v1/experiments", json={"job": continued.job()})
        assert again.status_code == 201, again.text
