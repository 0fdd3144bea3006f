"""``archipel bench round``: what a round costs over real processes, beside the same bytes over plain gRPC.

Rounds and reference take turns, one of each at a time, so that whatever else the machine does falls on both; the first
rounds are not counted. The time of a small model's round is that of rounds which follow each other at once.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from archipel.lab.processes import LocalFederation, wait_for
from archipel.plans import Draft, draft
from archipel.site.sandbox import measure
from archipel.tensors import blob_hash, decode, in_type, tensor_file_size
from archipel.vocabulary import ArchipelError, RosterEntry, RoundTerms, WorkerLimits
from memory_watch import MemoryWatch
from reference import Reference

PLAN = Path(__file__).with_name("round_plan.py")
NAME = "bench-round"
DATASET = "data"
SMALL = 10_000_000
UNINTERRUPTED_S = 5.0
WARM_UP = 3
"""Rounds that are not counted: workers start in the first, and memory and files are touched for the first time."""


def bench_round(sites: int, size_mb: float, pairs: int = 7, folder: Path | None = None) -> dict[str, Any]:
    """Run the benchmark; the result is the JSON that the command prints. Sizes in 10^6 bytes, times in seconds."""
    with tempfile.TemporaryDirectory(prefix="archipel-bench-", dir=folder) as place:
        root = Path(place)
        with LocalFederation.create(root / "federation") as federation:
            federation.start_server()
            names = [f"site-{number:02d}" for number in range(sites)]
            for number, name in enumerate(names):
                federation.add_site(name, _table(root / f"data-{number}", number), layout="npz", dataset=DATASET)
            federation.start_sites()
            idle = _peak_memory(federation.server.pid)
            memory = MemoryWatch([site.running.pid for site in federation.sites.values()])
            drawn = _submit(federation, size_mb, sites)
            for site in federation.sites.values():
                site.approve(NAME)
            size = tensor_file_size(drawn.job.tensors)
            with Reference(root / "reference", sites, size) as reference, federation.client() as client:
                _wait_approved(client, sites)
                return _measure(federation, client, reference, drawn, size, pairs, idle, memory)


def _measure(
    federation: LocalFederation,
    client: httpx.Client,
    reference: Reference,
    drawn: Draft,
    size: int,
    pairs: int,
    idle: int,
    memory: MemoryWatch,
) -> dict[str, Any]:
    _step(client)
    memory.begin_again()
    first = _model(client)
    correct = _is_right(drawn, decode(drawn.initial_model), first, len(federation.sites))
    for _ in range(WARM_UP - 1):
        reference.round()
        _step(client)
    before, rounds_before = _cpu(federation), len(_rounds(client))
    server_before = _spent([federation.server.pid])
    reference_before = _spent(reference.pids)
    reference_seconds = []
    for _ in range(pairs):
        reference_seconds.append(reference.round())
        _step(client, memory)
    cpu = _cpu(federation) - before
    server_cpu = _spent([federation.server.pid]) - server_before
    reference_cpu = _spent(reference.pids) - reference_before
    rounds = _rounds(client)[rounds_before:]
    seconds = [_seconds(one) for one in rounds]
    flow = [_seconds(one) for one in _uninterrupted(client)] if size < SMALL else seconds
    ratios = [ours / theirs for ours, theirs in zip(seconds, reference_seconds, strict=True)]
    last = rounds[-1]
    correct = correct and all(len(one["contributors"]) == len(federation.sites) for one in rounds)
    return {
        "sites": len(federation.sites),
        "model_mb": round(size / 1e6, 3),
        "rounds": len(rounds),
        "round_seconds": round(statistics.median(flow), 4),
        "reference_seconds": round(statistics.median(reference_seconds), 4),
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "server_peak_rss_mb": round(_peak_memory(federation.server.pid) / 1e6, 1),
        "server_idle_rss_mb": round(idle / 1e6, 1),
        "server_growth_over_model": round((_peak_memory(federation.server.pid) - idle) / size, 3),
        "site_growth_over_model": round(memory.own / size, 3),
        "site_shared_over_model": round(memory.shared / size, 3),
        "cpu_seconds_per_round": round(cpu / len(rounds), 3),
        "server_cpu_seconds_per_round": round(server_cpu / len(rounds), 3),
        "reference_cpu_seconds_per_round": round(reference_cpu / len(rounds), 3),
        "wire_bytes_per_round": last["bytes_down"] + last["bytes_up"],
        "correct": correct,
    }


def _uninterrupted(client: httpx.Client) -> list[dict[str, Any]]:
    """Rounds that follow each other at once, as in an experiment: what a small model's round costs by itself."""
    before = len(_rounds(client))
    client.post(f"/v1/experiments/{NAME}/start").raise_for_status()
    time.sleep(UNINTERRUPTED_S)
    client.post(f"/v1/experiments/{NAME}/pause").raise_for_status()
    time.sleep(1.0)
    return _rounds(client)[before + 1 :]


def _table(folder: Path, number: int) -> Path:
    """A table whose mean is the site's constant, with as many subjects as the site shall weigh."""
    folder.mkdir()
    subjects = 3 + number
    x = np.full((subjects, 1), 0.25 * (number + 1), dtype=np.float32)
    ids = np.array([f"s{number}-{one}" for one in range(subjects)])
    np.savez(folder / "table.npz", x=x, y=np.zeros(subjects), subject=ids)
    return folder


def _submit(federation: LocalFederation, size_mb: float, sites: int) -> Draft:
    os.environ["ARCHIPEL_BENCH_MB"] = str(size_mb)
    me = federation.get("/v1/federation")
    roster = [
        RosterEntry(site=one["site"], identity_key=one["identity_key"], dataset=DATASET)
        for one in federation.get("/v1/sites")
    ]
    drawn = draft(
        PLAN,
        experiment=NAME,
        roster=roster,
        server_key=me["server_key"],
        validation_fraction=0.0,
        terms=RoundTerms(rounds=10_000, quorum=sites, deadline_s=600, grace_s=60, retries=0),
        limits=WorkerLimits(memory_mb=4096, processes=64),
    )
    with federation.client() as client:
        client.timeout = httpx.Timeout(300)
        for blob in drawn.blobs.values():
            client.put(f"/v1/blobs/{blob_hash(blob)}", content=blob).raise_for_status()
        client.post("/v1/experiments", json={"job": drawn.job.model_dump(mode="json")}).raise_for_status()
    return drawn


def _wait_approved(client: httpx.Client, sites: int) -> None:
    def approved() -> bool:
        found = client.get(f"/v1/experiments/{NAME}").raise_for_status().json()["approvals"]
        return [one["state"] for one in found].count("approved") == sites

    wait_for(approved, "approvals", lambda: None)


def _step(client: httpx.Client, memory: MemoryWatch | None = None) -> None:
    """One round, watched by its events so that looking costs the server nothing while it works."""
    events = f"/v1/experiments/{NAME}/events?follow=false&after="
    seen = 0
    while page := client.get(f"{events}{seen}").raise_for_status().json():
        seen = page[-1]["seq"]
    client.post(f"/v1/experiments/{NAME}/step").raise_for_status()
    until = time.monotonic() + 600
    while time.monotonic() < until:
        time.sleep(0.2)
        if memory is not None:
            memory.look()
        for event in client.get(f"{events}{seen}").raise_for_status().json():
            seen = event["seq"]
            if event["kind"] == "state" and event["body"]["state"] == "paused":
                return
    raise ArchipelError("bench round", "a round took more than 600 s", "read the server's log")


def _rounds(client: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"/v1/experiments/{NAME}/rounds").raise_for_status().json()
    failed = [one for one in found if one["state"] != "committed"]
    if failed:
        raise ArchipelError("bench round", f"a round failed: {failed[0]['sites']}", "read the logs")
    return found


def _seconds(one: dict[str, Any]) -> float:
    """From opening the round to its durable close, by the server's journal times."""
    return (datetime.fromisoformat(one["closed"]) - datetime.fromisoformat(one["opened"])).total_seconds()


def _model(client: httpx.Client) -> dict[str, Any]:
    return decode(client.get(f"/v1/experiments/{NAME}/models/last", timeout=300).raise_for_status().content)


def _is_right(drawn: Draft, before: dict[str, Any], after: dict[str, Any], sites: int) -> bool:
    """Whether the model is the weighted mean, to the last bit, by an independent sum in numpy."""
    weights = [float(3 + number) for number in range(sites)]
    for name, leaf in before.items():
        ends = [leaf + np.float32(0.25 * (number + 1)) for number in range(sites)]
        total = sum(weight * end.astype(np.float64) for weight, end in zip(weights, ends, strict=True))
        if not np.array_equal(in_type(total / sum(weights), leaf.dtype), after[name]):
            return False
    return set(before) == set(after) == {spec.name for spec in drawn.job.tensors.tensors}


def _cpu(federation: LocalFederation) -> float:
    return _spent([federation.server.pid, *(site.running.pid for site in federation.sites.values())])


def _spent(pids: Sequence[int]) -> float:
    """Processor seconds of these processes and all below them: less shaken by a busy machine than the clock is."""
    return sum(measure(pid).cpu_s for pid in pids)


def _peak_memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise ArchipelError(f"process {pid}", "tells no peak memory", "run on Linux")
