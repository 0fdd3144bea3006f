"""Sites that are slow, away, or asked twice, over real processes: each is on record as what it was."""

from __future__ import annotations

import httpx
import pytest

from archipel.site.approval import offers
from worlds.federation import SITES, World, wait

pytestmark = pytest.mark.processes


def states(record: dict[str, object]) -> dict[str, str]:
    """What each site was in a round."""
    sites = record["sites"]
    assert isinstance(sites, dict)
    return {name: one["state"] for name, one in sites.items()}


def test_a_site_that_misses_the_deadline_is_late_and_the_round_commits_without_it(world: World) -> None:
    terms = {"rounds": 1, "quorum": 1, "deadline_s": 4, "grace_s": 30}
    world.submit("late", arguments={"last_pause_s": 30.0}, terms=terms)
    before = set(world.workers("site-b"))
    world.do("late", "start")
    world.wait_state("late")
    first = world.rounds("late")[0]
    assert first["state"] == "committed"
    assert states(first) == {"site-a": "delivered", "site-b": "late"}
    body = next(body for kind, body in world.server_lines("late") if kind == "round-closed")
    assert body["contributors"] == ["site-a"] and body["others"] == {"site-b": "late"}
    assert world.seen("site-b", "late", "task-accepted") and not world.made("site-b", "late")["train", 1, ""]
    wait(lambda: set(world.workers("site-b")) <= before, "the late site's worker to be stopped")


def test_a_site_that_is_away_for_longer_than_its_grace_is_missing_and_joins_the_next_round(world: World) -> None:
    terms = {"rounds": 2, "quorum": 1, "deadline_s": 60, "grace_s": 2}
    world.submit("absent", terms=terms)
    world.kill_site("site-b")
    wait(lambda: not connected(world, "site-b"), "the server to notice")
    world.do("absent", "step")
    world.wait_state("absent", "paused")
    assert states(world.rounds("absent")[0]) == {"site-a": "delivered", "site-b": "missing"}
    world.start_site("site-b")
    world.lab.wait_connected(set(SITES))
    world.do("absent", "resume")
    world.wait_state("absent")
    second = next(one for one in world.rounds("absent") if one["round"] == 2)
    assert states(second) == dict.fromkeys(SITES, "delivered")
    assert not world.made("site-b", "absent")["train", 1, ""] and world.made("site-b", "absent")["train", 2, ""] == 1


def test_a_site_that_left_in_mid_round_and_returns_too_late_is_missing_there_and_in_the_next_round(
    world: World,
) -> None:
    terms = {"rounds": 2, "quorum": 1, "deadline_s": 60, "grace_s": 2}
    world.submit("left", arguments={"last_pause_s": 4.0}, terms=terms)
    world.do("left", "step")
    wait(lambda: world.seen("site-b", "left", "task-accepted"), "the task at the site")
    world.kill_site("site-b")
    world.wait_state("left", "paused")
    assert states(world.rounds("left")[0]) == {"site-a": "delivered", "site-b": "missing"}
    world.start_site("site-b")
    world.lab.wait_connected(set(SITES))
    world.do("left", "resume")
    world.wait_state("left")
    second = next(one for one in world.rounds("left") if one["round"] == 2)
    assert states(second) == dict.fromkeys(SITES, "delivered")


def test_a_server_killed_in_the_middle_of_retries_forgets_no_try_and_no_attempt_follows_the_last(world: World) -> None:
    terms = {"rounds": 1, "quorum": 2, "deadline_s": 2, "grace_s": 2, "retries": 2, "resumes": 0}
    world.submit("slow", arguments={"last_pause_s": 60.0}, terms=terms)
    world.do("slow", "start")
    wait(lambda: len(world.rounds("slow")) == 2, "the second attempt")
    world.kill_server()
    world.start_server()
    shown = world.wait_state("slow", "paused")
    assert [(one["attempt"], one["state"]) for one in world.rounds("slow")] == [
        (1, "failed"),
        (2, "failed"),
        (3, "failed"),
    ]
    assert "all 3 attempts at train 1 that the job allows are used up" in shown["reason"]
    with world.lab.client() as client:
        refused = client.post("/v1/experiments/slow/resume")
    assert refused.status_code == httpx.codes.CONFLICT and "submit a new job under another name" in refused.text
    made = [body["attempt"] for kind, body in world.site_lines("site-a", "slow") if kind == "update-made"]
    assert len(made) == len(set(made)) <= 3
    world.do("slow", "cancel")


def connected(world: World, site: str) -> bool:
    return bool({one["site"]: one["connected"] for one in world.lab.get("/v1/sites")}[site])


def test_a_changed_job_is_another_experiment_that_asks_again(world: World) -> None:
    job = world.submit("settled", terms={"rounds": 1})
    changed = job.model_copy(update={"terms": job.terms.model_copy(update={"rounds": 2})})
    with world.lab.client() as client:
        same = client.post("/v1/experiments", json={"job": job.model_dump(mode="json")})
        other = client.post("/v1/experiments", json={"job": changed.model_dump(mode="json")})
        assert same.is_success
        assert other.status_code == httpx.codes.CONFLICT
        assert "exists with another job" in other.text and "choose another name" in other.text
        renamed = changed.model_copy(update={"experiment": "settled-again"})
        assert client.post("/v1/experiments", json={"job": renamed.model_dump(mode="json")}).is_success
        assert client.post("/v1/experiments/settled-again/start").status_code == httpx.codes.CONFLICT
    assert {one["state"] for one in world.show("settled")["approvals"]} == {"approved"}
    assert {one["state"] for one in world.show("settled-again")["approvals"]} == {"waiting"}
    wait(lambda: any(kind == "job-offered" for kind, _ in world.site_lines("site-a", "settled-again")), "the offer")
    state = world.lab.sites["site-a"].state()
    try:
        found = {one.experiment: one.state.value for one in offers.all_offers(state.database)}
    finally:
        state.close()
    assert found["settled"] == "approved" and found["settled-again"] == "offered"
    world.do("settled", "cancel")
    world.do("settled-again", "cancel")
