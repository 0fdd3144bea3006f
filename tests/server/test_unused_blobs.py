"""Blobs that no experiment names: a token may have a limited number of bytes of them, and they end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import httpx
import pytest

from archipel.server.experiments import Experiments, records
from archipel.server.experiments.unused_blobs import SMALLEST, UnusedBlobs
from archipel.server.membership.federation import ServerContext
from archipel.server.rest.blobs import delete_unused
from archipel.tensors import blob_hash, encode
from archipel.vocabulary import NotFound
from worlds.server import FIRST_MODEL, Applicant, Served, job_of, make_server, records_of, serving

DAY = 86_400.0
MIB = 1 << 20


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Served]:
    """A real server at which a token may have 3 MiB that no experiment names."""
    with make_server(tmp_path / "small", unused_blobs_mb=3) as federation:
        async with serving(federation, Experiments(federation)) as served:
            yield served


async def put(client: httpx.AsyncClient, data: bytes) -> httpx.Response:
    return await client.put(f"/v1/blobs/{blob_hash(data)}", content=data)


@pytest.mark.parametrize("size", [MIB - 5, 7], ids=["large", "tiny"])
async def test_a_token_has_so_much_that_no_experiment_names(small: Served, size: int) -> None:
    async with small.client("research") as eve, small.client("research") as ada:
        answers = [await put(eve, bytes([number]) * size) for number in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 413]
        refused = answers[-1].json()
        assert "this access token would have 4 MiB that no experiment names" in refused["cause"]
        assert "unused_blobs_mb (3)" in refused["remedy"]
        assert (await put(ada, b"ada's")).status_code == 200
    assert not small.federation.blobs.has(blob_hash(bytes([3]) * size))
    assert list(small.federation.blobs.incoming.iterdir()) == []


async def test_what_is_still_arriving_counts_and_what_did_not_arrive_does_not(small: Served) -> None:
    data = bytes(5 * MIB)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), MIB):
            yield data[start : start + MIB]

    async with small.client("research") as eve:
        answer = await eve.put(f"/v1/blobs/{blob_hash(data)}", content=pieces())
        assert (answer.status_code, "no experiment names" in answer.text) == (413, True)
        for number in range(3):
            assert (await put(eve, bytes([number]) * MIB)).status_code == 200


async def test_uploads_at_the_same_time_share_one_quota(small: Served) -> None:
    go_on = asyncio.Event()

    async def half(number: int) -> AsyncIterator[bytes]:
        yield bytes([number]) * MIB
        await go_on.wait()
        yield bytes([number]) * (MIB // 2)

    async def send(client: httpx.AsyncClient, number: int) -> int:
        name = blob_hash(bytes([number]) * (MIB * 3 // 2))
        return (await client.put(f"/v1/blobs/{name}", content=half(number))).status_code

    async with small.client("research") as eve:
        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(send(eve, number)) for number in range(4)]
            token = eve.headers["authorization"].split("_")[1]
            async with asyncio.timeout(60):
                while small.context.unused.held_by(token) < 3 * MIB:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            go_on.set()
        codes = sorted(task.result() for task in sent)
    assert codes.count(200) <= 2 and 413 in codes and set(codes) <= {200, 413}


async def test_what_an_experiment_names_counts_no_more_and_stays(small: Served) -> None:
    federation, site = small.federation, Applicant("berlin").enrol(small.federation)
    async with small.client("research") as ada:
        for data in (b"plan", encode(FIRST_MODEL), b"of no experiment"):
            assert (await put(ada, data)).status_code == 200
        assert (await put(ada, b"one more")).status_code == 413
        job = job_of(federation, site)
        answer = await ada.post("/v1/experiments", json={"job": job.model_dump(mode="json")})
        assert answer.status_code == 201, answer.text
        # Sent again it is an experiment's, and does not count.
        assert (await put(ada, b"plan")).status_code == 200
        assert [(await put(ada, data)).status_code for data in (b"1", b"2", b"3")] == [200, 200, 413]
        await delete_unused(small.context, time.monotonic() + 0.9 * DAY)
        assert federation.blobs.has(blob_hash(b"1"))
        await delete_unused(small.context, time.monotonic() + 1.1 * DAY)
        assert not any(map(federation.blobs.has, map(blob_hash, (b"of no experiment", b"1", b"2"))))
        assert all(map(federation.blobs.has, job.blobs))
        assert (await put(ada, b"3")).status_code == 200


async def test_a_blob_that_came_again_begins_again() -> None:
    account = UnusedBlobs()
    account.add("a", "ada", 7, 0.0)
    account.add("a", "eve", 7, 10.0)
    assert account.take_sent_before(5.0) == {}
    assert (account.held_by("ada"), account.held_by("eve")) == (SMALLEST, 0)


async def test_what_could_not_be_deleted_still_counts(federation: ServerContext) -> None:
    class FullDisk:
        async def delete_unnamed(self, blobs: Collection[str]) -> None:
            raise OSError("the disk is full")

    failing: Any = FullDisk()
    async with serving(federation, failing) as served:
        async with served.client("research") as ada:
            await put(ada, b"a")
            (token,) = {one.token for one in served.context.unused.take_sent_before(time.monotonic()).values()}
            served.context.unused.add("a", token, 1, 0.0)
        with pytest.raises(OSError, match="full"):
            await delete_unused(served.context, 2 * DAY)
        assert served.context.unused.held_by(token) == SMALLEST


def test_a_job_whose_blob_was_deleted_after_its_check_is_not_kept(
    federation: ServerContext, enrolled: Applicant, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(federation, enrolled)
    checked = records.check_submitted

    def then_deleted(*about: Any) -> None:
        checked(*about)
        federation.blobs.delete(job.initial_model)

    monkeypatch.setattr(records, "check_submitted", then_deleted)
    with pytest.raises(NotFound, match="send it again"):
        records_of(federation).keep_job(job, "sha256:" + "0" * 64, "ada")
    assert records_of(federation).known() == []
