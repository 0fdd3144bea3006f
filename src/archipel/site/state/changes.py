"""The stream of what changed at a site: numbered rows, each written in the transaction of the change itself.

Any number of processes follow it, each from the number that it saw last, so that one which was killed continues where
it was. A follower reads the database for what a change is about; the stream only says that something changed. The rows
before the newest ``KEPT`` are removed, and a follower that needs one of them is told so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, insert, select

from archipel.site.state import schema
from archipel.site.state.change_records import WHAT_CHANGED, Change, WhatChanged
from archipel.storage import Statement, announce, utc_now
from archipel.transport.wakeup import Wakeup
from archipel.vocabulary import NotFound

if TYPE_CHECKING:
    from archipel.site.state.folder import StateFolder

KEPT = 100_000
"""How many changes are kept, the newest: some 20 MB, and months of a site that trains every day."""
_PRUNED_EVERY = 100
"""Rows that are kept no more are removed at every hundredth change, many at once."""
_AT_ONCE = 500
"""How many changes are read in one transaction."""
GATHER_S = 0.05
"""How long a follower waits at least between two looks: what changes meanwhile comes as one burst."""
LOOK_S = 0.5
"""How often a follower looks without being woken: a writer may be killed between its commit and its wake-up."""
_rows = schema.changes
_INSERT = Statement(insert(_rows).returning(_rows.c.number))


class ChangesMissing(NotFound):
    """A follower asked for changes after a number that this site cannot go on from.

    ``newest`` is the number of the newest change there is: a follower that reads the site's state again continues after
    it.
    """

    def __init__(self, site: str, cause: str, newest: int) -> None:
        super().__init__(f"changes of site {site}", cause, f"read the site's state again, then follow after {newest}")
        self.newest = newest


def append(connection: Connection, what: WhatChanged, *, line: int | None = None, kept: int = KEPT) -> Change:
    """Add a change, inside the write transaction of what changed; ``line`` is the journal's line that records it.

    The rows before the newest ``kept`` are removed now and then. Followers are woken when the transaction is committed,
    and the agent too when a person decided something (``DECISIONS``).
    """
    at = utc_now()
    # The database numbers the row, one more than the newest, which is never removed.
    row = {"at": at, "line": line, "what": WHAT_CHANGED.dump_json(what).decode()}
    number = _INSERT.scalar(connection, row)
    if number % _PRUNED_EVERY == 0:
        connection.execute(delete(_rows).where(_rows.c.number <= number - kept))
    announce(connection, what.kind)
    return Change(number=number, at=at, line=line, what=what)


def newest(site: StateFolder) -> int:
    """The number of the newest change, 0 before the first.

    A program that shows a site's state takes this number first, reads the state, and then follows after the number.
    """
    with site.database.read() as connection:
        return connection.scalar(select(func.max(_rows.c.number))) or 0


def read(site: StateFolder, after: int, most: int = _AT_ONCE) -> tuple[Change, ...]:
    """The changes after number ``after``, oldest first, at most ``most`` of them.

    Raises ChangesMissing when some of them are not kept any more, or when there never was a change ``after``.
    """
    with site.database.read() as connection:
        oldest, newest = connection.execute(select(func.min(_rows.c.number), func.max(_rows.c.number))).one()
        if after > (newest or 0):
            cause = f"number {after} is not there, the newest is {newest or 0}: an older backup was restored"
            raise ChangesMissing(site.name, cause, newest or 0)
        if oldest is not None and oldest > after + 1:
            cause = f"numbers {after + 1} to {oldest - 1} are not kept any more"
            raise ChangesMissing(site.name, cause, newest)
        query = select(_rows).where(_rows.c.number > after).order_by(_rows.c.number).limit(most)
        rows = connection.execute(query).mappings().all()
    return tuple(
        Change(number=row["number"], at=row["at"], line=row["line"], what=WHAT_CHANGED.validate_json(row["what"]))
        for row in rows
    )


async def follow(site: StateFolder, after: int, *, look_s: float = LOOK_S) -> AsyncGenerator[Change, None]:
    """Every change after number ``after``, each once and in order, without end; close it after use (``aclosing``).

    It looks when it is woken, and without that every ``look_s`` seconds. Raises ChangesMissing as ``read`` does.
    """
    # The wake-up is there before the first look, so that no change falls between the two.
    wakeup = Wakeup(site.folder, follower=True)
    try:
        async with aclosing(follow_bursts(site, after, wakeup, look_s=look_s)) as bursts:
            async for burst in bursts:
                for change in burst:
                    yield change
    finally:
        wakeup.close()


async def follow_bursts(
    site: StateFolder, after: int, wakeup: Wakeup, *, look_s: float = LOOK_S
) -> AsyncGenerator[tuple[Change, ...], None]:
    """The same, with the changes that came together in one piece, woken by the caller's listener."""
    clock = asyncio.get_running_loop().time
    while True:
        looked = clock()
        burst = await asyncio.to_thread(read, site, after)
        if burst:
            after = burst[-1].number
            yield burst
        if len(burst) < _AT_ONCE:
            await wakeup.wait(look_s)
            await asyncio.sleep(looked + GATHER_S - clock())
