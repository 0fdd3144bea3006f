"""A federation of real processes for tests: run an experiment, look into both sides' records, cut the wire between."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from archipel.lab import LocalFederation
from archipel.lab.ports import HOST
from archipel.plans import draft
from archipel.tensors import blob_hash
from archipel.vocabulary import Job, RosterEntry, RoundTerms
from worlds.wire import Wire

PLANS = Path(__file__).with_name("slow_plan.py")
TINY = Path(__file__).parents[2] / "examples" / "tiny_numpy.py"
SITES = ("site-a", "site-b")


def wait(true: Callable[[], Any], what: str, seconds: float = math.inf, every: float = 0.02) -> Any:
    """What ``true`` returns once it is something. Pytest's own timeout ends a wait that names no ``seconds``."""
    until = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(every)
    return found


def write_table(folder: Path, site: str, seed: int = 0) -> Path:
    """A little table of format npz."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng([seed, *site.encode()])
    x = draw.normal(size=(40, 8))
    names = np.array([f"{site}-{number:03d}" for number in range(40)])
    np.savez(folder / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=names)
    return folder


class World:
    """A running federation of two sites."""

    def __init__(self, folder: Path, lab: LocalFederation, wire: Wire | None = None) -> None:
        self.folder, self.lab, self.wire = folder, lab, wire

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        folder: Path,
        *,
        relayed: bool = False,
        write_data: Callable[[Path, str], Path] = write_table,
        **site_settings: Any,
    ) -> Iterator[World]:
        """A server and two connected sites, over a wire that can be shut when ``relayed``."""
        wire = Wire() if relayed else None
        settings: dict[str, Any] = {"heartbeat_s": 1.0}
        if wire is not None:
            settings["public_grpc"] = f"{HOST}:{wire.port}"
        lab = LocalFederation.create(folder / "lab", **settings)
        if wire is not None:
            wire.target = lab.settings.grpc_port
            wire.start()
        with lab:
            lab.start_server()
            for site in SITES:
                data = write_data(folder / "data" / site, site)
                quick = {"reconnect_first_s": 0.1, "reconnect_longest_s": 0.5}
                lab.add_site(site, data, layout="npz", **quick, **site_settings)
            lab.start_sites()
            yield cls(folder, lab, wire)
        if wire is not None:
            wire.close()

    def submit(
        self, name: str, plan: Path = PLANS, class_name: str | None = "SlowPlan", *, approve: bool = True, **more: Any
    ) -> Job:
        """Submit an experiment and have it approved everywhere."""
        sites = self.lab.get("/v1/sites")
        roster = [
            RosterEntry(site=one["site"], identity_key=one["identity_key"], dataset="data")
            for one in sites
            if one["site"] in self.lab.sites
        ]
        terms = {"rounds": 3, "quorum": 2, "deadline_s": 60, "grace_s": 30, **more.pop("terms", {})}
        made = draft(
            plan,
            experiment=name,
            roster=roster,
            server_key=self.lab.get("/v1/federation")["server_key"],
            class_name=class_name,
            terms=RoundTerms(**terms),
            **more,
        )
        with self.lab.client() as client:
            for data in made.blobs.values():
                client.put(f"/v1/blobs/{blob_hash(data)}", content=data).raise_for_status()
            reply = client.post("/v1/experiments", json={"job": made.job.model_dump(mode="json")})
            assert reply.is_success, reply.text
        if approve:
            for site in made.job.sites:
                self.lab.sites[site].approve(name)
            self.wait_approved(name, len(made.job.sites))
        return made.job

    def wait_approved(self, name: str, count: int) -> None:
        def approved() -> bool:
            return [one["state"] for one in self.show(name)["approvals"]].count("approved") == count

        wait(approved, f"{name} to be approved")

    def show(self, name: str) -> Any:
        return self.lab.get(f"/v1/experiments/{name}")

    def rounds(self, name: str) -> Any:
        return self.lab.get(f"/v1/experiments/{name}/rounds")

    def do(self, name: str, verb: str) -> None:
        with self.lab.client() as client:
            reply = client.post(f"/v1/experiments/{name}/{verb}")
            assert reply.is_success, reply.text

    def wait_state(self, name: str, state: str = "finished", seconds: float = math.inf) -> Any:
        def reached() -> Any:
            try:
                shown = self.show(name)
            except httpx.HTTPError:
                return None
            elsewhere = {"finished", "paused", "cancelled"} - {state}
            assert shown["state"] not in elsewhere, (shown["state"], shown["reason"])
            return shown if shown["state"] == state else None

        return wait(reached, f"{name} to be {state}", seconds, every=0.05)

    def run(self, name: str, *arguments: Any, **more: Any) -> Any:
        """A whole experiment, undisturbed."""
        self.submit(name, *arguments, **more)
        self.do(name, "start")
        return self.wait_state(name)

    def model(self, name: str, which: str = "last") -> str:
        """The hash of one of its models."""
        found = {one["name"]: one["hash"] for one in self.lab.get(f"/v1/experiments/{name}/models")}
        return str(found[which])

    # What both sides have on record, read without waking anybody

    def site_lines(self, site: str, experiment: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        found = _rows(self.lab.sites[site].folder / "site.db", "select kind, body from journal order by number")
        lines = [(kind, json.loads(body)) for kind, body in found]
        return [one for one in lines if experiment is None or one[1].get("experiment") == experiment]

    def server_lines(self, experiment: str | None = None) -> list[tuple[str, dict[str, Any]]]:
        found = _rows(self.database, "select kind, body from journal order by number")
        lines = [(kind, json.loads(body)) for kind, body in found]
        return [one for one in lines if experiment is None or one[1].get("experiment") == experiment]

    def query(self, query: str, *values: str) -> list[Any]:
        """Rows of the server's database."""
        return _rows(self.database, query, *values)

    @property
    def database(self) -> Path:
        return next((self.lab.folder / "server").glob("*.db"))

    def made(self, site: str, experiment: str) -> Counter[tuple[str, int, str]]:
        """How often each update was made at a site."""
        lines = self.site_lines(site, experiment)
        return Counter((body["kind"], body["round"], body["about"]) for kind, body in lines if kind == "update-made")

    def seen(self, site: str, experiment: str, kind: str, round_: int = 1) -> bool:
        return any(what == kind and body.get("round") == round_ for what, body in self.site_lines(site, experiment))

    def heard(self, experiment: str, kind: str, round_: int = 1, site: str | None = None) -> bool:
        return any(
            what == kind and body.get("round") == round_ and site in (None, body.get("site"))
            for what, body in self.server_lines(experiment)
        )

    # Faults

    def kill_server(self) -> None:
        self.lab.server.kill()

    def start_server(self) -> None:
        self.lab.start_server()

    def kill_site(self, site: str) -> None:
        self.lab.sites[site].running.kill()

    def start_site(self, site: str) -> None:
        self.lab.start_site(site)

    def restore(self) -> None:
        """Start again what a failed test left dead."""
        for running, start in [
            (self.lab.server, self.start_server),
            *((self.lab.sites[site].running, lambda site=site: self.start_site(site)) for site in SITES),
        ]:
            if running.process is None or running.process.poll() is not None:
                start()
        self.lab.wait_connected(set(SITES))

    def workers(self, site: str) -> list[int]:
        """The processes below a site's agent."""
        import psutil

        return [one.pid for one in psutil.Process(self.lab.sites[site].running.pid).children(recursive=True)]

    def check_undisturbed(self, name: str, reference: str, rounds: int = 3) -> None:
        """The experiment finished as an undisturbed one did, in first attempts, and nothing was made twice."""
        records = self.rounds(name)
        assert [(one["round"], one["attempt"], one["state"]) for one in records] == [
            (number, 1, "committed") for number in range(1, rounds + 1)
        ], records
        assert self.model(name) == self.model(reference)
        for site in SITES:
            assert set(self.made(site, name).values()) == {1}, self.made(site, name)


def _rows(database: Path, query: str, *values: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=15)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
