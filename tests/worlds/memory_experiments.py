"""An ExperimentService that holds experiments in memory."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Collection, Mapping
from typing import BinaryIO

from archipel.governance import job_hash
from archipel.tensors import blob_hash
from archipel.transport.rest import (
    Event,
    EventBody,
    ExperimentSummary,
    ExperimentView,
    ModelView,
    RoundView,
    StateChanged,
    Submitted,
)
from archipel.vocabulary import Actor, Conflict, Job, NotFound, Value
from archipel.vocabulary.states import ControlVerb, ExperimentState, RoundState

AT = "2026-11-21T08:00:00+00:00"


class MemoryExperiments:
    """An ExperimentService over a dictionary."""

    def __init__(self) -> None:
        self.held: dict[str, ExperimentView] = {}
        self.happened: dict[str, list[Event]] = {}
        self.news = asyncio.Condition()
        self.steered_by: list[Actor] = []
        self.unnamed: set[str] = set()

    async def submit(self, job: Job, token: str) -> ExperimentView:
        if job.experiment in self.held:
            raise Conflict(f"experiment {job.experiment}", "exists", "choose another name")
        self.held[job.experiment] = ExperimentView(
            experiment=job.experiment,
            state=ExperimentState.WAITING,
            asked_by=token,
            round=0,
            rounds=job.terms.rounds,
            created=AT,
            job=job,
            job_hash=job_hash(job),
            arguments=job.arguments,
        )
        await self.happen(job.experiment, Submitted(job_hash=job_hash(job)))
        return self.held[job.experiment]

    async def happen(self, experiment: str, body: EventBody) -> None:
        async with self.news:
            found = self.happened.setdefault(experiment, [])
            found.append(Event(seq=len(found) + 1, at=AT, kind=body.event, body=body))
            self.news.notify_all()

    async def has_asked_for(self, name: str, blob: str) -> bool:
        """The blobs of the job that tests submit are sent by nobody."""
        return blob in {blob_hash(b"plan"), blob_hash(b"model")}

    async def delete_unnamed(self, blobs: Collection[str]) -> None:
        self.unnamed |= set(blobs)

    async def token(self, experiment: str) -> str:
        return str((await self.get(experiment)).asked_by)

    async def all(self) -> list[ExperimentSummary]:
        return list(self.held.values())

    async def get(self, experiment: str) -> ExperimentView:
        if experiment not in self.held:
            raise NotFound(f"experiment {experiment}", "does not exist", "list experiments")
        return self.held[experiment]

    async def control(self, experiment: str, verb: ControlVerb, *, by: Actor) -> ExperimentView:
        found = await self.get(experiment)
        self.steered_by.append(by)
        if verb is ControlVerb.RESUME and found.state is not ExperimentState.PAUSED:
            raise Conflict(f"experiment {experiment}", f"is {found.state}", "pause it first")
        state = {ControlVerb.PAUSE: ExperimentState.PAUSED, ControlVerb.CANCEL: ExperimentState.CANCELLED}
        self.held[experiment] = found.model_copy(update={"state": state.get(verb, ExperimentState.RUNNING)})
        return self.held[experiment]

    async def set_arguments(self, experiment: str, values: Mapping[str, Value], *, by: Actor) -> ExperimentView:
        found = await self.get(experiment)
        self.steered_by.append(by)
        self.held[experiment] = found.model_copy(update={"arguments": {**found.arguments, **values}})
        return self.held[experiment]

    async def rounds(self, experiment: str) -> list[RoundView]:
        await self.get(experiment)
        return [RoundView(round=0, attempt=1, state=RoundState.COMMITTED, opened=AT, contributors=("berlin",))]

    async def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[Event]:
        await self.get(experiment)
        while True:
            async with self.news:
                while follow and len(self.happened[experiment]) <= after:
                    await self.news.wait()
            new = self.happened[experiment][after:]
            for event in new:
                yield event
            after += len(new)
            if not follow or (new and isinstance(new[-1].body, StateChanged)):
                return

    async def models(self, experiment: str) -> list[ModelView]:
        await self.get(experiment)
        return [ModelView(name="best", round=0, hash="blake3:" + "0" * 64)]

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        await self.get(experiment)
        if name != "best":
            raise NotFound(f"model {name}", "does not exist", "list models")
        return io.BytesIO(b"frame"), 5
