"""Experiments that play a script instead of training, for a researcher who asks a real REST server."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Mapping
from typing import Any, BinaryIO

import numpy as np
from rich.console import Console

import archipel
from archipel.governance import job_hash
from archipel.researcher.display import LogScreen
from archipel.tensors import blob_hash, encode
from archipel.transport.rest import Event, ExperimentSummary, ExperimentView, ModelView, RoundView
from archipel.vocabulary import Actor, Conflict, Job, NotFound, check_arguments

AT = "2026-11-21T08:00:00+00:00"


class ScriptedExperiments:
    """An ExperimentService in which every site delivers at once and the first validation metric rises by 0.1 a round.

    Everything runs in the server's event loop; ``approve`` and its kind are called from the test's thread.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.tokens: dict[str, str] = {}
        self.documents: dict[str, dict[str, Any]] = {}
        self.records: dict[str, list[dict[str, Any]]] = {}
        self.happened: dict[str, list[Event]] = {}
        self.verbs: list[str] = []
        self.failing: dict[str, Any] | None = None
        self.stall_after: int | None = None
        self.without_quorum = False
        self.hold = threading.Event()
        self.hold.set()
        self.cut_streams = 0
        self.approve_at_once = False
        self.missing: dict[str, set[str]] = {}
        self.silent: set[str] = set()
        self.news = asyncio.Condition()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.playing: set[asyncio.Task[None]] = set()

    # For tests

    def answer(self, experiment: str, site: str, state: str) -> None:
        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(self._answer(experiment, site, state), self.loop).result(10)

    async def _answer(self, experiment: str, site: str, state: str) -> None:
        for one in self.documents[experiment]["approvals"]:
            if one["site"] == site:
                one.update(state=state, subjects=20 if state == "approved" else None, at=AT)
        await self._happen(
            experiment,
            "approval",
            {"experiment": experiment, "site": site, "state": state, "job_hash": job_hash(self.jobs[experiment])},
        )

    def release(self, experiment: str, site: str, round_: int, detail: str) -> None:
        """What the server tells when a person at a site released an error text."""
        assert self.loop is not None
        body = {"site": site, "round": round_, "attempt": 1, "kind": "train", "about": "", "detail": detail}
        asyncio.run_coroutine_threadsafe(self._happen(experiment, "error-released", body), self.loop).result(10)

    async def _happen(self, experiment: str, kind: str, body: dict[str, Any]) -> None:
        async with self.news:
            found = self.happened[experiment]
            found.append(Event.model_validate({"seq": len(found) + 1, "at": AT, "kind": kind, "body": body}))
            self.news.notify_all()

    async def _play(self, experiment: str, rounds: int) -> None:
        job, document, records = self.jobs[experiment], self.documents[experiment], self.records[experiment]
        for _ in range(rounds):
            if document["state"] != "running":
                return
            number = len(records) + 1
            place = {"round": number, "attempt": 1, "kind": "train", "about": ""}
            if self.without_quorum:
                await self._turn(experiment, "paused", "no quorum")
                return
            await self._happen(experiment, "round-opened", {**place, "model": job.initial_model})
            for site in job.sites:
                await self._happen(experiment, "update-received", {**place, "site": site, "samples": 1})
            await asyncio.to_thread(self.hold.wait)
            records.append(self._record(job, document, number))
            if self.failing and self.failing["round"] == number:
                failed = {"site": self.failing["site"], "failure": self.failing["failure"]}
                await self._happen(experiment, "site-failed", {**place, **failed})
            if number > 1:
                records[-2]["model_validation"] = records[-1]["validation"]
            document["round"] = number
            ended = {**place, "state": "committed", "contributors": [], "seconds": 2.5}
            await self._happen(experiment, "round-committed", ended)
            if number == self.stall_after:
                await self._turn(experiment, "paused", "no quorum")
                return
        if len(records) == job.terms.rounds:
            last, metric = 0.5 + 0.1 * len(records), job.validation[0].name
            records[-1]["model_validation"] = {metric: last}
            document["baselines"] = _baselines(job.sites, metric, last)
            await self._turn(experiment, "finished", None)
        else:
            await self._turn(experiment, "paused", "one step was asked for")

    async def _end_early(self, experiment: str) -> None:
        job, document = self.jobs[experiment], self.documents[experiment]
        done, metric = document["round"], job.validation[0].name
        document["baselines"] = _baselines(job.sites, metric, 0.5 + 0.1 * done)
        await self._happen(experiment, "ending", {"reason": "a person asked to finish it"})
        words = f"ended early after round {done} of {job.terms.rounds}: a person asked to finish it"
        await self._turn(experiment, "finished", words)

    def _record(self, job: Job, document: dict[str, Any], number: int) -> dict[str, Any]:
        accuracy, metric = 0.5 + 0.1 * (number - 1), job.validation[0].name
        sites = {
            site: {
                "state": "delivered",
                "samples": 10 * (index + 1),
                "seconds": 1.0 + index,
                "metrics": {"loss": 1.0 / number},
                "validation": {metric: accuracy + 0.01 * index},
                "failure": None,
            }
            for index, site in enumerate(job.sites)
        }
        contributors = list(job.sites)
        if self.failing and self.failing["round"] == number:
            sites[self.failing["site"]] |= {"state": "failed", "samples": 0, "failure": self.failing["failure"]}
            contributors.remove(self.failing["site"])
        return {
            "round": number,
            "attempt": 1,
            "state": "committed",
            "seconds": 2.5,
            "opened": AT,
            "bytes_down": 100,
            "bytes_up": 100,
            "arguments": dict(document["arguments"]),
            "model": "blake3:" + "0" * 64,
            "contributors": contributors,
            "sites": sites,
            "samples": sum(sites[site]["samples"] for site in contributors),
            "metrics": {"loss": 1.0 / number},
            "validation": {metric: accuracy},
            "model_validation": {},
        }

    async def _turn(self, experiment: str, state: str, reason: str | None) -> None:
        self.documents[experiment].update(state=state, reason=reason)
        await self._happen(experiment, "state", {"state": state, "reason": reason})

    # What the REST interface asks (archipel.server.rest.ExperimentService)

    async def submit(self, job: Job, token: str) -> ExperimentView:
        self.loop = asyncio.get_running_loop()
        known = self.jobs.get(job.experiment)
        if known is not None and known != job:
            raise Conflict(f"experiment {job.experiment}", "exists with another job", "choose another name")
        if known is None:
            self.jobs[job.experiment] = job
            self.tokens[job.experiment] = token
            self.documents[job.experiment] = {
                "experiment": job.experiment,
                "asked_by": "anna",
                "job": job,
                "job_hash": job_hash(job),
                "state": "waiting",
                "reason": None,
                "round": 0,
                "rounds": job.terms.rounds,
                "arguments": dict(job.arguments),
                "approvals": [
                    {
                        "site": site,
                        "state": "waiting",
                        "subjects": None,
                        "at": AT,
                        "packages": self._packages(job, site),
                    }
                    for site in job.sites
                ],
                "baselines": {},
                "created": AT,
                "started": None,
                "ended": None,
            }
            self.records[job.experiment], self.happened[job.experiment] = [], []
            await self._happen(job.experiment, "submitted", {"job_hash": job_hash(job)})
            for site in job.sites if self.approve_at_once else ():
                await self._answer(job.experiment, site, "approved")
        return await self.get(job.experiment)

    def _packages(self, job: Job, site: str) -> dict[str, str | None] | None:
        lacks = self.missing.get(site, set())
        named = job.plan.packages
        return None if site in self.silent else {name: None if name in lacks else "1.0" for name in named}

    async def token(self, experiment: str) -> str:
        await self.get(experiment)
        return self.tokens[experiment]

    async def has_asked_for(self, name: str, blob: str) -> bool:
        mine = [self.jobs[one] for one, document in self.documents.items() if document["asked_by"] == name]
        return any(blob in {*job.blobs, *map(blob_hash, map(model, ("last", "best")))} for job in mine)

    async def all(self) -> list[ExperimentSummary]:
        return [ExperimentSummary.model_validate(document) for document in self.documents.values()]

    async def get(self, experiment: str) -> ExperimentView:
        return ExperimentView.model_validate(self._known(experiment))

    def _known(self, experiment: str) -> dict[str, Any]:
        if experiment not in self.documents:
            remedy = "name one that `archipel experiment list` shows"
            raise NotFound(f"experiment {experiment}", "is not at this server", remedy)
        return self.documents[experiment]

    async def control(self, experiment: str, verb: str, *, by: Actor) -> ExperimentView:
        document = self._known(experiment)
        self.verbs.append(verb)
        approved = [one for one in document["approvals"] if one["state"] == "approved"]
        if verb in ("start", "resume", "step") and len(approved) < self.jobs[experiment].terms.quorum:
            raise Conflict(f"experiment {experiment}", "its quorum has not approved", "wait for the sites")
        if verb in ("start", "resume", "step"):
            await self._turn(experiment, "running", None)
            left = self.jobs[experiment].terms.rounds - len(self.records[experiment])
            task = asyncio.create_task(self._play(experiment, 1 if verb == "step" else left))
            self.playing.add(task)
            task.add_done_callback(self.playing.discard)
        elif verb == "finish":
            await self._end_early(experiment)
        else:
            await self._turn(experiment, {"pause": "paused", "cancel": "cancelled"}[verb], None)
        return await self.get(experiment)

    async def set_arguments(self, experiment: str, values: Mapping[str, Any], *, by: Actor) -> ExperimentView:
        document, job = self._known(experiment), self.jobs[experiment]
        document["arguments"] = check_arguments(job.parameters, {**document["arguments"], **values})
        return await self.get(experiment)

    async def rounds(self, experiment: str) -> list[RoundView]:
        await self.get(experiment)
        return [RoundView.model_validate(record) for record in self.records[experiment]]

    async def events(self, experiment: str, after: int, follow: bool) -> AsyncIterator[Event]:
        await self.get(experiment)
        while True:
            async with self.news:
                while follow and len(self.happened[experiment]) <= after:
                    await self.news.wait()
            for event in self.happened[experiment][after:]:
                yield event
                after = event.seq
                if follow and self.cut_streams:
                    self.cut_streams -= 1
                    return
            if not follow or self.documents[experiment]["state"] in ("finished", "cancelled"):
                return

    async def models(self, experiment: str) -> list[ModelView]:
        document = self._known(experiment)
        measured = {"accuracy": 0.8} if document["state"] == "finished" else None
        return [
            ModelView(name=name, round=document["round"], hash=blob_hash(model(name)), validation=measured)
            for name in ("last", "best", "local:site-a")
        ]

    async def open_model(self, experiment: str, name: str) -> tuple[BinaryIO, int]:
        return io.BytesIO(model(name)), len(model(name))


def logged(experiment: archipel.Experiment) -> io.StringIO:
    """Let the experiment print its progress as lines into what this returns."""
    written = io.StringIO()
    experiment.screen = lambda: LogScreen(Console(file=written, width=500))
    return written


def model(name: str) -> bytes:
    return encode({"weight": np.full(8, len(name), np.float32)})


def _baselines(sites: tuple[str, ...], metric: str, federated: float) -> dict[str, Any]:
    def measured(value: float) -> dict[str, Any]:
        per_site = {site: {metric: value} for site in sites}
        return {"validation": {metric: value}, "per_site": per_site, "subjects": 12}

    local = {site: measured(0.6 + 0.01 * index) for index, site in enumerate(sites)}
    return {"federated": measured(federated), "ensemble": measured(0.7), "local": local}
