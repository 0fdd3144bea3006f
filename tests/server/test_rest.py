"""The REST interface over real HTTPS: scopes, blobs, experiments, events, errors, and its own description."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from archipel.governance import SERVER_JOURNAL, JournalHead
from archipel.server.membership.federation import ServerContext
from archipel.server.rest import bodies
from archipel.server.rest.limits import LONGEST_BODY, LONGEST_OTHER
from archipel.server.rest.problems import status_of
from archipel.tensors import blob_hash
from archipel.transport.enrolment import ENROLMENT_HEADER, JoinToken
from archipel.transport.listening import listen
from archipel.transport.rest import Interrupted, StateChanged
from archipel.vocabulary import ArchipelError, ErrorCode, StorageFull
from archipel.vocabulary.documents import parsed
from archipel.vocabulary.states import ExperimentState
from worlds.people import OLGA
from worlds.server import Applicant, Served, make_server, serving, settings


def job(federation: ServerContext, site: Applicant) -> dict[str, Any]:
    return {
        "experiment": "first",
        "plan": {"files": {"plan.py": blob_hash(b"plan")}, "entry": "plan.py", "class_name": "Plan"},
        "initial_model": blob_hash(b"model"),
        "tensors": {"tensors": [{"name": "w", "dtype": "float32", "shape": [2]}]},
        "needs": {"kind": "arrays"},
        "metrics": [{"name": "loss", "better": "lower"}],
        "parameters": [{"name": "rate", "kind": "float", "default": 0.1, "minimum": 0, "maximum": 1}],
        "arguments": {"rate": 0.1},
        "terms": {"rounds": 2, "quorum": 1},
        "roster": [{"site": site.site, "identity_key": site.identity.public, "dataset": "table"}],
        "server_key": federation.identity.public,
    }


async def submitted(served: Served, site: Applicant) -> None:
    async with served.client("research") as client:
        answer = await client.post("/v1/experiments", json={"job": job(served.federation, site)})
    assert answer.status_code == 201, answer.text


async def test_health_is_open_and_everything_else_is_not(served: Served) -> None:
    async with served.client() as client:
        assert (await client.get("/v1/health")).json()["status"] == "ok"
        described = (await client.get("/openapi.json")).json()
        open_paths = {"/v1/health", "/v1/enrolment", "/v1/enrolment/authority"}
        for path, verbs in described["paths"].items():
            for verb, operation in verbs.items():
                assert operation["summary"], path
                assert operation["tags"], path
                if path in open_paths:
                    continue
                concrete = path.replace("{hash}", "blake3:" + "0" * 64).replace("{verb}", "start")
                concrete = concrete.replace("{experiment}", "x").replace("{", "").replace("}", "")
                answer = await client.request(verb, concrete)
                assert answer.status_code == 401, (verb, concrete, answer.text)
                assert answer.headers["www-authenticate"] == "Bearer"
    assert {"/v1/experiments/{experiment}/events", "/v1/blobs/{hash}", "/v1/sites"} <= set(described["paths"])


@pytest.mark.parametrize(
    ("scope", "verb", "path", "status"),
    [
        ("read", "GET", "/v1/sites", 200),
        ("read", "GET", "/v1/experiments", 200),
        ("read", "POST", "/v1/experiments/x/start", 403),
        ("read", "GET", "/v1/certificates", 403),
        ("read", "GET", "/v1/experiments/x/models/last", 403),
        ("read", "GET", f"/v1/blobs/{blob_hash(b'')}", 403),
        ("research", "GET", f"/v1/blobs/{blob_hash(b'')}", 403),
        ("research", "GET", "/v1/experiments/x/models/last", 404),
        ("operate", "GET", f"/v1/blobs/{blob_hash(b'')}", 403),
        ("models", "GET", f"/v1/blobs/{blob_hash(b'')}", 404),
        ("models", "GET", "/v1/experiments/x/models/last", 404),
        ("models", "GET", f"/v1/experiments/x/blobs/{blob_hash(b'')}", 404),
        ("read", "GET", f"/v1/experiments/x/blobs/{blob_hash(b'')}", 403),
        ("models", "GET", "/v1/sites", 200),
        ("models", "POST", "/v1/experiments/x/start", 403),
        ("research", "POST", "/v1/experiments/x/start", 404),
        ("research", "POST", "/v1/join-tokens", 403),
        ("research", "GET", "/v1/journal/head", 403),
        ("operate", "GET", "/v1/certificates", 200),
        ("operate", "GET", "/v1/sites", 200),
        ("operate", "POST", "/v1/experiments/x/start", 404),
    ],
)
async def test_a_scope_opens_its_own_doors_only(served: Served, scope: str, verb: str, path: str, status: int) -> None:
    async with served.client(scope) as client:
        answer = await client.request(verb, path, json={"site": "paris"} if verb == "POST" else None)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "not-permitted"


async def test_the_federation_and_its_sites_are_shown_without_rows(served: Served, enrolled: Applicant) -> None:
    async with served.client("read") as client:
        federation = (await client.get("/v1/federation")).json()
        sites = (await client.get("/v1/sites")).json()
    assert (federation["name"], federation["server_key"]) == ("north sea", served.federation.identity.public)
    assert datetime.fromisoformat(federation["time"]).tzinfo is not None
    assert sites == [
        {
            "site": "berlin",
            "identity_key": enrolled.identity.public,
            "connected": True,
            "last_seen": None,
            "datasets": [],
            "packages": {},
        }
    ]


async def test_a_blob_comes_back_as_it_went_in(served: Served) -> None:
    data = os.urandom((3 << 20) + 17)
    name = blob_hash(data)
    async with served.client("research", "models") as client:
        assert (await client.head(f"/v1/blobs/{name}")).status_code == 404
        for _ in range(2):
            put = await client.put(f"/v1/blobs/{name}", content=data)
            assert put.json() == {"hash": name, "bytes": len(data)}, put.text
        got = await client.get(f"/v1/blobs/{name}")
        assert got.content == data
        head = await client.head(f"/v1/blobs/{name}")
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))


async def test_a_blob_under_a_wrong_hash_leaves_nothing_behind(served: Served) -> None:
    wrong = blob_hash(b"something else")
    async with served.client("research", "models") as client:
        answer = await client.put(f"/v1/blobs/{wrong}", content=b"this")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-update")
        assert (await client.get(f"/v1/blobs/{wrong}")).status_code == 404
        assert (await client.put("/v1/blobs/blake3:12", content=b"this")).status_code == 400
    assert list(served.federation.blobs.incoming.iterdir()) == []


async def test_a_blob_cut_off_on_the_way_leaves_nothing_behind(served: Served) -> None:
    data = os.urandom(4 << 20)
    incoming = served.federation.blobs.incoming

    async def half() -> Any:
        yield data[: 2 << 20]
        while not any(part.stat().st_size for part in incoming.iterdir()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        raise ConnectionError

    async with served.client("research") as client:
        with pytest.raises(ConnectionError):
            await client.put(f"/v1/blobs/{blob_hash(data)}", content=half())
    async with served.client("read") as client:
        for _ in range(400):
            if not list(incoming.iterdir()):
                break
            await asyncio.sleep(0.02)
        assert (await client.head(f"/v1/blobs/{blob_hash(data)}")).status_code == 404
    assert list(incoming.iterdir()) == []


async def test_a_blob_beyond_the_limit_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    small = served.federation.settings.model_copy(update={"blob_limit_mb": 1})
    object.__setattr__(served.federation, "settings", small)
    data = bytes((1 << 20) + 1)
    async with served.client("research") as client:
        answer = await client.put(f"/v1/blobs/{blob_hash(data)}", content=data)
    assert (answer.status_code, answer.json()["remedy"]) == (413, "raise blob_limit_mb there")


async def test_a_full_disk_is_said_and_leaves_nothing_behind(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    data = b"x" * 100
    async with served.client("research") as client:
        monkeypatch.setattr("archipel.storage.blobs.os.fsync", full)
        answer = await client.put(f"/v1/blobs/{blob_hash(data)}", content=data)
        monkeypatch.undo()
        assert (answer.status_code, answer.json()["code"]) == (507, "disk-full")
        assert list(served.federation.blobs.incoming.iterdir()) == []
        assert (await client.put(f"/v1/blobs/{blob_hash(data)}", content=data)).status_code == 200


async def test_a_full_disk_loses_nothing_and_the_token_stays_good(tiny_disk: Path) -> None:
    with make_server(tiny_disk / "server") as federation:
        token = federation.enrolment.create_token("berlin", by=OLGA)
        site = Applicant("berlin")
        async with serving(federation) as served, served.client("research") as client:
            filling = tiny_disk / "filling"
            with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            wanted = site.request(token).model_dump(mode="json")
            name = {ENROLMENT_HEADER: token.id}
            refused = await client.post("/v1/enrolment", json=wanted, headers=name)
            assert (refused.status_code, refused.json()["code"]) == (507, "disk-full")
            assert (await client.get("/v1/sites")).json() == []
            blob = await client.put(f"/v1/blobs/{blob_hash(b'x' * 9999)}", content=b"x" * 9999)
            assert (blob.status_code, blob.json()["code"]) == (507, "disk-full")
            filling.unlink()
            assert (await client.post("/v1/enrolment", json=wanted, headers=name)).status_code == 200
            assert len((await client.get("/v1/sites")).json()) == 1
        assert federation.registry.journal_faults() == []


async def test_an_experiment_is_submitted_steered_and_read(served: Served, enrolled: Applicant) -> None:
    await submitted(served, enrolled)
    async with served.client("research") as client:
        twice = await client.post("/v1/experiments", json={"job": job(served.federation, enrolled)})
        assert (twice.status_code, twice.json()["code"]) == (409, "conflict")
        assert [found["experiment"] for found in (await client.get("/v1/experiments")).json()] == ["first"]
        asked_by = (await client.get("/v1/experiments/first")).json()["asked_by"]
        assert asked_by in {token.id for token in served.federation.tokens.all()}
        assert (await client.post("/v1/experiments/first/pause")).json()["state"] == "paused"
        assert (await client.post("/v1/experiments/first/resume")).json()["state"] == "running"
        assert (await client.post("/v1/experiments/first/resume")).status_code == 409
        assert (await client.post("/v1/experiments/first/explode")).status_code == 400
        changed = await client.patch("/v1/experiments/first/arguments", json={"arguments": {"rate": 0.5}})
        assert changed.json()["arguments"] == {"rate": 0.5}
        assert (await client.get("/v1/experiments/first/rounds")).json()[0]["contributors"] == ["berlin"]
        assert (await client.get("/v1/experiments/first/models")).json()[0]["name"] == "best"
        assert (await client.get("/v1/experiments/first/models/best")).content == b"frame"
        assert (await client.get("/v1/experiments/first/models/worst")).status_code == 404
        assert (await client.get("/v1/experiments/other")).json()["code"] == "not-found"


async def test_a_job_with_a_misspelt_field_is_told_which(served: Served, enrolled: Applicant) -> None:
    async with served.client("research") as client:
        answer = await client.post("/v1/experiments", json={"job": job(served.federation, enrolled) | {"seeed": 3}})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-input")
    assert answer.json()["thing"] == "job.seeed"


async def test_a_job_that_contradicts_itself_is_told_how(served: Served, enrolled: Applicant) -> None:
    wrong = job(served.federation, enrolled) | {"terms": {"rounds": 2, "quorum": 3}}
    async with served.client("research") as client:
        answer = await client.post("/v1/experiments", json={"job": wrong})
    assert answer.status_code == 400
    assert answer.json()["cause"] == "quorum 3 is more than the 1 sites of the roster"


async def test_events_are_followed_as_they_happen_and_taken_up_again(served: Served, enrolled: Applicant) -> None:
    await submitted(served, enrolled)
    seen: list[dict[str, Any]] = []

    async def follow(after: int) -> None:
        async with (
            served.client("read") as client,
            client.stream("GET", "/v1/experiments/first/events", params={"after": after}) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line.removeprefix("data: ")))

    following = asyncio.create_task(follow(0))
    for number in range(3):
        await served.experiments.happen("first", Interrupted(reason=f"reason {number}"))
    await served.experiments.happen("first", StateChanged(state=ExperimentState.FINISHED))
    await asyncio.wait_for(following, 10)
    assert [event["seq"] for event in seen] == [1, 2, 3, 4, 5]
    seen.clear()
    await follow(4)
    assert [event["kind"] for event in seen] == ["state"]
    async with served.client("read") as client:
        now = await client.get("/v1/experiments/first/events", params={"follow": "false", "after": 3})
        assert [event["seq"] for event in now.json()] == [4, 5]
        assert (await client.get("/v1/experiments/other/events")).status_code == 404


async def test_a_revoked_token_ends_its_event_stream(federation: ServerContext, enrolled: Applicant) -> None:
    async with serving(federation, keep_alive_s=0.05) as served:
        await submitted(served, enrolled)
        async with (
            served.client("read") as client,
            client.stream("GET", "/v1/experiments/first/events") as answer,
        ):
            reader = client.headers["authorization"].split("_")[1]
            lines = answer.aiter_lines()
            async for line in lines:
                if line == ": still here":
                    served.federation.tokens.revoke(reader, by=OLGA)
                    break
            async for line in lines:
                assert not line.startswith("data:")


async def test_an_operator_admits_and_removes(served: Served) -> None:
    async with served.client("operate") as client:
        issued = (await client.post("/v1/join-tokens", json={"site": "paris", "hours": 2})).json()
        spare = (await client.post("/v1/join-tokens", json={"site": "rome"})).json()
        assert (await client.delete(f"/v1/join-tokens/{spare['id']}")).status_code == 204
        token = JoinToken.decode(issued["token"])
        served.federation.enrolment.enrol(Applicant("paris").request(token), datetime.now(UTC))
        listed = {row["id"]: row for row in (await client.get("/v1/join-tokens")).json()}
        assert listed[issued["id"]]["used_at"]
        assert listed[spare["id"]]["revoked_at"]
        (row,) = (await client.get("/v1/certificates")).json()
        revoked = await client.post(f"/v1/certificates/{row['serial']}/revoke", json={"reason": "test"})
        assert revoked.status_code == 204
        assert not served.federation.registry.site_of_serial(row["serial"])
        assert (await client.delete("/v1/sites/paris")).status_code == 204
        assert (await client.delete("/v1/sites/nowhere")).status_code == 404
        assert len(served.changes) == 2
        head = (await client.get("/v1/journal/head")).json()
        lines = (await client.get("/v1/journal")).json()
    assert lines[-1]["hash"] == head["hash"]
    signed = JournalHead.model_validate(head)
    # As the command line prints it and sites take it, whatever the federation is called.
    assert signed.owner == SERVER_JOURNAL and signed.is_signed_by(served.federation.identity.public)
    assert lines[-1]["kind"] == "site-removed"


async def test_an_error_nobody_expected_is_an_answer_without_its_text(served: Served, monkeypatch: Any) -> None:
    async def broken() -> Any:
        raise RuntimeError("patient 17")

    monkeypatch.setattr(served.experiments, "all", broken)
    async with served.client("read") as client:
        with capture_logs() as logged:
            answer = await client.get("/v1/experiments")
    assert [line["log_level"] for line in logged] == ["error"]
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "patient" not in answer.text


async def test_a_port_in_use_is_named_with_its_setting(served: Served) -> None:
    taken = served.federation.settings.rest_port
    with pytest.raises(ArchipelError, match=f"127.0.0.1:{taken}: the port is in use.*change rest_port") as refused:
        listen("127.0.0.1", taken, "rest_port")
    assert refused.value.code is ErrorCode.PORT_IN_USE


def test_statuses_match_what_went_wrong() -> None:
    assert status_of(StorageFull("disk", "is full", "free some")) == 507
    assert status_of(ArchipelError("x", "y", "z", code=ErrorCode.CLOCK)) == 400
    assert settings().rest_url.startswith("https://127.0.0.1:")


@pytest.mark.parametrize("chunked", [False, True], ids=["stated", "chunked"])
async def test_a_long_body_is_read_from_those_who_may_submit_only(
    served: Served, chunked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, read = b'{"job": "' + b"x" * (1 << 20) + b'"}', []

    def counting(build: Any, given: bytes, longest: int) -> Any:
        read.append(len(given))
        return parsed(build, given, longest)

    monkeypatch.setattr(bodies, "parsed", counting)

    async def pieces() -> AsyncIterator[bytes]:
        yield body[: 1 << 19]
        yield body[1 << 19 :]

    answers = []
    for scopes in ((), ("read",), ("operate",), ("research",)):
        async with served.client(*scopes) as client:
            answer = await client.post("/v1/experiments", content=pieces() if chunked else body)
            answers.append((answer.status_code, len(read)))
    assert answers == [(401, 0), (403, 0), (403, 0), (400, 1)]


@pytest.mark.parametrize(
    ("verb", "path", "limit"),
    [("POST", "/v1/experiments", LONGEST_BODY), ("PATCH", "/v1/experiments/first/arguments", LONGEST_OTHER)],
)
async def test_a_body_longer_than_a_job_can_be_is_refused(
    served: Served, enrolled: Applicant, verb: str, path: str, limit: int
) -> None:
    await submitted(served, enrolled)
    async with served.client("research") as client:
        answer = await client.request(verb, path, content=b" " * (limit + 1))
    assert (answer.status_code, answer.json()["cause"]) == (
        413,
        f"a body of more than {limit >> 10} KiB is not accepted here",
    )


FLOODS = {
    "roster": b'{"job":{"roster":[' + b",".join([b"{}"] * 100_000) + b"]}}",
    "unknown keys": b"{" + b",".join(b'"k%d":0' % number for number in range(100_000)) + b"}",
    "dimensions": b'{"job":{"tensors":{"tensors":[{"name":"w","dtype":"float32","shape":['
    + b",".join([b"9"] * 100_000)
    + b"]}]}}}",
    "no JSON": b"[" * 100_000,
}


@pytest.mark.parametrize("what", FLOODS)
async def test_a_flood_of_faults_is_answered_with_the_first(served: Served, what: str) -> None:
    async with served.client("research") as client:
        answer = await client.post("/v1/experiments", content=FLOODS[what])
        assert (answer.status_code, answer.json()["code"]) == (400, "bad-input")
        assert len(answer.text) < 400
        assert (await client.get("/v1/health")).status_code == 200


async def test_the_description_names_every_body_and_all_of_its_parts(served: Served) -> None:
    async with served.client() as client:
        described = (await client.get("/openapi.json")).json()
    shapes = described["components"]["schemas"]

    def named(part: Any) -> set[str]:
        if isinstance(part, dict):
            own = {part["$ref"].rsplit("/", 1)[-1]} if isinstance(part.get("$ref"), str) else set()
            return own.union(*map(named, part.values()))
        return set().union(*map(named, part)) if isinstance(part, list) else set()

    assert named(described) <= set(shapes)
    body = described["paths"]["/v1/experiments"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert named(body) == {"Submission"} and "roster" in shapes["Job"]["properties"]
    for path, verb in (("/v1/enrolment", "post"), ("/v1/join-tokens", "post")):
        assert "requestBody" in described["paths"][path][verb]
