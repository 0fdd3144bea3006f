"""A model with a frozen part in a simulation: in one process, in several, pooled, and by command line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from test_simulation import KEY, table
from typer.testing import CliRunner

from archipel.cli.main import app
from archipel.plans import Draft, draft
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import SimulatedSite, scanned_site, simulate, train_pooled
from archipel.tensors import decode, joined
from archipel.vocabulary import BadInput, Baselines, PrivacyTerms, Release, RosterEntry, RoundTerms

PLAN = Path(__file__).parents[1] / "federation" / "frozen_plan.py"
NAMES = ("site-a", "site-b")
WHOLE = 8 * 8 * 256 * 64
"""Bytes of the backbone."""


def made(**more: object) -> Draft:
    roster = [RosterEntry(site=name, identity_key=KEY, dataset="data") for name in NAMES]
    terms = RoundTerms(rounds=3, quorum=2, retries=0)
    return draft(PLAN, experiment="frozen", roster=roster, server_key=KEY, terms=terms, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name in NAMES:
        table(folder / name, name)
    return folder


@pytest.fixture(scope="module")
def sites(data: Path) -> list[SimulatedSite]:
    return [scanned_site(name, data / name, made().job.needs) for name in NAMES]


def run(folder: Path, sites: list[SimulatedSite], found: Draft, **more: int) -> MemoryExperimentStore:
    folder.mkdir()
    going = simulate(found.job, found.plan, found.initial_model, sites, folder, frozen=found.frozen, **more)
    return asyncio.run(going)


@pytest.mark.processes
def test_one_process_and_several_give_the_same_bits_and_only_the_head_is_ever_a_file(
    tmp_path: Path, sites: list[SimulatedSite]
) -> None:
    found = made(baselines=Baselines(local=True, ensemble=True))
    one = run(tmp_path / "1", sites, found)
    two = run(tmp_path / "2", sites, found, workers=2)
    assert one.model == two.model != found.job.initial_model and one.local_models == two.local_models
    sent = sorted(spec.name for spec in found.job.tensors.tensors)
    assert all(sorted(decode(file.read_bytes())) == sent for file in one.models.values())
    assert all(update.stat().st_size < WHOLE / 100 for update in one.models.values())
    by_name = {record.stage.about: record.validation["accuracy"].mean() for record in one.records if record.stage.about}
    assert by_name["ensemble"] > 0.6


def test_the_same_model_is_trained_where_only_sums_leave(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    found = made(privacy=PrivacyTerms(release=Release.SUM))
    assert decode(run(tmp_path / "1", sites, found).models.popitem()[1].read_bytes()).keys() == {
        "head.weight",
        "head.bias",
    }


def test_a_frozen_part_that_is_missing_or_not_named_is_an_error(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    found = made()
    with pytest.raises(BadInput, match=r"job frozen: names a frozen part that is not given; give what draft\(\) made"):
        run(tmp_path / "1", sites, found._replace(frozen=None))
    plain = found.job.model_copy(update={"frozen": None})
    with pytest.raises(BadInput, match="names no frozen part"):
        run(tmp_path / "2", sites, found._replace(job=plain))


def test_the_pooled_baseline_has_the_frozen_part_too(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    pooled = train_pooled(PLAN, sites, rounds=2, folder=tmp_path)
    assert set(pooled.per_site) == set(NAMES)


def test_simulate_writes_the_whole_model(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "model.safetensors"
    done = CliRunner().invoke(app, ["simulate", str(PLAN), str(data), "--rounds", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    found = made()
    arrays, before = decode(out.read_bytes()), decode(joined(found.initial_model, found.frozen))
    assert arrays.keys() == before.keys()
    changed = {name for name in arrays if (arrays[name] != before[name]).any()}
    assert changed == {"head.weight", "head.bias"}
