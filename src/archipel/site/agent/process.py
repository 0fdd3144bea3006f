"""The agent's process: one connection, one agent, and the changes at its site, until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import structlog

from archipel.site.agent import link_status
from archipel.site.agent.agent import Agent
from archipel.site.agent.connection import ServerConnection
from archipel.site.membership import renew_when_due
from archipel.site.sandbox import sandbox_problem
from archipel.site.state import DECISIONS, SandboxRule, StateFolder, changes
from archipel.transport import process_memory
from archipel.transport.wakeup import Wakeup

_log = structlog.get_logger("archipel.site")
AGAIN_S = 5.0
"""How long to wait before the changes are read again after they could not be read (a full disk, say)."""


def run(folder: Path) -> None:
    """Run the site kept in this folder until SIGTERM or SIGINT."""
    os.umask(0o077)
    process_memory.single_arena()
    site = StateFolder.open(folder)
    try:
        site.joined()
        with site.held():
            asyncio.run(_serve(site))
    finally:
        site.close()


async def _serve(site: StateFolder) -> None:
    link, stop, newest = ServerConnection(site), asyncio.Event(), changes.newest(site)
    agent = Agent(site, link)
    agent.start()
    link_status.note(site.database, "the server has not been reached yet")
    listener = Wakeup(site.folder)

    async def decided() -> None:
        link.redial()
        await agent.decided()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [
        asyncio.create_task(link.run(agent.take, agent.reporting.datasets)),
        asyncio.create_task(follow_decisions(site, newest, listener, decided)),
        asyncio.create_task(renew_when_due(site, link)),
        asyncio.create_task(stop.wait()),
    ]
    trying = asyncio.create_task(warn_without_sandbox(site.settings.sandbox))
    process_memory.freeze_gc()
    _log.info("site started", site=site.name, federation=site.joined().name)
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in (*pending, trying):
        task.cancel()
    await agent.stop()
    for task in (*pending, trying):
        with contextlib.suppress(asyncio.CancelledError):
            await task
    listener.close()
    for task in done:
        task.result()


async def warn_without_sandbox(rule: SandboxRule) -> None:
    """Say in the log why no plan can run here, or why one would run without a sandbox; nothing where there is one."""
    problem = await asyncio.to_thread(sandbox_problem)
    if problem is None:
        return
    if rule is SandboxRule.REQUIRED:
        _log.warning("no plan can run here until this is fixed", sandbox=str(problem))
    else:
        _log.warning("plans run here WITHOUT a sandbox, as site.toml says", sandbox=str(problem))


async def follow_decisions(
    site: StateFolder,
    after: int,
    listener: Wakeup,
    decided: Callable[[], Awaitable[None]],
    *,
    look_s: float = changes.LOOK_S,
) -> None:
    """Call ``decided`` for each burst of changes after number ``after`` in which people of this site decided something.

    An error is logged, and ``decided`` is called all the same: it reads what was decided from the database, so that
    an unreadable change, such as one of a newer version, does not hide a revocation.
    """
    while True:
        try:
            async with aclosing(changes.follow_bursts(site, after, listener, look_s=look_s)) as bursts:
                async for burst in bursts:
                    after = burst[-1].number
                    if any(change.kind in DECISIONS for change in burst):
                        await _act(decided)
        except changes.ChangesMissing as error:
            # What was decided is read from the database, whichever changes are gone.
            after = error.newest
            await _act(decided)
        except Exception as error:
            _log.error("could not follow what changes here", exc_info=error)
            await _act(decided)
            await asyncio.sleep(AGAIN_S)


async def _act(decided: Callable[[], Awaitable[None]]) -> None:
    try:
        await decided()
    except Exception as error:
        _log.error("could not act on what changed here", exc_info=error)
