"""Delivery: a finished update on its way to the server, until the server has it or its round is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

import structlog

from archipel.site.agent.connection import ServerConnection
from archipel.site.audit import journal
from archipel.site.execution import SiteTaskStore
from archipel.site.state import StateFolder
from archipel.tasks import LocalUpdate
from archipel.transport import CHUNK, UploadStart
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Thing
from archipel.vocabulary.remedies import Nothing

_log = structlog.get_logger("archipel.delivery")
_AGAIN = frozenset({ErrorCode.LOST, ErrorCode.DISK_FULL, ErrorCode.INTERNAL})


async def deliver(site: StateFolder, store: SiteTaskStore, link: ServerConnection, made: LocalUpdate) -> None:
    """Send an update; after a break it continues at that byte, and so does an agent that was started again.

    An update of one chunk is sent without asking how much is there. Raises ArchipelError when the server refuses it or
    its round ends first.
    """
    whole, offset, logged = False, 0, ""
    long = made.update.model_bytes > CHUNK
    while True:
        head = await asyncio.to_thread(journal.signed_head, site)
        start = UploadStart(update=made.update, head=head.model_dump(mode="json"))
        try:
            if long and not whole:
                offset = (await link.offset(start)).offset
            with _tensor_file(made) as file:
                await link.upload(start.model_copy(update={"offset": offset}), file)
        except ArchipelError as error:
            if error.code in _AGAIN:
                if str(error) != logged:
                    logged = str(error)
                    _log.warning("update not sent yet", task=str(made.update.key), error=logged)
                await link.pause()
                continue
            if error.code is ErrorCode.BAD_UPDATE and offset and not whole:
                # The part that the server had may be damaged there; sending all of it repairs that.
                whole, offset = True, 0
                continue
            raise
        store.sent(made.update.key)
        return


@contextmanager
def _tensor_file(made: LocalUpdate) -> Iterator[FileIO | None]:
    if made.tensor_file is None:
        yield None
        return
    try:
        opened = made.tensor_file.open("rb", buffering=0)
    except FileNotFoundError as error:
        # An update's file is removed only when the result of its round is known.
        raise Conflict(
            Thing.worded(f"update for {made.update.key}", task=made.update.key),
            "its round is closed",
            "no action is needed",
            code=ErrorCode.ROUND_CLOSED,
            command=Nothing(),
        ) from error
    with opened as file:
        yield file
