"""Endpoints for blobs: content-addressed, streamed both ways, never whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from archipel.server.rest.context import context_of
from archipel.server.rest.permission import Reader, Researcher
from archipel.server.rest.problems import TooLarge
from archipel.storage import BlobWriter
from archipel.transport.rest import BlobView
from archipel.vocabulary import BadInput, Thing

router = APIRouter(prefix="/v1/blobs", tags=["blobs"])

BlobHash = Annotated[str, Path(pattern=r"^blake3:[0-9a-f]{64}$")]
CHUNK = 1 << 20


@router.put("/{hash}", summary="Store a blob under the hash of its bytes")
async def put_blob(request: Request, hash: BlobHash, _token: Researcher) -> BlobView:  # noqa: A002
    """The body is the blob. A wrong hash, a full disk (507) or a body beyond the limit (413) leaves nothing behind."""
    context = context_of(request)
    store, limit = context.federation.blobs, context.federation.settings.blob_limit_mb << 20
    _check_size(hash, int(request.headers.get("content-length", 0)), limit)
    writer: BlobWriter = await asyncio.to_thread(store.writer)
    size = 0
    try:
        async for chunk in _gathered(request.stream()):
            size += len(chunk)
            _check_size(hash, size, limit)
            await asyncio.to_thread(writer.write, chunk)
        await asyncio.to_thread(writer.commit, hash)
    except ClientDisconnect as error:
        raise BadInput(
            Thing("blob", hash), f"was cut off after {size} bytes", "send it again", values={"bytes": size}
        ) from error
    finally:
        await asyncio.to_thread(writer.abort)
    return BlobView(hash=hash, bytes=size)


@router.head("/{hash}", summary="Whether a blob is here, and its length", response_class=Response)
def head_blob(request: Request, hash: BlobHash, _token: Reader) -> Response:  # noqa: A002
    """Ask before a long upload; 404 when it is not here."""
    size = context_of(request).federation.blobs.size(hash)
    return Response(headers={"Content-Length": str(size), "ETag": f'"{hash}"'})


@router.get("/{hash}", summary="Fetch a blob", response_class=Response)
def get_blob(request: Request, hash: BlobHash, _token: Reader) -> StreamingResponse:  # noqa: A002
    """The blob's bytes."""
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


def _check_size(blob: str, size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(
            Thing("blob", blob),
            f"is longer than the {limit >> 20} MiB this server accepts",
            "raise blob_limit_mb there",
            values={"bytes": size, "limit": limit},
        )
