"""What ``archipel bench kills`` sees of a federation and does to it: points of an experiment, kills, reasons.

The records of server and sites are read from their databases, so that looking wakes nobody and needs no server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from archipel.lab.processes import LocalFederation, Running
from archipel.site.sandbox import measure

LOOK_S = 0.002
STARTS = "start of a worker"
YOUNG_S = 0.5
"""A sandbox that is younger has a worker that starts."""
ENDS = {"finished", "paused", "cancelled"}
STOPS = {"site-failed", "experiment-paused", "experiment-cancelled", "round-cancelled"}
Line = tuple[str, dict[str, Any]]
"""The kind and the body of a journal line."""


class Kill(NamedTuple):
    """One kill: of what, at which site (for the server none is meant), when."""

    victim: str
    site: str
    phase: str
    round: int
    delay_s: float


class Waited(Exception):
    """A run took longer than it may."""


class Watched:
    """One experiment of a federation, while its processes are killed."""

    def __init__(self, lab: LocalFederation, experiment: str) -> None:
        self._lab, self._experiment = lab, experiment

    def wait_for(self, kill: Kill, until: float) -> bool:
        """Wait for the point at which this kill is due; False when it was missed. Raises Waited."""
        missed = partial(self._at_site, kill._replace(round=kill.round + 1), "task-accepted")
        is_start = kill.phase == STARTS
        self._wait(
            lambda: self._is_due(kill) or self.ended() or (is_start and missed()),
            f"{kill.phase} of round {kill.round}",
            until,
        )
        return self._is_due(kill)

    def ended(self) -> bool:
        """Whether the server's records say that the experiment is over."""
        kinds = {kind for kind, _ in self._server()}
        return bool(kinds & {f"experiment-{state}" for state in ENDS})

    def end(self, until: float) -> tuple[str, str]:
        """The state in which the experiment ends, and why. Raises Waited."""

        def state() -> Any:
            with contextlib.suppress(httpx.HTTPError):
                shown = self._lab.get(f"/v1/experiments/{self._experiment}")
                return (shown["state"], shown["reason"] or "") if shown["state"] in ENDS else None
            return None

        found: tuple[str, str] = self._wait(state, "its end", until, every=0.05)
        return found

    def kill(self, kill: Kill) -> bool:
        """Kill it, and start it again where that is not an agent's work; False when there is no such process now."""
        if kill.victim == "server":
            self._lab.server.kill()
            self._lab.start_server()
            return True
        running = self._lab.sites[kill.site].running
        if kill.victim == "agent":
            running.kill()
            running.start()
            return True
        # A sandbox's first process is the agent's child; the worker itself is the last one below that.
        mine = self._sandboxes_of(kill.site)
        if not mine:
            return False
        victim = measure(mine[-1]).processes[-1] if kill.victim == "worker" else mine[-1]
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            return True
        return False

    def restart(self) -> None:
        """Wait until the server and all agents are up."""
        for running in self._running():
            running.check()
        self._lab.wait_connected(set(self._lab.sites))

    def reasons(self, kills: Iterable[Kill]) -> tuple[list[str], list[str]]:
        """What server and sites have on record beside success, and what of it is not true of these kills."""
        told, false = judged(self._server(), kills)
        for site in self._lab.sites:
            twice = [key for key, count in self._updates(site).items() if count > 1]
            false += [f"{site} made the update of {key} twice" for key in twice]
        return [f"{self._experiment}: {one}" for one in told], [f"{self._experiment}: {one}" for one in false]

    def _sandboxes_of(self, site: str) -> list[int]:
        """The first processes of the sandboxes of this site's agent, oldest first."""
        agent = self._lab.sites[site].running.pid
        return [pid for pid in sandboxes(self._lab.folder) if parent(pid) == agent]

    def _is_due(self, kill: Kill) -> bool:
        match kill.phase:
            case "start of a worker":
                return any(_age_s(pid) < YOUNG_S for pid in self._sandboxes_of(kill.site))
            case "training":
                return self._at_site(kill, "task-accepted")
            case "upload":
                return self._at_site(kill, "update-made")
            case "close of a round":
                return self._at_server(kill, "update-received") >= len(self._lab.sites)
            case "between rounds":
                return self._at_server(kill, "round-closed") > 0
            case _:
                return True

    def _at_site(self, kill: Kill, kind: str) -> bool:
        lines = self._rows(self._lab.sites[kill.site].folder / "site.db")
        return any(what == kind and body.get("round", 0) >= kill.round for what, body in lines)

    def _at_server(self, kill: Kill, kind: str) -> int:
        return sum(what == kind and body.get("round", 0) >= kill.round for what, body in self._server())

    def _updates(self, site: str) -> Counter[tuple[str, int, int, str]]:
        lines = self._rows(self._lab.sites[site].folder / "site.db")
        made = (body for kind, body in lines if kind == "update-made")
        return Counter((body["kind"], body["round"], body["attempt"], body["about"]) for body in made)

    def _server(self) -> list[Line]:
        return self._rows(next((self._lab.folder / "server").glob("*.db")))

    def _rows(self, database: Path) -> list[Line]:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=15)
        try:
            found = connection.execute("select kind, body from journal order by number").fetchall()
        finally:
            connection.close()
        lines = ((kind, json.loads(body)) for kind, body in found)
        return [(kind, body) for kind, body in lines if body.get("experiment") == self._experiment]

    def _wait(self, true: Callable[[], Any], what: str, until: float, every: float = LOOK_S) -> Any:
        while not (found := true()):
            if time.monotonic() > until:
                raise Waited(f"{self._experiment}: waited too long for {what}")
            time.sleep(every)
        return found

    def _running(self) -> list[Running]:
        return [self._lab.server, *(site.running for site in self._lab.sites.values())]


def judged(lines: Iterable[Line], kills: Iterable[Kill]) -> tuple[list[str], list[str]]:
    """The failures and stops in the server's journal; and those that name what these kills did not do.

    A worker that dies is replaced once in a task, so that a site fails as ``crashed`` after two deaths at the least.
    Nobody stops the experiment, and a site whose agent or server was killed has not failed.
    """
    deaths = Counter(kill.site for kill in kills if kill.victim not in ("server", "agent"))
    told: list[str] = []
    false: list[str] = []
    failures = Counter[str]()
    for kind, body in lines:
        if kind not in STOPS:
            continue
        said = f"{kind}: {json.dumps(body)}"
        told.append(said)
        is_crash = kind == "site-failed" and body["failure"]["code"] == "crashed"
        failures[body.get("site", "")] += is_crash
        if not is_crash or 2 * failures[body["site"]] > deaths[body["site"]]:
            false.append(said)
    return told, false


def sandboxes(folder: Path) -> list[int]:
    """The first processes of sandboxes whose files are in this folder, and what outlived one; oldest first."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                named = any(word.startswith(f"{folder}/") for word in words)
                if words[0].endswith("bwrap") and "--hostname" in words and named:
                    found.append(int(place.name))
    return sorted((pid for pid in found if parent(pid) not in found), key=_began)


def left_behind(lab: LocalFederation, seconds: float = 30.0) -> list[int]:
    """The sandboxes of a federation that no running agent has, and that do not end by themselves in these seconds."""
    until = time.monotonic() + seconds
    agents = {site.running.pid for site in lab.sites.values()}
    while True:
        found = [pid for pid in sandboxes(lab.folder) if parent(pid) not in agents]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.2)


def parent(pid: int) -> int:
    """The process above this one; 0 for one that has ended."""
    return int((_stat(pid) or ["", "0"])[1])


def _age_s(pid: int) -> float:
    """For how many seconds a process has lived."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - _began(pid) / os.sysconf("SC_CLK_TCK")


def _began(pid: int) -> int:
    """When it was started, in the kernel's ticks; 0 for one that has ended."""
    return int((_stat(pid) or ["0"] * 20)[19])


def _stat(pid: int) -> list[str]:
    """The fields of a process from its state on; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
