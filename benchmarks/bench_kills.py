"""``archipel bench kills``: kill -9 of server, agents and workers at drawn moments; every run must end the same.

One undisturbed run of a small plan at two sites gives the model that every other run must end with. In each of those a
few processes are killed: a seed draws which, at what point of the experiment, and how long after it. A killed server or
agent is started again, as a hospital's service manager does; a worker is its agent's to replace. The figures count what
was killed, and list each run that differs and each reason that names what was not done.
"""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from archipel.lab.processes import LocalFederation
from archipel.plans import draft
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError, ErrorCode, RosterEntry, RoundTerms
from kills_watch import STARTS, Kill, Waited, Watched, left_behind

PLAN = Path(__file__).with_name("kills_plan.py")
SITES = ("site-a", "site-b")
ROUNDS = 4
RUN_S = 150.0
"""A run that takes longer has failed."""
WORKER, FIRST = "worker", "first process of the sandbox"
ANY = "any moment"
VICTIMS = ("server", "agent", WORKER, FIRST)
LATEST_S = {
    STARTS: 0.8,
    "training": 0.4,
    "upload": 0.04,
    "close of a round": 0.04,
    "between rounds": 0.1,
    ANY: 4.0,
}
"""The points of an experiment at which processes are killed, and at most how many seconds after each is seen."""
TRIED = 12815
"""The seed of the short run that the tests do."""


class Outcome(NamedTuple):
    """What one run came to: its kills, and what is wrong with it."""

    kills: tuple[Kill, ...]
    state: str
    differs: bool
    reasons: tuple[str, ...]
    false: tuple[str, ...]
    seconds: float


def bench_kills(seed: int = 0, kills: int = 100, per_run: int = 6, folder: Path | None = None) -> dict[str, Any]:
    """Run the benchmark; the result is the JSON that the command prints.

    Raises ArchipelError when the undisturbed run does not finish.
    """
    draw, began = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="archipel-kills-", dir=folder) as place, _federation(Path(place)) as lab:
        reference = _run(lab, "undisturbed", (), "")
        if reference.state != "finished":
            raise ArchipelError("bench kills", f"the undisturbed run is {reference.state}", "read the logs")
        expected, outcomes, left = _model(lab, "undisturbed"), list[Outcome](), kills
        while left > 0:
            drawn = draw_kills(draw, min(per_run, left))
            left -= len(drawn)
            outcomes.append(_run(lab, f"killed-{len(outcomes) + 1}", drawn, expected))
        orphans = left_behind(lab)
    return figures(seed, outcomes, len(orphans), time.monotonic() - began)


def draw_kills(draw: random.Random, count: int) -> tuple[Kill, ...]:
    """What is killed in one run, in the order of its rounds."""
    drawn = []
    for _ in range(count):
        phase = draw.choice(list(LATEST_S))
        # What starts is a worker, so that it is killed most often then.
        victim = draw.choice((WORKER, FIRST, *VICTIMS) if phase == STARTS else VICTIMS)
        # Every run begins with such a start; another one follows only a death.
        number = 1 if phase == STARTS else draw.randint(1, ROUNDS)
        delay = draw.uniform(0, LATEST_S[phase])
        drawn.append(Kill(victim, draw.choice(SITES), phase, number, delay))
    return tuple(sorted(drawn, key=lambda kill: (kill.round, kill.phase != STARTS)))


def figures(seed: int, outcomes: list[Outcome], orphans: int, seconds: float) -> dict[str, Any]:
    """The JSON."""
    made = [kill for outcome in outcomes for kill in outcome.kills]
    by = Counter(f"{kill.victim}, {kill.phase}" for kill in made)
    return {
        "seed": seed,
        "kills": len(made),
        "kills_by_process_and_phase": dict(sorted(by.items())),
        "runs": len(outcomes),
        "runs_not_finished": sum(outcome.state != "finished" for outcome in outcomes),
        "runs_that_differ": sum(outcome.differs for outcome in outcomes),
        "reasons": [reason for outcome in outcomes for reason in outcome.reasons],
        "false_reasons": [reason for outcome in outcomes for reason in outcome.false],
        "sandboxes_left": orphans,
        "longest_run_seconds": round(max((outcome.seconds for outcome in outcomes), default=0.0), 1),
        "seconds": round(seconds, 1),
    }


@contextmanager
def _federation(folder: Path) -> Iterator[LocalFederation]:
    with LocalFederation.create(folder / "federation", heartbeat_s=1.0) as lab:
        lab.start_server()
        for number, site in enumerate(SITES):
            quick: dict[str, Any] = {"reconnect_first_s": 0.1, "reconnect_longest_s": 0.5}
            lab.add_site(site, _table(folder / f"data-{number}", number), layout="npz", **quick)
        lab.start_sites()
        yield lab


def _table(folder: Path, number: int) -> Path:
    folder.mkdir()
    x = np.random.default_rng(number).normal(size=(20, 4))
    ids = np.array([f"s{number}-{one:02d}" for one in range(len(x))])
    np.savez(folder / "table.npz", x=x, y=np.zeros(len(x)), subject=ids)
    return folder


def _run(lab: LocalFederation, name: str, drawn: tuple[Kill, ...], expected: str) -> Outcome:
    """One experiment from its submission to its end, with these kills in it."""
    _submit(lab, name)
    watched, began = Watched(lab, name), time.monotonic()
    made: list[Kill] = []
    with lab.client() as client:
        client.post(f"/v1/experiments/{name}/start").raise_for_status()
    try:
        for kill in drawn:
            met = watched.wait_for(kill, began + RUN_S)
            time.sleep(kill.delay_s)
            if watched.ended():
                break
            if watched.kill(kill):
                made.append(kill if met else kill._replace(phase=ANY))
        state, reason = watched.end(began + RUN_S)
    except Waited as error:
        state, reason = "not ended", str(error)
    # The next run begins with all of them connected.
    watched.restart()
    reasons, false = watched.reasons(made)
    if state != "finished":
        stopped = f"{name}: {state}: {reason}"
        reasons, false = [*reasons, stopped], [*false, stopped]
    differs = bool(expected) and (state != "finished" or _model(lab, name) != expected)
    return Outcome(tuple(made), state, differs, tuple(reasons), tuple(false), time.monotonic() - began)


def _submit(lab: LocalFederation, name: str) -> None:
    roster = [
        RosterEntry(site=one["site"], identity_key=one["identity_key"], dataset="data") for one in lab.get("/v1/sites")
    ]
    # Many processes are killed in one run, so that a round may need more attempts than the usual ones.
    terms = RoundTerms(rounds=ROUNDS, quorum=len(SITES), deadline_s=60, grace_s=30, retries=8)
    made = draft(
        PLAN,
        experiment=name,
        roster=roster,
        server_key=lab.get("/v1/federation")["server_key"],
        terms=terms,
    )
    with lab.client() as client:
        for blob in made.blobs.values():
            client.put(f"/v1/blobs/{blob_hash(blob)}", content=blob).raise_for_status()
        client.post("/v1/experiments", json={"job": made.job.model_dump(mode="json")}).raise_for_status()
    for site in SITES:
        lab.sites[site].approve(name)
    until = time.monotonic() + RUN_S
    while [one["state"] for one in lab.get(f"/v1/experiments/{name}")["approvals"]].count("approved") < len(SITES):
        if time.monotonic() > until:
            raise ArchipelError(name, f"was not approved in {RUN_S:.0f} s", "read the logs", code=ErrorCode.LOST)
        time.sleep(0.05)


def _model(lab: LocalFederation, name: str) -> str:
    """The hash of the last model's bytes."""
    with lab.client() as client:
        content = client.get(f"/v1/experiments/{name}/models/last").raise_for_status().content
    return hashlib.sha256(content).hexdigest()
