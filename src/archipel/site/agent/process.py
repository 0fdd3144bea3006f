"""The agent's process: one link out, one agent, a wake-up; until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import structlog

from archipel.site.agent import link_status
from archipel.site.agent.agent import Agent
from archipel.site.agent.connection import ServerConnection
from archipel.site.membership.renewal import renew_when_due
from archipel.site.state.folder import StateFolder
from archipel.transport import process_memory
from archipel.transport.wakeup import Wakeup

_log = structlog.get_logger("archipel.site")


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
    link, stop = ServerConnection(site), asyncio.Event()
    agent = Agent(site, link)
    agent.start()
    link_status.note(site, "the server has not been reached yet")
    bell = Wakeup(site.folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [
        asyncio.create_task(link.run(agent.take, agent.reporting.datasets)),
        asyncio.create_task(_listen(bell, agent, link)),
        asyncio.create_task(renew_when_due(site, link)),
        asyncio.create_task(stop.wait()),
    ]
    process_memory.freeze_gc()
    _log.info("site started", site=site.name, federation=site.joined().name)
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await agent.stop()
    for task in pending:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    bell.close()
    for task in done:
        task.result()


async def _listen(bell: Wakeup, agent: Agent, link: ServerConnection) -> None:
    """Act on what the command line changed."""
    while True:
        await bell.wait()
        link.redial()
        try:
            await agent.decided()
        except Exception as error:
            # A full disk, say. The database still holds what was decided, and it is looked at again.
            _log.error("could not act on what changed here", exc_info=error)
