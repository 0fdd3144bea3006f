"""An experiment is steered by whoever submitted it and by operators; others read it, and have models by a scope."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from test_rest import job

from worlds.people import OLGA
from worlds.server import Applicant, Served

CHANGES = ["start", "pause", "step", "cancel"]


def as_person(served: Served, name: str, *scopes: str) -> dict[str, str]:
    text, _ = served.federation.tokens.create(name, scopes, timedelta(days=1), datetime.now(UTC), by=OLGA)
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture
async def asked(served: Served, enrolled: Applicant) -> httpx.AsyncClient:
    """A client; the experiment is anna's."""
    async with served.client() as client:
        submission = {"job": job(served.federation, enrolled)}
        anna = as_person(served, "anna", "research")
        assert (await client.post("/v1/experiments", json=submission, headers=anna)).status_code == 201
        yield client


async def steer(client: httpx.AsyncClient, who: dict[str, str]) -> set[int]:
    """What every way to steer answers."""
    found = [await client.post(f"/v1/experiments/first/{verb}", headers=who) for verb in CHANGES]
    rate = {"arguments": {"rate": 0.5}}
    found.append(await client.patch("/v1/experiments/first/arguments", json=rate, headers=who))
    return {one.status_code for one in found}


async def test_another_researcher_reads_and_does_not_steer(served: Served, asked: httpx.AsyncClient) -> None:
    bert = as_person(served, "bert", "research")
    assert await steer(asked, bert) == {403}
    refused = (await asked.post("/v1/experiments/first/cancel", headers=bert)).json()
    assert refused["cause"] == "was asked for by anna; bert may read it"
    assert (await asked.get("/v1/experiments/first", headers=bert)).json()["state"] == "waiting"
    for what in ("", "/rounds", "/models", "/events?follow=false"):
        assert (await asked.get(f"/v1/experiments/first{what}", headers=bert)).status_code == 200


async def test_who_asked_steers_with_any_token_of_that_name(served: Served, asked: httpx.AsyncClient) -> None:
    assert await steer(asked, as_person(served, "anna", "research")) == {200}
    assert await steer(asked, as_person(served, "anna", "read")) == {403}


async def test_an_operator_steers_any_experiment(served: Served, asked: httpx.AsyncClient) -> None:
    assert await steer(asked, as_person(served, "ops", "operate")) == {200}


@pytest.mark.parametrize(
    ("name", "scope", "status"),
    [
        ("anna", "research", 200),
        ("anna", "read", 403),
        ("bert", "read", 403),
        ("bert", "research", 403),
        ("ops", "operate", 403),
        ("bert", "models", 200),
    ],
)
async def test_a_model_is_its_owners_and_theirs_who_may_have_all_models(
    served: Served, asked: httpx.AsyncClient, name: str, scope: str, status: int
) -> None:
    answer = await asked.get("/v1/experiments/first/models/best", headers=as_person(served, name, scope))
    assert answer.status_code == status
    if status == 200:
        assert answer.content == b"frame"
    else:
        assert b"frame" not in answer.content and "models" in answer.json()["remedy"] + answer.json()["cause"]


async def test_who_asks_for_what_is_not_there_is_told_so(served: Served, asked: httpx.AsyncClient) -> None:
    bert = as_person(served, "bert", "research")
    assert (await asked.post("/v1/experiments/second/cancel", headers=bert)).status_code == 404


@pytest.mark.parametrize("after", [2**53, 10**30])
async def test_an_event_number_that_cannot_be_is_refused(served: Served, asked: httpx.AsyncClient, after: int) -> None:
    anna = as_person(served, "anna", "read")
    path = "/v1/experiments/first/events?follow=false"
    assert (await asked.get(f"{path}&after={after}", headers=anna)).status_code == 400
    assert (await asked.get(path, headers={**anna, "Last-Event-ID": str(after)})).status_code == 400
