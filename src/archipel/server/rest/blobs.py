"""Endpoints for blobs: content-addressed, streamed both ways, never whole in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, BinaryIO

import structlog
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from archipel.server.rest.context import RestContext, context_of
from archipel.server.rest.permission import Downloader, Reader, Researcher, may_name
from archipel.server.rest.problems import TooLarge
from archipel.storage import BlobWriter
from archipel.transport.rest import BlobView
from archipel.vocabulary import BadInput, NotFound, Thing

router = APIRouter(prefix="/v1/blobs", tags=["blobs"])
_log = structlog.get_logger("archipel.rest")
_LOOKED_EVERY_S = 60.0

BlobHash = Annotated[str, Path(pattern=r"^blake3:[0-9a-f]{64}$")]
CHUNK = 1 << 20


@router.put("/{hash}", summary="Store a blob under the hash of its bytes")
async def put_blob(request: Request, hash: BlobHash, token: Researcher) -> BlobView:  # noqa: A002
    """The body is the blob. A wrong hash, a full disk (507) or a body beyond the limit (413) leaves nothing behind.

    It is deleted after a day unless an experiment names it, and a token may have a limited number of such bytes (413).
    """
    context = context_of(request)
    store, unused, settings = context.federation.blobs, context.unused, context.federation.settings
    limit = settings.blob_limit_mb << 20
    stated = int(request.headers.get("content-length", 0))
    _check_size(hash, stated, limit)
    _check_share(hash, unused.held_with(token.id, stated), settings.unused_blobs_mb)
    with unused.arriving(token.id) as arrival:
        writer: BlobWriter = await asyncio.to_thread(store.writer)
        try:
            async for chunk in _gathered(request.stream()):
                _check_share(hash, arrival.grow(len(chunk)), settings.unused_blobs_mb)
                _check_size(hash, arrival.size, limit)
                await asyncio.to_thread(writer.write, chunk)
            # One that was here and is not counted belongs to an experiment.
            is_new = unused.knows(hash) or not await asyncio.to_thread(store.has, hash)
            await asyncio.to_thread(writer.commit, hash)
            if is_new:
                unused.add(hash, token.id, arrival.size, time.monotonic())
            unused.note_sent(hash, token.id, time.monotonic())
        except ClientDisconnect as error:
            cause = f"was cut off after {arrival.size} bytes"
            raise BadInput(Thing("blob", hash), cause, "send it again", values={"bytes": arrival.size}) from error
        finally:
            await asyncio.to_thread(writer.abort)
    return BlobView(hash=hash, bytes=arrival.size)


@router.head("/{hash}", summary="Whether a job may name a blob, and its length", response_class=Response)
async def head_blob(request: Request, hash: BlobHash, token: Reader) -> Response:  # noqa: A002
    """Ask before a long upload; 404 when it is not here, or when this token neither sent it nor may download it."""
    if not await may_name(request, hash, token):
        raise NotFound(Thing("blob", hash), "was not sent with this access token", "send it")
    size = await asyncio.to_thread(context_of(request).federation.blobs.size, hash)
    return Response(headers={"Content-Length": str(size), "ETag": f'"{hash}"'})


@router.get("/{hash}", summary="Fetch a blob", response_class=Response)
def get_blob(request: Request, hash: BlobHash, _token: Downloader) -> StreamingResponse:  # noqa: A002
    """The blob's bytes. Most blobs are models, so it needs scope models."""
    store = context_of(request).federation.blobs
    return stream(store.open(hash), store.size(hash), hash)


def stream(file: BinaryIO, size: int, name: str) -> StreamingResponse:
    """A response that sends a file's bytes and closes it."""
    headers = {"Content-Length": str(size), "ETag": f'"{name}"'}
    return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=headers)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


async def _gathered(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in larger pieces, so that a write costs one hop to a thread per MiB."""
    gathered = bytearray()
    async for chunk in stream:
        gathered += chunk
        if len(gathered) >= CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


async def end_unused(context: RestContext) -> None:
    """Delete, once a minute until cancelled, the blobs that no experiment has named for too long."""
    while True:
        try:
            await delete_unused(context, time.monotonic())
        except Exception as error:
            _log.error("could not delete unused blobs", error=str(error), exc_info=error)
        await asyncio.sleep(_LOOKED_EVERY_S)


async def delete_unused(context: RestContext, now: float) -> None:
    """Delete the blobs that no experiment has named for too long."""
    ended = context.unused.take_sent_before(now - context.federation.limits.unused_blob_s)
    if not ended:
        return
    try:
        await context.experiments.delete_unnamed(ended)
    except BaseException:
        context.unused.give_back(ended)
        raise
    _log.info("blobs that no experiment names are deleted", count=len(ended))


def _check_share(blob: str, held: int, most_mb: int) -> None:
    if held > most_mb << 20:
        raise TooLarge(
            Thing("blob", blob),
            f"is too much: this access token would have {held >> 20} MiB that no experiment names",
            f"submit the jobs that need the others, wait until they are deleted, or raise unused_blobs_mb ({most_mb}) "
            "there",
            values={"bytes": held, "limit": most_mb << 20},
        )


def _check_size(blob: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(
            Thing("blob", blob),
            f"is longer than the {limit >> 20} MiB this server accepts",
            "raise blob_limit_mb there",
            values={"bytes": size, "limit": limit},
        )
