"""Endpoints for experiments; each one asks the ``ExperimentService`` and answers with what it says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from archipel.server.rest.blobs import BlobHash, stream
from archipel.server.rest.bodies import body_of, described
from archipel.server.rest.context import context_of
from archipel.server.rest.permission import Downloading, Reader, Researcher, Steering, StillGood
from archipel.server.rest.submitting import check_submission
from archipel.transport.rest import (
    Arguments,
    Event,
    ExperimentSummary,
    ExperimentView,
    ModelView,
    RoundView,
    Submission,
)
from archipel.vocabulary import NotFound, Thing
from archipel.vocabulary.bounds import EXACT
from archipel.vocabulary.remedies import Nothing
from archipel.vocabulary.states import ControlVerb

router = APIRouter(prefix="/v1/experiments", tags=["experiments"])

Experiment = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


@router.post("", status_code=201, summary="Submit a job", openapi_extra=described(Submission))
async def submit(
    request: Request, token: Researcher, submission: Annotated[Submission, body_of(Submission)]
) -> ExperimentView:
    """The job's blobs (plan, initial model) are stored before, with this token. Each site of the roster is asked for
    its approval. A job that continues another experiment needs the right to download that one's models (403).
    """
    context, blobs = context_of(request), submission.job.blobs
    await check_submission(request, submission.job, token)
    view = await context.experiments.submit(submission.job, token.id)
    context.unused.forget(blobs)
    return view


@router.get("", summary="Every experiment, newest first")
async def experiments(request: Request, _token: Reader) -> Sequence[ExperimentSummary]:
    """One line for each; its job, answers and measurements are in its own document."""
    return await context_of(request).experiments.all()


@router.get("/{experiment}", summary="One experiment")
async def experiment(request: Request, experiment: Experiment, _token: Reader) -> ExperimentView:
    """Its job, state and approvals."""
    return await context_of(request).experiments.get(experiment)


@router.post("/{experiment}/{verb}", summary="Start, pause, resume, step, finish or cancel")
async def control(request: Request, experiment: Experiment, verb: ControlVerb, token: Steering) -> ExperimentView:
    """Answers with the experiment after the change; 403 unless an operator asks or who asked for it, 409 if its state
    does not allow it.
    """
    return await context_of(request).experiments.control(experiment, verb, by=token.actor)


@router.patch(
    "/{experiment}/arguments",
    summary="Change hyper-parameters",
    openapi_extra=described(Arguments),
)
async def set_arguments(
    request: Request, experiment: Experiment, token: Steering, change: Annotated[Arguments, body_of(Arguments)]
) -> ExperimentView:
    """For the rounds to come, and only inside the bounds that the sites approved."""
    return await context_of(request).experiments.set_arguments(experiment, change.arguments, by=token.actor)


@router.get("/{experiment}/rounds", summary="The rounds' records")
async def rounds(request: Request, experiment: Experiment, _token: Reader) -> Sequence[RoundView]:
    """Oldest first: contributors, failures and why, seconds, bytes, metrics."""
    return await context_of(request).experiments.rounds(experiment)


@router.get(
    "/{experiment}/events",
    summary="What happens, as server-sent events or JSON",
    response_model=list[Event],
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events, oldest first"}},
)
async def events(
    *,
    request: Request,
    experiment: Experiment,
    _token: Reader,
    good: StillGood,
    after: Annotated[int, Query(ge=0, lt=EXACT, description="the last sequence number already seen")] = 0,
    follow: Annotated[bool, Query(description="false: JSON of what is there now")] = True,
    last_event_id: Annotated[int | None, Header(ge=0, lt=EXACT)] = None,
) -> list[Event] | StreamingResponse:
    """A client that reconnects names the last event it has seen, by ``after`` or ``Last-Event-ID``."""
    service = context_of(request).experiments
    seen = max(after, last_event_id or 0)
    if not follow:
        return [event async for event in service.events(experiment, seen, False)]
    await service.get(experiment)
    return StreamingResponse(
        _server_sent(service.events(experiment, seen, True), good, context_of(request).federation.limits.keep_alive_s),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/{experiment}/models", summary="The kept models")
async def models(request: Request, experiment: Experiment, _token: Reader) -> Sequence[ModelView]:
    """Names, rounds, hashes and validation metrics."""
    return await context_of(request).experiments.models(experiment)


@router.get("/{experiment}/models/{name}", summary="Download a model", response_class=Response)
async def model(request: Request, experiment: Experiment, name: str, _token: Downloading) -> StreamingResponse:
    """A safetensors file; 403 unless the experiment's researcher asks, or a token with scope models."""
    file, size = await context_of(request).experiments.open_model(experiment, name)
    return stream(file, size, f"{experiment}-{name}")


@router.get("/{experiment}/blobs/{hash}", summary="Download what the job names", response_class=Response)
async def blob(
    request: Request,
    experiment: Experiment,
    hash: BlobHash,  # noqa: A002
    _token: Downloading,
) -> StreamingResponse:
    """A file of the plan, or a part of the initial model. A model is of no use without them, so one permission is for
    all.
    """
    context = context_of(request)
    if hash not in (await context.experiments.get(experiment)).job.blobs:
        thing = Thing.worded(f"blob {hash} of {experiment}", hash=hash, experiment=experiment)
        raise NotFound(thing, "is not in the job", "take a hash from the experiment's job", command=Nothing())
    store = context.federation.blobs
    return stream(store.open(hash), store.size(hash), hash)


async def _server_sent(
    events: AsyncIterator[Event], good: Callable[[], bool], keep_alive_s: float
) -> AsyncIterator[str]:
    """Events in the text/event-stream format, with a comment now and then so that no proxy closes an idle stream.

    The stream ends with the events, and when the caller's token is revoked or expires.
    """
    loop = asyncio.get_running_loop()
    checked = loop.time()
    upcoming = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=keep_alive_s)
            if loop.time() - checked >= keep_alive_s:
                checked = loop.time()
                if not await asyncio.to_thread(good):
                    return
            if not done:
                yield ": still here\n\n"
                continue
            event = upcoming.result()
            if event is None:
                return
            yield f"id: {event.seq}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
            upcoming = asyncio.ensure_future(anext(events, None))
    finally:
        upcoming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await upcoming
