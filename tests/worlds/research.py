"""A served federation with three sites, in a thread, for a researcher's blocking calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archipel.server.membership.federation import ServerContext
from archipel.transport.messages import DatasetSummary
from worlds.people import OLGA
from worlds.scripted_experiments import ScriptedExperiments
from worlds.server import Applicant, make_server, serving

TINY_PLAN = Path(__file__).parents[2] / "examples" / "tiny_numpy.py"


@dataclass
class World:
    """A served federation with three sites, of which two are connected."""

    federation: ServerContext
    folder: Path
    experiments: ScriptedExperiments = field(default_factory=ScriptedExperiments)

    @property
    def url(self) -> str:
        return self.federation.settings.rest_url

    @property
    def ca(self) -> Path:
        path = self.folder / "ca.pem"
        path.write_text(self.federation.authority.pem)
        return path

    def token(self, *scopes: str) -> str:
        now = datetime.now(UTC)
        return self.federation.tokens.create("anna", scopes or ("research",), timedelta(days=1), now, by=OLGA)[0]


def enrol(federation: ServerContext, site: str, datasets: list[DatasetSummary]) -> None:
    Applicant(site).enrol(federation)
    federation.registry.set_datasets(site, datasets)


@contextmanager
def served(folder: Path) -> Iterator[World]:
    with make_server(folder / "server", hosts=("127.0.0.1",)) as federation:
        for index, site in enumerate(("site-a", "site-b", "site-c")):
            enrol(federation, site, [DatasetSummary(name="table", kind="arrays", subjects=20 + index)])
        world = World(federation, folder)
        ready, stop = threading.Event(), threading.Event()

        async def serve() -> None:
            async with serving(federation, world.experiments, frozenset({"site-a", "site-b"})):
                ready.set()
                await asyncio.to_thread(stop.wait)
                for task in world.experiments.playing:
                    task.cancel()

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            assert ready.wait(20)
            yield world
        finally:
            world.experiments.hold.set()
            stop.set()
            thread.join(20)
