"""The frozen part of a job's model is fetched once and kept at the site until its experiment ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update
from structlog.testing import capture_logs
from test_agent import agent_of

from archipel.site.execution.model_cache import ModelCache
from archipel.site.state import schema
from archipel.site.state.folder import StateFolder
from archipel.storage import FolderBlobStore
from archipel.tensors import blob_hash, encode
from archipel.transport import EndedMessage
from archipel.vocabulary import BadInput, FrozenPart, Job, StorageFull, TensorSchema, TensorSpec, Thing
from worlds.site import job_for, take_offer

FROZEN = encode({"backbone": np.ones(50, np.float32)})
PART = FrozenPart(
    tensors=TensorSchema.of([TensorSpec(name="backbone", dtype="float32", shape=(50,))]), blob=blob_hash(FROZEN)
)


class Served:
    """A job with a frozen part, and how often that was fetched; each cache is one of an agent that was started anew."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.blobs, self.fetched = job, FolderBlobStore(folder), 0

    async def _fetch(self, blob: str, window: memoryview) -> None:
        self.fetched += 1
        window[:] = FROZEN

    async def content(self) -> bytes:
        cache = ModelCache(self.job, self._fetch, self.blobs)
        try:
            buffer = await cache.frozen()
            assert buffer is not None
            with buffer.view() as window:
                return bytes(window)
        finally:
            cache.close()


@pytest.fixture
def served(hospital: StateFolder, tmp_path: Path) -> Served:
    return Served(job_for(hospital, frozen=PART), tmp_path / "kept")


async def test_it_is_fetched_once_also_over_the_end_of_a_worker_and_of_an_agent(served: Served) -> None:
    assert [await served.content() for _ in range(3)] == [FROZEN] * 3
    assert served.fetched == 1 and served.blobs.size(PART.blob) == len(FROZEN)


@pytest.mark.parametrize("damaged", [FROZEN[:-1], FROZEN + b"-", FROZEN[:-1] + b"-", b""])
async def test_what_was_damaged_here_is_fetched_again(served: Served, damaged: bytes) -> None:
    await served.content()
    served.blobs.path(PART.blob).write_bytes(damaged)
    with capture_logs() as logs:
        assert await served.content() == FROZEN
    assert served.fetched == 2 and "damaged" in logs[0]["event"]
    assert await served.content() == FROZEN and served.fetched == 2


async def test_it_is_used_on_a_full_disk_and_said_not_to_be_kept(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise StorageFull(Thing("folder", "blobs"), "is full", "make room")

    monkeypatch.setattr(served.blobs, "put", full)
    with capture_logs() as logs:
        assert [await served.content() for _ in range(2)] == [FROZEN] * 2
    assert served.fetched == 2 and [one["event"] for one in logs] == ["a frozen part could not be kept"] * 2


async def test_a_job_with_other_tensors_does_not_get_it(served: Served) -> None:
    await served.content()
    other = TensorSchema.of([TensorSpec(name="headbone", dtype="float32", shape=(50,))])
    served.job = served.job.model_copy(update={"frozen": FrozenPart(tensors=other, blob=PART.blob)})
    with pytest.raises(BadInput):
        await served.content()


async def test_it_stays_while_an_experiment_that_has_it_goes_on(with_table: StateFolder) -> None:
    blobs = with_table.blobs
    for name in ("heart", "lung"):
        take_offer(with_table, experiment=name, frozen=PART)
    blobs.put(FROZEN)
    stray = blobs.put(b"nobody's")
    agent, _ = agent_of(with_table)
    agent.start()
    assert blobs.has(PART.blob) and not blobs.has(stray)
    await agent.take(EndedMessage(experiment="heart", state="finished"))
    assert blobs.has(PART.blob), "lung has the same"
    await agent.take(EndedMessage(experiment="lung", state="cancelled"))
    assert not blobs.has(PART.blob)


async def test_it_goes_with_a_job_that_was_changed_and_at_the_start_after_an_end_that_was_cut_off(
    with_table: StateFolder,
) -> None:
    take_offer(with_table, frozen=PART)
    with_table.blobs.put(FROZEN)
    take_offer(with_table, seed=7)
    assert not with_table.blobs.has(PART.blob)
    take_offer(with_table, frozen=PART, seed=8)
    with_table.blobs.put(FROZEN)
    with with_table.database.write() as connection:
        connection.execute(update(schema.experiments).values(state="ended"))
    agent_of(with_table)[0].start()
    assert not with_table.blobs.has(PART.blob)
