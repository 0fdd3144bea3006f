"""A federation on this machine: real processes, real mutual TLS, real sandboxes; everything listens on 127.0.0.1."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from archipel.data import DataMapping
from archipel.lab.ports import HOST, free_port
from archipel.server.membership import ServerContext as ServerFederation
from archipel.server.state import ServerSettings, ServerState
from archipel.site.approval import offers
from archipel.site.membership import create_site, enrolment
from archipel.site.services import approvals, datasets
from archipel.site.state import SandboxRule, StateFolder
from archipel.vocabulary import Actor, ArchipelError, ErrorCode, NotFound

START_S = 60.0


@dataclass
class Running:
    """A process of the federation: how it was started, and the file of its output."""

    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "archipel", *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
            )

    @property
    def pid(self) -> int:
        """Its process id. Raises ArchipelError when it was not started."""
        if self.process is None:
            raise ArchipelError(" ".join(self.arguments), "was not started", "start it first")
        return self.process.pid

    def kill(self) -> None:
        """kill -9, as a crash would."""
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """Stop it with SIGTERM, as an operator would."""
        self.send(signal.SIGTERM)
        self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self) -> None:
        """Wait for its end; one that takes more than 20 s is killed."""
        if self.process is not None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def check(self) -> None:
        """Raise ArchipelError, with the end of its log, when it is not running any more."""
        if self.process is not None and self.process.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise ArchipelError(" ".join(self.arguments), f"ended by itself:\n{tail}", f"read {self.log}")


@dataclass
class LocalSite:
    """One virtual hospital."""

    name: str
    folder: Path
    running: Running

    def state(self) -> StateFolder:
        """Its state folder, opened; close it after use."""
        return StateFolder.open(self.folder)

    def approve(self, experiment: str) -> None:
        """Approve as its data manager would, as soon as the offer and the plan are here."""

        def ready() -> bool:
            site = self.state()
            try:
                offer = offers.offered(site.database, experiment)
                return offers.plan_files(site.blobs, offer.job) is not None
            except NotFound:
                return False
            finally:
                site.close()

        wait_for(ready, f"{self.name} to be offered {experiment}", self.running.check)
        site = self.state()
        try:
            asked = approvals.prepare(site, experiment)
            approvals.approve(
                site,
                experiment,
                job_hash=asked.job_hash,
                cohort_hash=asked.cohort_hash,
                by=Actor.of_terminal(),
            )
        finally:
            site.close()


@dataclass
class LocalFederation:
    """A server and its sites in one folder. Use it as a context manager: it ends every process it started."""

    folder: Path
    settings: ServerSettings
    server: Running
    token: str
    sites: dict[str, LocalSite] = field(default_factory=dict)

    @classmethod
    def create(cls, folder: Path, name: str = "lab", **settings: Any) -> Self:
        """Make the server's state and a researcher's token; start nothing yet."""
        chosen = ServerSettings(
            name=name, hosts=(HOST,), rest_port=free_port(), grpc_port=free_port(), **{"heartbeat_s": 5.0, **settings}
        )
        state = ServerState(folder / "server")
        folder.mkdir(parents=True, exist_ok=True)
        with ServerFederation.create(state, chosen, by=Actor.of_terminal()) as federation:
            token, _ = federation.tokens.create(
                "researcher", ("research",), timedelta(days=1), datetime.now(UTC), by=Actor.of_terminal()
            )
        running = Running(["server", "start", "--state", str(state.root)], folder / "server.log")
        return cls(folder, chosen, running, token)

    @property
    def authority(self) -> Path:
        """The CA certificate that clients of the REST interface trust."""
        return ServerState(self.folder / "server").ca_certificate

    @property
    def url(self) -> str:
        """The address of the REST interface."""
        return self.settings.rest_url

    def start_server(self) -> None:
        """Start the server and wait until it answers."""
        self.server.start()

        def healthy() -> bool:
            try:
                reply = httpx.get(f"{self.url}/v1/health", verify=_trust(self.authority), timeout=5)
            except httpx.HTTPError:
                return False
            return reply.status_code == 200

        wait_for(healthy, "the server to answer", self.server.check)

    def add_site(
        self,
        name: str,
        root: Path,
        *,
        layout: str,
        dataset: str = "data",
        labels: dict[str, str] | None = None,
        sandbox: SandboxRule = SandboxRule.REQUIRED,
        **settings: Any,
    ) -> LocalSite:
        """``join_site``, and a dataset."""
        joined = self.join_site(name, sandbox=sandbox, **settings)
        site = joined.state()
        try:
            mapping = DataMapping(label_names=labels or {})
            datasets.add(site, dataset, root, layout, by=Actor.of_terminal(), mapping=mapping)
        finally:
            site.close()
        return joined

    def join_site(self, name: str, *, sandbox: SandboxRule = SandboxRule.REQUIRED, **settings: Any) -> LocalSite:
        """Make a site and join it; the server must run. ``settings`` are keys of ``site.toml``."""
        folder = self.folder / name
        site = create_site(folder, name)
        try:
            with ServerFederation.open(ServerState(self.folder / "server")) as federation:
                token = federation.enrolment.create_token(name, by=Actor.of_terminal()).encode()
            enrolment.join(site, token)
        finally:
            site.close()
        path = folder / "site.toml"
        text = path.read_text().replace('sandbox = "required"', f'sandbox = "{sandbox.value}"')
        for key, value in settings.items():
            others = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
            text = "\n".join([f"{key} = {value}", *others])
        path.write_text(text)
        running = Running(["site", "start", "--state", str(folder)], self.folder / f"{name}.log")
        self.sites[name] = LocalSite(name, folder, running)
        return self.sites[name]

    def start_site(self, name: str) -> None:
        """Start a site's agent; it connects by itself."""
        self.sites[name].running.start()

    def start_sites(self) -> None:
        """Start every agent and wait until the server sees all of them."""
        for name in self.sites:
            self.start_site(name)
        self.wait_connected(set(self.sites))

    def wait_connected(self, names: set[str]) -> None:
        """Wait until the server says that these sites are connected."""

        def connected() -> bool:
            reply = self.get("/v1/sites")
            return names <= {one["site"] for one in reply if one["connected"]}

        def check() -> None:
            for name in names:
                self.sites[name].running.check()

        # All of them import at once, on as many processors as there are.
        wait_for(connected, f"{', '.join(sorted(names))} to connect", check, START_S + 10 * len(names))

    def client(self) -> httpx.Client:
        """A client of the REST interface with the researcher's token; close it after use."""
        headers = {"Authorization": f"Bearer {self.token}"}
        # An idle connection is closed here before the server closes it, which it does after 5 s: no call meets that.
        limits = httpx.Limits(keepalive_expiry=2)
        return httpx.Client(
            base_url=self.url, verify=_trust(self.authority), headers=headers, timeout=30, limits=limits
        )

    def get(self, path: str) -> Any:
        """The JSON at a path of the REST interface, over one connection. Raises httpx.HTTPError."""
        return self._reader.get(path).raise_for_status().json()

    @cached_property
    def _reader(self) -> httpx.Client:
        """Who waits for something asks many times a second; a TLS handshake each time would be most of the work."""
        return self.client()

    def close(self) -> None:
        """Stop every process that was started: the sites together, then the server."""
        if "_reader" in self.__dict__:
            self._reader.close()
            del self._reader
        for site in self.sites.values():
            site.running.send(signal.SIGTERM)
        for site in self.sites.values():
            site.running.wait()
        self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def wait_for(ready: Callable[[], bool], what: str, check: Callable[[], None], seconds: float = START_S) -> None:
    """Wait until ``ready``; ``check`` may raise to end the waiting. Raises ArchipelError when the time is over."""
    until = time.monotonic() + seconds
    while not ready():
        check()
        if time.monotonic() > until:
            cause = f"took more than {seconds:.0f} s"
            raise ArchipelError(f"waiting for {what}", cause, "read the logs", code=ErrorCode.LOST)
        time.sleep(0.1)


def _trust(authority: Path) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(authority))
