"""People and plans at work on a real federation: steering, refusals, failures that say where and not what."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys

import psutil
import pytest

import archipel
from archipel.governance import HeadFault
from archipel.server.membership.federation import ServerContext
from archipel.server.state.folder import ServerState
from archipel.site.approval import decisions
from archipel.site.audit import journal, journal_heads
from archipel.site.execution import failures as site_failures
from archipel.transport.wakeup import wake
from worlds.federation import SITES, World, wait
from worlds.people import ANNA, OLGA
from worlds.slow_plan import CANARY

pytestmark = pytest.mark.processes
CODES = {
    "nan": ("not-finite", None),
    "shape": ("model-changed", None),
    "metric": ("plan-error", None),
    # Last, because its text is released.
    "raise": ("plan-error", "ValueError"),
}


def everything_at_the_server(world: World) -> bytes:
    folder = world.lab.folder / "server"
    plans = {
        path for path in (folder / "blobs").rglob("*") if path.is_file() and b"class SlowPlan" in path.read_bytes()
    }
    files = [path for path in folder.rglob("*") if path.is_file() and path not in plans]
    return b"".join(path.read_bytes() for path in [*files, world.lab.server.log])


@pytest.mark.parametrize("fault", CODES)
def test_a_plan_that_fails_leaves_with_a_code_and_a_line_and_no_word_of_its_own(world: World, fault: str) -> None:
    name = f"faulty-{fault}"
    world.submit(name, arguments={"fault": fault}, terms={"rounds": 1, "retries": 0})
    world.do(name, "start")
    shown = world.wait_state(name, "paused")
    assert "without its quorum" in shown["reason"]
    lines = [body["failure"] for kind, body in world.server_lines(name) if kind == "site-failed"]
    code, exception = CODES[fault]
    assert [one["code"] for one in lines] == [code, code]
    if exception:
        assert {one["exception"] for one in lines} == {exception} and all(one["line"] for one in lines)
    assert CANARY.encode() not in everything_at_the_server(world)
    if fault == "raise":
        state = world.lab.sites["site-a"].state()
        site_failures.release(state.database, name, 1, by=ANNA)
        state.close()
        wait(lambda: CANARY in str(world.server_lines(name)), "the released text")
        with archipel.connect(world.lab.url, token=world.lab.token, ca=world.lab.authority) as researcher:
            details = researcher.experiment(name).failures.set_index("site")["detail"]
        assert CANARY in details["site-a"] and details["site-b"] == ""
    world.do(name, "cancel")


def test_steps_pauses_and_arguments_between_rounds(world: World) -> None:
    world.submit("steered", terms={"rounds": 4})
    world.do("steered", "step")
    world.wait_state("steered", "paused")
    assert [one["round"] for one in world.rounds("steered")] == [1]
    with world.lab.client() as client:
        place = "/v1/experiments/steered/arguments"
        methods = {
            method: client.request(method, place, json={"arguments": {"pause_s": 61.0}})
            for method in ("PATCH", "PUT", "POST")
        }
        method = next(name for name, reply in methods.items() if reply.status_code not in (404, 405))
        assert methods[method].status_code in (400, 422) and "pause_s" in methods[method].text
        assert not client.request(method, place, json={"arguments": {"unknown": 1}}).is_success
        assert client.request(method, place, json={"arguments": {"pause_s": 0.4}}).is_success
    world.do("steered", "resume")
    wait(lambda: world.heard("steered", "round-opened", 2), "round 2")
    world.do("steered", "pause")
    world.wait_state("steered", "paused")
    wait(lambda: world.heard("steered", "round-closed", 2), "the end of the round that was open")
    assert [one["round"] for one in world.rounds("steered")] == [1, 2]
    world.do("steered", "resume")
    world.wait_state("steered")
    opened = [body for kind, body in world.server_lines("steered") if kind == "round-opened"]
    trained = [body["arguments"]["pause_s"] for body in opened if body["kind"] == "train"]
    assert trained == [0.0, 0.4, 0.4, 0.4]
    assert opened[1]["kind"] == "evaluate", "the model of a step is measured before the pause"


def test_cancelling_stops_the_workers(world: World) -> None:
    before = {site: set(world.workers(site)) for site in SITES}
    world.submit("cancelled", arguments={"pause_s": 30.0})
    world.do("cancelled", "start")
    for site in SITES:
        wait(
            lambda site=site: "worker-started" in [kind for kind, _ in world.site_lines(site, "cancelled")], "a worker"
        )
    world.do("cancelled", "cancel")
    for site in SITES:
        wait(lambda site=site: set(world.workers(site)) <= before[site], "no worker", seconds=10)
    assert world.show("cancelled")["state"] == "cancelled"
    wait(
        lambda: ("experiment-ended", {"experiment": "cancelled", "how": "cancelled"}) in world.site_lines("site-a"),
        "end",
    )


def test_a_revoked_approval_stops_the_worker_at_once_and_the_server_learns_it(world: World) -> None:
    before = set(world.workers("site-b"))
    world.submit("revoked", arguments={"pause_s": 20.0}, terms={"rounds": 1, "retries": 0})
    world.do("revoked", "start")
    wait(lambda: "worker-started" in [kind for kind, _ in world.site_lines("site-b", "revoked")], "the worker")
    workers = [psutil.Process(pid) for pid in world.workers("site-b") if pid not in before]
    assert workers
    state = world.lab.sites["site-b"].state()
    decisions.revoke(state.database, "revoked", by=ANNA)
    state.close()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive
    wait(lambda: world.heard("revoked", "site-failed", 1, "site-b"), "the failure")
    failure = next(body["failure"] for kind, body in world.server_lines("revoked") if kind == "site-failed")
    assert failure["code"] == "revoked"
    wait(lambda: {one["site"]: one["state"] for one in world.show("revoked")["approvals"]}["site-b"] == "revoked", "it")
    world.do("revoked", "cancel")


def test_nothing_runs_without_a_quorum_of_approvals(world: World) -> None:
    world.submit("unwanted", approve=False)
    wait(lambda: any(kind == "job-offered" for kind, _ in world.site_lines("site-b", "unwanted")), "the offer")
    state = world.lab.sites["site-b"].state()
    decisions.reject(state.database, "unwanted", note="not for us", by=ANNA)
    state.close()
    world.lab.sites["site-a"].approve("unwanted")
    world.wait_approved("unwanted", 1)
    with world.lab.client() as client:
        reply = client.post("/v1/experiments/unwanted/start")
    assert reply.status_code == 409 and "site-b" in reply.text
    world.do("unwanted", "cancel")


def test_the_same_federation_is_not_served_twice(world: World) -> None:
    for arguments in (world.lab.server.arguments, world.lab.sites["site-a"].running.arguments):
        done = subprocess.run(
            [sys.executable, "-m", "archipel", *arguments], capture_output=True, text=True, timeout=30
        )
        assert done.returncode != 0 and "Traceback" not in done.stderr
        assert "is served by" in done.stderr


def test_both_sides_hold_each_others_journal_heads(world: World) -> None:
    world.run("journaled", terms={"rounds": 1})
    for site in SITES:
        wait(lambda site=site: world.seen(site, "journaled", "round-closed"), "the word")
        state = world.lab.sites[site].state()
        proof = journal.verify(state)
        state.close()
        assert proof.whole and proof.journal_heads > 0
        assert world.query("select number from site_journal_heads where site = ?", site)[0][0] > 0


def test_a_journal_whose_tail_was_cut_is_found_out_on_both_sides(world: World) -> None:
    world.run("to-be-cut", terms={"rounds": 1})
    world.kill_site("site-b")
    state = world.lab.sites["site-b"].state()
    with state.database.write() as connection:
        connection.exec_driver_sql("delete from journal where number > (select max(number) - 6 from journal)")
    state.close()
    world.start_site("site-b")
    world.lab.wait_connected({"site-b"})
    wait(
        lambda: any(kind == "site-journal-fault" for kind, _ in world.server_lines()),
        "the fault in the server's journal",
    )
    log = world.lab.sites["site-b"].running.log
    wait(lambda: "journal is not intact" in log.read_text(), "the fault in the site's log")
    state = world.lab.sites["site-b"].state()
    assert not journal.verify(state).whole
    state.close()


def test_a_server_whose_journals_tail_was_cut_is_found_out_by_its_sites_once_and_the_work_goes_on(
    world: World,
) -> None:
    def told(site: str) -> list[HeadFault]:
        state = world.lab.sites[site].state()
        found = journal_heads.faults(state.database)
        state.close()
        return found

    world.run("before-the-cut", terms={"rounds": 1})
    lines = len(world.server_lines())
    for site in SITES:
        wait(lambda site=site: world.seen(site, "before-the-cut", "round-closed"), "the word")
    world.kill_server()
    with contextlib.closing(sqlite3.connect(world.database)) as connection, connection:
        connection.execute("delete from journal where number > ?", (lines - 20,))
    world.start_server()
    world.lab.wait_connected(set(SITES))
    for site in SITES:
        wait(lambda site=site: told(site), "the fault in the site's journal")
        assert "the server's journal lost or changed lines" in world.lab.sites[site].running.log.read_text()
    world.run("after-the-cut")
    world.kill_site("site-a")
    world.start_site("site-a")
    world.lab.wait_connected({"site-a"})
    own = [kind for kind, _ in world.server_lines()].count("own-journal-fault")
    assert own in (1, len(SITES)), "once, or for each site that was shown another line last"
    for site in SITES:
        (fault,) = told(site)
        assert fault.kept.number > fault.shown.number <= lines - 20 + own


def test_what_is_written_while_connected_is_attested_without_another_round(world: World) -> None:
    def proven() -> journal.Proof:
        state = world.lab.sites["site-a"].state()
        found = journal.verify(state)
        state.close()
        return found

    world.submit("attested", approve=False)
    site = world.lab.sites["site-a"]
    wait(lambda: "job-offered" in [kind for kind, _ in world.site_lines("site-a", "attested")], "the offer")
    site.approve("attested")
    wait(lambda: (found := proven()).attested == found.lines, "a receipt for every line")
    lines = proven().lines
    state = site.state()
    decisions.revoke(state.database, "attested", note="no", by=ANNA)
    state.close()
    wait(lambda: (found := proven()).attested == found.lines > lines, "a receipt for the revocation")
    number, hashed = world.query("select number, hash from site_journal_heads where site = 'site-a'")[0]
    state = site.state()
    assert journal.newest(state.database, 1)[0].hash == hashed and number == proven().lines
    state.close()


def test_a_revoked_certificate_is_cut_at_once_and_the_site_says_why(world: World) -> None:
    log = world.lab.sites["site-b"].running.log
    with ServerContext.open(ServerState(world.lab.folder / "server")) as federation:
        for (serial,) in world.query("select serial from certificates where site = 'site-b'"):
            federation.registry.revoke_certificate(serial, "a lost laptop", by=OLGA)
    wake(world.lab.folder / "server")

    def gone() -> bool:
        return not {one["site"]: one["connected"] for one in world.lab.get("/v1/sites")}["site-b"]

    wait(gone, "the cut", seconds=5)
    wait(lambda: "revoked" in log.read_text(), "the reason in the site's log")
