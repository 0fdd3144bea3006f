"""Which sites are connected, kept where the command line finds it while the server runs in another process.

The serving process lists its open streams, which end when three heartbeats are missed: one small file in the state
folder is written when they change, and once a minute one transaction notes when the connected sites were last seen.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection

import structlog
from pydantic import ValidationError

from archipel.server.membership import MemberRegistry
from archipel.server.state import ServerLimits, ServerState
from archipel.storage import write_private
from archipel.transport.wakeup import wake
from archipel.vocabulary import Record, SiteName

_log = structlog.get_logger("archipel.server")
_NAME = "connected.json"


class Presence(Record):
    """The connected sites, by name."""

    sites: tuple[SiteName, ...]


def read(state: ServerState) -> frozenset[str] | None:
    """The sites that are connected now; None when no process serves the folder."""
    if not wake(state.root):
        return None
    try:
        return frozenset(Presence.model_validate(json.loads((state.root / _NAME).read_bytes())).sites)
    except (OSError, ValueError, ValidationError):
        return frozenset()


def note(state: ServerState, sites: Collection[str]) -> None:
    """Keep which sites are connected now."""
    write_private(state.root / _NAME, Presence(sites=tuple(sorted(sites))).model_dump_json().encode())


async def follow(
    state: ServerState, registry: MemberRegistry, limits: ServerLimits, connected: Callable[[], Collection[str]]
) -> None:
    """Keep the file and the times until cancelled. What a full disk refuses is written a minute later."""
    clock = asyncio.get_running_loop().time
    before: frozenset[str] | None = None
    noted = clock()
    while True:
        now = frozenset(connected())
        due = clock() - noted >= limits.last_seen_s
        if due or now != before:
            seen = now if due or before is None else before - now
            try:
                await asyncio.to_thread(note, state, now)
                await asyncio.to_thread(registry.seen, sorted(seen))
            except Exception as error:
                _log.error("could not record which sites are connected", error=str(error))
            before, noted = now, clock() if due else noted
        await asyncio.sleep(limits.presence_s)
