"""Who is connected is known outside the serving process, and when a site was last seen is noted while it is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest

from archipel.server.membership.federation import ServerContext
from archipel.server.sites import presence
from archipel.server.state.limits import ServerLimits
from archipel.transport.wakeup import Wakeup
from worlds.server import Applicant


@pytest.fixture
def running(federation: ServerContext) -> Iterator[None]:
    bell = Wakeup(federation.state.root)
    yield
    bell.close()


async def following(
    federation: ServerContext, streams: set[str], until: Callable[[], bool], last_seen_s: float = 3600.0
) -> None:
    limits = ServerLimits(presence_s=0.01, last_seen_s=last_seen_s)
    task = asyncio.create_task(presence.follow(federation.state, federation.registry, limits, lambda: set(streams)))
    while not until():  # noqa: ASYNC110 - what it waits for is in a file
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def test_nobody_is_known_to_be_connected_where_no_server_runs(federation: ServerContext) -> None:
    presence.note(federation.state, {"berlin"})
    assert presence.read(federation.state) is None


@pytest.mark.usefixtures("running")
def test_a_damaged_note_says_nothing(federation: ServerContext) -> None:
    assert presence.read(federation.state) == frozenset()
    (federation.state.root / "connected.json").write_text("{ half")
    assert presence.read(federation.state) == frozenset()


@pytest.mark.usefixtures("running")
async def test_sites_that_come_and_go_are_noted(federation: ServerContext, enrolled: Applicant) -> None:
    streams = {"berlin"}
    await following(federation, streams, lambda: presence.read(federation.state) == {"berlin"})
    streams.clear()
    await following(federation, streams, lambda: presence.read(federation.state) == frozenset())


@pytest.mark.usefixtures("running")
async def test_a_site_that_stays_is_seen_again_and_again_and_one_that_leaves_once_more(
    federation: ServerContext, enrolled: Applicant
) -> None:

    def seen() -> str:
        return federation.registry.site("berlin").last_seen or ""

    times: set[str] = set()
    await following(federation, {"berlin"}, lambda: bool(times.add(seen()) or len(times - {""}) > 2), 0.02)
    streams, before = {"berlin"}, seen()
    await following(federation, streams, lambda: seen() != before)
    times = {seen()}

    def left() -> bool:
        """Seen when the following began and its stream ended there, then once more."""
        times.add(seen())
        if len(times) > 1:
            streams.clear()
        return len(times) > 2 and presence.read(federation.state) == frozenset()

    await following(federation, streams, left)
