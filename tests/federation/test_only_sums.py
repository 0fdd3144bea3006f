"""``release: sum`` from end to end: the model of numpy, and no number of a single site anywhere at the server."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_run import SITES, write_data
from summed_plan import HELD_OUT, SAMPLES

from archipel.governance import IdentityKey
from archipel.plans import draft, load
from archipel.simulation import scanned_site, simulate
from archipel.tensors import decode
from archipel.vocabulary import MetricSum, PrivacyTerms, Release, RosterEntry, RoundTerms, TaskKind
from worlds.federation import World

PLAN = Path(__file__).with_name("summed_plan.py")
SUM = PrivacyTerms(release=Release.SUM)
ROUNDS = 2
Model = dict[str, np.ndarray[Any, Any]]


def trained_rows(folder: Path, site: str) -> int:
    """How many of a site's rows are not held out; each is a subject of its own."""
    cohort = scanned_site(site, folder, load(PLAN).needs).cohort
    return len(cohort.subjects) - len(cohort.held_out(fraction=0.2))


def as_float32(number: float) -> float:
    """The number as a site reports a total."""
    return float(np.float32(number))


class Oracle:
    """What the plan does, in plain numpy, over both sites' tables; ``own`` are the numbers that no site may say."""

    def __init__(self, folder: Path) -> None:
        rows = {site: np.load(folder / site / "table.npz")["x"] for site in SITES}
        count = {site: len(one) for site, one in rows.items()}
        mean = {site: one.mean(axis=0) for site, one in rows.items()}
        start = np.arange(5) / 4
        self.model: Model = {"passes": np.zeros(()), "place": start, "small": start[:3], "tiny": start[:2]}
        self.moved, self.height = [], []
        self.own: dict[str, set[float]] = {site: {SAMPLES * count[site], HELD_OUT * count[site]} for site in SITES}
        self.trains = {site: trained_rows(folder / site, site) for site in SITES}
        self.samples = sum(self.trains.values())
        for _ in range(ROUNDS):
            self._measure(count, mean)
            moved, made = {}, {}
            for site in SITES:
                place = self.model["place"] * 0.5 + mean[site]
                made[site] = {"passes": self.model["passes"] + count[site], "place": place}
                made[site] |= {"small": np.float32(place[:3]), "tiny": np.float16(place[:2])}
                moved[site] = as_float32(np.abs(place - self.model["place"]).sum() * SAMPLES * count[site])
                self.own[site].add(moved[site])
            weights = [self.trains[site] for site in SITES]
            self.model = {
                name: np.average([np.float64(made[site][name]) for site in SITES], axis=0, weights=weights)
                for name in self.model
            }
            self.model["passes"] = np.rint(self.model["passes"])
            self.model["tiny"] = np.float16(self.model["tiny"])
            self.moved.append(sum(moved.values()) / sum(SAMPLES * count[site] for site in SITES))
        self._measure(count, mean)

    def _measure(self, count: dict[str, int], mean: dict[str, Any]) -> None:
        totals = {}
        for site in SITES:
            totals[site] = as_float32((self.model["place"].sum() + mean[site][0]) * HELD_OUT * count[site])
            self.own[site].add(totals[site])
        self.height.append(sum(totals.values()) / sum(HELD_OUT * count[site] for site in SITES))

    def check(self, data: bytes) -> None:
        for name, found in decode(data).items():
            np.testing.assert_allclose(found, self.model[name], rtol=2e-3 if name == "tiny" else 1e-6, err_msg=name)

    def patterns(self) -> list[bytes]:
        """Each number of a single site as text and as eight bytes; of totals only the first digits of the text."""
        found = []
        for number in {number for numbers in self.own.values() for number in numbers}:
            text = str(int(number)) if float(number).is_integer() else repr(number)[:10]
            found += [text.encode(), struct.pack("<d", number)]
        return found


async def test_a_simulation_of_sums_is_numpys_and_its_record_has_no_numbers_of_a_site(tmp_path: Path) -> None:
    key = IdentityKey.generate().public
    made = draft(
        PLAN,
        experiment="summed",
        roster=[RosterEntry(site=site, identity_key=key, dataset="table") for site in SITES],
        server_key=key,
        terms=RoundTerms(rounds=ROUNDS, quorum=2, retries=0),
        privacy=SUM,
    )
    needs = load(PLAN).needs
    who = [scanned_site(site, write_data(tmp_path / site, site), needs) for site in SITES]
    (tmp_path / "run").mkdir()
    book = await simulate(made.job, made.plan, made.initial_model, who, tmp_path / "run")
    oracle = Oracle(tmp_path)
    oracle.check(book.models[book.model].read_bytes())
    trained = book.committed(TaskKind.TRAIN)
    assert [record.samples for record in trained] == [oracle.samples] * ROUNDS
    assert [record.metrics["moved"].mean() for record in trained] == pytest.approx(oracle.moved, rel=1e-9)
    [last] = book.committed(TaskKind.EVALUATE)
    heights = [record.validation["height"].mean() for record in (*trained, last)]
    assert heights == pytest.approx(oracle.height, rel=1e-9)
    for record in book.records:
        for part in record.sites.values():
            assert (part.samples, part.metrics, part.validation) == (None, {}, {})
    assert isinstance(last.validation["height"], MetricSum)
    assert not found_in([record.model_dump_json().encode() for record in book.records], oracle)


def found_in(texts: list[bytes], oracle: Oracle) -> set[bytes]:
    return {pattern for pattern in oracle.patterns() for text in texts if pattern in text}


def documents(world: World, name: str) -> list[bytes]:
    """Every REST document about an experiment, and every file that the server keeps or wrote."""
    with world.lab.client() as client:
        paths = (f"/v1/experiments/{name}", f"/v1/experiments/{name}/rounds", f"/v1/experiments/{name}/models")
        replies = [client.get(path) for path in (*paths, f"/v1/experiments/{name}/events?follow=false", "/v1/sites")]
    assert all(reply.is_success for reply in replies)
    log = world.lab.folder / "server.log"
    kept = [log, *(path for path in (world.lab.folder / "server").rglob("*") if path.is_file())]
    assert {"server.log", "server.db"} <= {path.name for path in kept}
    return [reply.content for reply in replies] + [path.read_bytes() for path in kept]


@pytest.mark.processes
def test_a_federation_of_sums_is_numpys_and_its_server_keeps_no_number_of_a_site(tmp_path: Path) -> None:
    with World.running(tmp_path, write_data=write_data) as world:
        oracle = Oracle(tmp_path / "data")
        world.submit("summed", PLAN, None, terms={"rounds": ROUNDS}, privacy=SUM)
        world.do("summed", "start")
        shown = world.wait_state("summed")
        with world.lab.client() as client:
            oracle.check(client.get("/v1/experiments/summed/models/last").raise_for_status().content)
        rounds = world.rounds("summed")
        assert [one["samples"] for one in rounds] == [oracle.samples] * ROUNDS
        assert [one["metrics"]["moved"] for one in rounds] == pytest.approx(oracle.moved, rel=1e-9)
        heights = [*(one["validation"]["height"] for one in rounds), rounds[-1]["model_validation"]["height"]]
        assert heights == pytest.approx(oracle.height, rel=1e-9)
        assert {one["subjects"] for one in shown["approvals"]} == {None}
        assert not found_in(documents(world, "summed"), oracle)
        for site in SITES:
            lines = [body for kind, body in world.site_lines(site, "summed") if kind == "update-made"]
            counted = {body["samples"] for body in lines if body["kind"] == "train"}
            assert counted == {oracle.trains[site]}, "a site's own journal says what it trained on"
        # The same search finds the numbers of a job that lets them leave, so it would have found these.
        world.submit("apart", PLAN, None, terms={"rounds": ROUNDS})
        world.do("apart", "start")
        world.wait_state("apart")
        seen = found_in(documents(world, "apart"), oracle)
        assert {str(SAMPLES * count).encode() for count in (11, 14)} <= seen, json.dumps(sorted(map(repr, seen)))
