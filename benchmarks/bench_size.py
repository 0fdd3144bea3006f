"""``archipel bench size``: seconds and peak memory of command, agent and worker for a large dataset, step by step.

A dataset of many rows, or of many small volumes, is added, frozen, checked, approved and trained on for one round, by
the commands that a person types and in the processes of a real federation. Memory is the most that a process had at
once (``VmHWM``), in 10^6 bytes; the agent's is the most since it was started.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from archipel.lab.processes import LocalFederation, wait_for
from archipel.plans import draft
from archipel.site.approval import offers
from archipel.tensors import blob_hash
from archipel.vocabulary import ArchipelError, NotFound, RosterEntry, RoundTerms, WorkerLimits

PLAN = Path(__file__).with_name("size_plan.py")
NAME, SITE, DATASET = "bench-size", "site", "data"
LONGEST_S = 7200.0
WIDTH = 16
"""Numbers of a row."""
SIDE = 8
"""Voxels of a volume along each axis."""


def bench_size(rows: int, volumes: int, folder: Path | None = None) -> dict[str, Any]:
    """Measure one dataset of each kind, none of a kind of which 0 are asked for; the JSON that the command prints."""
    found: dict[str, Any] = {}
    for kind, count in (("rows", rows), ("volumes", volumes)):
        if count:
            with tempfile.TemporaryDirectory(prefix="archipel-bench-", dir=folder) as place:
                found[kind] = measured(Path(place), kind, count)
    return found


def measured(folder: Path, kind: str, count: int) -> dict[str, Any]:
    """The table of one dataset: for each step its seconds, and the peak of each process that took part."""
    data = folder / "data"
    layout = _rows(data, count) if kind == "rows" else _volumes(data, count)
    steps: dict[str, dict[str, float]] = {}
    with LocalFederation.create(folder / "federation") as federation:
        federation.start_server()
        site = federation.join_site(SITE, cache_mb=50_000)

        def run(step: str, *words: str, done: tuple[int, ...] = (0,)) -> None:
            steps[step] = _command(["site", *words, "--state", str(site.folder)], done, federation)

        run("add", "dataset", "add", DATASET, str(data), "--format", layout)
        run("freeze", "cohort", "freeze", DATASET)
        federation.start_sites()
        _submit(federation, "RowsPlan" if kind == "rows" else "VolumesPlan")
        _wait_offered(federation)
        # A check may find that something is to be looked at: duplicates of drawn rows, a deadline.
        run("check", "check", NAME, "--step", "preflight", done=(0, 1))
        run("approve", "approve", NAME, "--yes")
        steps["round"] = _round(federation)
    return {"count": count, "steps": steps}


def _rows(folder: Path, count: int) -> str:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    ids = np.char.add("p", np.char.zfill(np.arange(count).astype("U8"), 8))
    np.savez(folder / "t.npz", x=draw.random((count, WIDTH), np.float32), y=draw.integers(0, 2, count), subject=ids)
    return "npz"


def _volumes(folder: Path, count: int) -> str:
    """Images of ``SIDE`` voxels along each axis, each another one; they need no label."""
    import nibabel

    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    draw = np.random.default_rng(0)
    voxels = draw.integers(0, 255, (SIDE, SIDE, SIDE), np.uint8)
    image = bytearray(nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes())
    label = gzip.compress(nibabel.Nifti1Image(np.ones((SIDE, SIDE, SIDE), np.uint8), np.eye(4)).to_bytes(), 1)
    for number in range(count):
        image[-4:] = number.to_bytes(4, "little")
        name = f"sub-{number:06}.nii.gz"
        (folder / "images" / name).write_bytes(gzip.compress(image, 1))
        (folder / "labels" / name).write_bytes(label)
    return "nifti-pairs"


def _command(words: list[str], done: tuple[int, ...], federation: LocalFederation) -> dict[str, float]:
    began = time.monotonic()
    # In a file: a pipe that nobody reads would stop a command that prints much.
    with tempfile.TemporaryFile() as output:
        environment = os.environ | {"NO_COLOR": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "archipel", *words], stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        with _watched({"command": process.pid} | _agent(federation)) as peaks:
            code = process.wait(LONGEST_S)
        if code not in done:
            output.seek(0)
            text = output.read().decode(errors="replace")[-1000:]
            raise ArchipelError(f"archipel {' '.join(words)}", f"ended with code {code}: {text}", "read what it said")
    return {"seconds": round(time.monotonic() - began, 1)} | _millions(peaks)


def _round(federation: LocalFederation) -> dict[str, float]:
    began = time.monotonic()
    with _watched(_agent(federation)) as peaks, federation.client() as client:

        def approved() -> bool:
            found = client.get(f"/v1/experiments/{NAME}").raise_for_status().json()["approvals"]
            return [one["state"] for one in found] == ["approved"]

        check = federation.sites[SITE].running.check
        wait_for(approved, "the approval", check, LONGEST_S)
        client.post(f"/v1/experiments/{NAME}/step").raise_for_status()

        def trained() -> bool:
            rounds = client.get(f"/v1/experiments/{NAME}/rounds").raise_for_status().json()
            failed = [one for one in rounds if one["state"] not in ("open", "committed")]
            if failed:
                raise ArchipelError("bench size", f"the round failed: {failed[0]['sites']}", "read the logs")
            return any(one["state"] == "committed" for one in rounds)

        wait_for(trained, "the round", check, LONGEST_S)
    return {"seconds": round(time.monotonic() - began, 1)} | _millions(peaks)


def _submit(federation: LocalFederation, plan: str) -> None:
    me, (here,) = federation.get("/v1/federation"), federation.get("/v1/sites")
    drawn = draft(
        PLAN,
        experiment=NAME,
        roster=[RosterEntry(site=SITE, identity_key=here["identity_key"], dataset=DATASET)],
        server_key=me["server_key"],
        class_name=plan,
        validation_fraction=0.2,
        terms=RoundTerms(rounds=1, quorum=1, deadline_s=LONGEST_S, retries=0),
        limits=WorkerLimits(memory_mb=4096, processes=64, cpu_s=LONGEST_S, wall_s=LONGEST_S),
    )
    with federation.client() as client:
        client.timeout = httpx.Timeout(300)
        for blob in drawn.blobs.values():
            client.put(f"/v1/blobs/{blob_hash(blob)}", content=blob).raise_for_status()
        client.post("/v1/experiments", json={"job": drawn.job.model_dump(mode="json")}).raise_for_status()


def _wait_offered(federation: LocalFederation) -> None:
    site = federation.sites[SITE]

    def ready() -> bool:
        state = site.state()
        try:
            return offers.plan_files(state.blobs, offers.offered(state.database, NAME).job) is not None
        except NotFound:
            return False
        finally:
            state.close()

    wait_for(ready, "the offer", site.running.check)


def _agent(federation: LocalFederation) -> dict[str, int]:
    running = federation.sites[SITE].running
    return {"agent": running.pid} if running.process is not None else {}


@contextlib.contextmanager
def _watched(roots: dict[str, int]) -> Iterator[dict[str, int]]:
    """The peak of each process in ``roots`` by its name, and of the workers below them, in bytes; filled meanwhile."""
    peaks: dict[str, int] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for name, pid in roots.items():
                peaks[name] = max(peaks.get(name, 0), _peak(pid))
                for worker in _workers(pid):
                    peaks["worker"] = max(peaks.get("worker", 0), _peak(worker))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield peaks
    finally:
        over.set()
        watching.join()


def _workers(root: int) -> Iterator[int]:
    """The workers among the processes below one."""
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if pid != root and words[0].rpartition(b"/")[2].startswith(b"python") and b"archipel.site.worker" in words:
                yield pid


def _peak(pid: int) -> int:
    """``getrusage`` would count the process that it was forked from as well."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def _millions(peaks: dict[str, int]) -> dict[str, float]:
    return {f"{name}_mb": round(size / 1e6, 1) for name, size in sorted(peaks.items())}


if __name__ == "__main__":
    print(json.dumps(bench_size(int(sys.argv[1]), int(sys.argv[2])), indent=1))
