"""The simulation: the same numbers each time, those of an oracle, and those of real processes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archipel.data import Cohort, DataMapping, RawSource, Sample, split, validation_ids
from archipel.data import draw as draw_of
from archipel.governance import IdentityKey
from archipel.plans import Draft, draft, load
from archipel.plans.runtime import PlanRuntime
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import SimulatedSite, pooled_site, scanned_site, simulate
from archipel.simulation.pooled import PooledSource
from archipel.tasks import Compute
from archipel.tensors import blob_hash, decode
from archipel.vocabulary import ArchipelError, Baselines, ColumnNeed, DataNeeds, RosterEntry, RoundTerms, TaskKind

TINY = Path(__file__).parents[2] / "examples" / "tiny_numpy.py"
KEY = IdentityKey.generate().public


def table(folder: Path, site: str, subjects: int = 30) -> Path:
    folder.mkdir(parents=True)
    draw = np.random.default_rng([7, *site.encode()])
    x = draw.normal(size=(subjects, 8))
    names = np.array([f"{site}-{number:03d}" for number in range(subjects)])
    np.savez(folder / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=names)
    return folder


def sites(root: Path, *names: str) -> list[SimulatedSite]:
    needs = load(TINY, "TinyPlan").needs
    return [scanned_site(name, table(root / name, name, 20 + 10 * number), needs) for number, name in enumerate(names)]


def made(names: list[str], rounds: int = 3, **more: Any) -> Draft:
    roster = [RosterEntry(site=name, identity_key=KEY, dataset="data") for name in names]
    terms = RoundTerms(rounds=rounds, quorum=len(names), retries=0)
    return draft(TINY, experiment="simulated", roster=roster, server_key=KEY, terms=terms, **more)


async def run(folder: Path, who: list[SimulatedSite], **more: Any) -> MemoryExperimentStore:
    folder.mkdir()  # noqa: ASYNC240 - a test has nothing else to do
    found = made([site.name for site in who], **more)
    return await simulate(found.job, found.plan, found.initial_model, who, folder)


async def test_the_same_seed_gives_the_same_model_twice_and_another_seed_another(tmp_path: Path) -> None:
    who = sites(tmp_path / "data", "a", "b", "c")
    baselines = Baselines(local=True, ensemble=True)
    one = await run(tmp_path / "1", who, baselines=baselines)
    two = await run(tmp_path / "2", list(reversed(who)), baselines=baselines)
    assert one.model == two.model and one.local_models == two.local_models
    assert [record.validation for record in one.records] == [record.validation for record in two.records]
    assert (await run(tmp_path / "3", who, seed=1)).model != one.model


async def test_a_round_is_the_weighted_mean_of_what_the_sites_trained(tmp_path: Path) -> None:
    who = sites(tmp_path / "data", "a", "b", "c")
    store = await run(tmp_path / "1", who, rounds=1)
    trained, samples = [], []
    for site in who:
        alone = await run(tmp_path / f"alone-{site.name}", [site], rounds=1)
        trained.append(decode(alone.models[alone.model].read_bytes()))
        samples.append(alone.records[0].sites[site.name].samples)
    found = decode(store.models[store.model].read_bytes())
    for name in ("weight", "bias"):
        oracle = sum(n * model[name].astype(np.float64) for n, model in zip(samples, trained, strict=True)) / sum(
            samples
        )
        assert np.allclose(found[name], oracle, rtol=1e-15, atol=1e-15)
    assert found["steps_taken"] == trained[0]["steps_taken"] and found["steps_taken"].dtype == np.int64


async def test_one_site_alone_is_its_own_local_baseline(tmp_path: Path) -> None:
    """n=1 federated equals centralised: the same seeds, the same optimiser treatment, bit for bit."""
    who = sites(tmp_path / "data", "a")
    store = await run(tmp_path / "1", who, rounds=5, baselines=Baselines(local=True))
    assert store.local_models["a"] == store.model


async def test_a_long_simulation_keeps_the_models_that_a_server_keeps(tmp_path: Path) -> None:
    who = sites(tmp_path / "data", "a", "b")
    store = await run(tmp_path / "1", who, rounds=12, baselines=Baselines(local=True))
    assert store.named.keys() == {"initial", "last", "best", "local:a", "local:b"}
    named = {one.model for one in store.named.values()}
    assert store.named["last"].model == store.model and store.named["last"].round == 12
    reached = {
        record.stage.round - 1: record.validation["accuracy"].mean() for record in store.committed(TaskKind.TRAIN)
    }
    [measured] = store.committed(TaskKind.EVALUATE)
    reached[12] = measured.validation["accuracy"].mean()
    assert store.named["best"].round == max(reached, key=lambda number: reached[number])
    assert store.models.keys() == named
    assert {blob_hash(path.read_bytes()) for path in store.models.values()} == named
    files = [path for path in (tmp_path / "1").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(store.models.values())


async def test_identical_sites_equal_one_site(tmp_path: Path) -> None:
    [one] = sites(tmp_path / "data", "a")
    shutil.copytree(one.data, tmp_path / "data" / "b")
    twin = SimulatedSite("b", tmp_path / "data" / "b", one.cohort)
    alone = await run(tmp_path / "1", [one], rounds=4)
    both = await run(tmp_path / "2", [one, twin], rounds=4)
    found = [decode(store.models[store.model].read_bytes())["weight"] for store in (alone, both)]
    assert np.allclose(*found, rtol=1e-12, atol=1e-14)


async def test_every_baseline_is_there(tmp_path: Path) -> None:
    who = sites(tmp_path / "data", "a", "b")
    store = await run(tmp_path / "1", who, baselines=Baselines(local=True, ensemble=True))
    assert set(store.local_models) == {"a", "b"}
    for about in ("", "a", "b", "ensemble"):
        [record] = store.committed(TaskKind.EVALUATE, about)
        assert record.validation["accuracy"].weight > 0
    pooled = await run(tmp_path / "2", [pooled_site(who, load(TINY).needs, 0.2)])
    [record] = pooled.committed(TaskKind.EVALUATE)
    [federated] = store.committed(TaskKind.EVALUATE)
    assert record.validation["accuracy"].weight == federated.validation["accuracy"].weight


def test_the_pooled_site_holds_out_whom_the_site_does_of_those_whose_samples_are_complete() -> None:
    """Where nobody's draw chooses, somebody is moved: it matters who is still there when the split is made."""
    needs = DataNeeds(kind="table", columns=(ColumnNeed(name="age"),), target=ColumnNeed(name="score"))
    chosen = [name for name in map(str, range(1000)) if draw_of(name) < 0.2][:3]
    others = [name for name in map(str, range(1000)) if draw_of(name) > 0.2][:5]
    samples = tuple(
        Sample(subject=name, files={"table": "t.csv"}, hash="blake3:" + "0" * 64, missing=("age",) * (name in chosen))
        for name in sorted(chosen + others)
    )
    cohort = Cohort(dataset="data", format="table", samples=samples, mapping=DataMapping(drop_incomplete=True))
    site = SimulatedSite("a", Path("nowhere"), cohort)
    _, own = split(RawSource(Path("nowhere"), cohort), cohort, 0.2, needs)
    assert set(own.ids) and pooled_site([site], needs, 0.2).cohort.validation == own.ids


async def test_what_a_plan_raises_reaches_the_researcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    who = sites(tmp_path / "data", "a", "b")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("in line 7 of my plan")

    monkeypatch.setattr(PlanRuntime, "train", broken)
    with pytest.raises(ZeroDivisionError, match="line 7 of my plan"):
        await run(tmp_path / "1", who)


async def test_an_update_that_the_loop_refuses_ends_the_simulation_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = sites(tmp_path / "data", "a")
    inner = Compute.__call__

    async def without_samples(self: Compute, task: Any) -> Any:
        found = await inner(self, task)
        return type(found)(found.update.model_copy(update={"samples": 0}), found.tensor_file, found.state)

    monkeypatch.setattr(Compute, "__call__", without_samples)
    with pytest.raises(ArchipelError, match="no samples"):
        await run(tmp_path / "1", who)


def test_an_id_that_two_sites_have_is_two_people_who_stay_on_their_sides(tmp_path: Path) -> None:
    needs = load(TINY, "TinyPlan").needs
    one, other = sites(tmp_path / "data", "a", "b")
    assert isinstance(one.data, Path)
    shutil.copytree(one.data, tmp_path / "twin")
    twin = SimulatedSite("twin", tmp_path / "twin", one.cohort)
    pooled = pooled_site([one, other, twin], needs, 0.2)
    assert len(pooled.cohort.subjects) == 20 + 30 + 20
    assert pooled.cohort.validation is not None
    for site, renamed in ((one, True), (other, False), (twin, True)):
        held_out = validation_ids(site.cohort.subjects, 0.2)
        names = {f"{site.name}:{subject}" if renamed else subject for subject in held_out}
        assert names <= set(pooled.cohort.validation)
    assert isinstance(pooled.data, PooledSource)
    readings = list(pooled.data.read(pooled.cohort.samples))
    alone = [
        reading
        for site in (one, other, twin)
        for reading in RawSource(site.data, site.cohort).read(site.cohort.samples)  # type: ignore[arg-type]
    ]
    assert all(np.array_equal(a.arrays["x"], b.arrays["x"]) for a, b in zip(readings, alone, strict=True))
