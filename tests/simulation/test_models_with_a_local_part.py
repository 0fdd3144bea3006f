"""Batch norms that stay local to a site, in a simulation, against FedBN written down here without Archipel's rounds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fedbn_plan import NormPlan
from test_simulation import KEY
from typer.testing import CliRunner

from archipel.cli.main import app
from archipel.governance import job_hash
from archipel.plans import Draft, derive_seed, draft
from archipel.rounds import MemoryExperimentStore, model_path
from archipel.simulation import SimulatedSite, scanned_site, simulate, train_pooled
from archipel.simulation.site_specs import SiteHandler, SiteSpec, site_handler
from archipel.simulation.trainer import LOCAL_PART
from archipel.tensors import decode, joined
from archipel.vocabulary import (
    BadInput,
    Baselines,
    PrivacyTerms,
    Release,
    RosterEntry,
    RoundClosed,
    RoundTerms,
    Task,
    TaskKey,
    TaskKind,
    TrainingPass,
)

PLAN = Path(__file__).with_name("fedbn_plan.py")
COUNTS = {"site-a": 30, "site-b": 40}
ROUNDS = 3
SHARED, NORM = {"0.weight", "0.bias", "3.weight", "3.bias"}, "1."


def made(**more: object) -> Draft:
    roster = [RosterEntry(site=name, identity_key=KEY, dataset="data") for name in COUNTS]
    terms = RoundTerms(rounds=ROUNDS, quorum=2, retries=0)
    return draft(PLAN, experiment="norms", roster=roster, server_key=KEY, terms=terms, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables whose numbers are on another scale at each site."""
    root = tmp_path_factory.mktemp("norms")
    for place, (name, count) in enumerate(COUNTS.items()):
        draw = np.random.default_rng([3, place])
        (root / name).mkdir()
        x = draw.normal(size=(count, 8))
        subject = np.array([f"{name}-{number:03d}" for number in range(count)])
        np.savez(root / name / "table.npz", x=x * 4**place + 3 * place, y=(x[:, 0] > 0).astype(float), subject=subject)
    return root


@pytest.fixture(scope="module")
def sites(data: Path) -> list[SimulatedSite]:
    return [scanned_site(name, data / name, NormPlan.needs) for name in COUNTS]


def run(folder: Path, sites: list[SimulatedSite], found: Draft, **more: int) -> MemoryExperimentStore:
    folder.mkdir()
    going = simulate(found.job, found.plan, found.initial_model, sites, folder, local=found.local, **more)
    return asyncio.run(going)


class Hospital:
    """One site of the loop below: its rows, and a batch norm that nobody else sees."""

    def __init__(self, site: SimulatedSite) -> None:
        with np.load(site.data / "table.npz") as table:
            x, y, subject = table["x"], table["y"], table["subject"]
        validates = np.isin(subject, sorted(site.cohort.held_out(0.2)))
        self.name = site.name
        self.rows, self.held_out = (
            (torch.from_numpy(x[which]), torch.from_numpy(y[which])) for which in (~validates, validates)
        )
        self.norm: dict[str, torch.Tensor] = {}

    def train(self, network: torch.nn.Module, round_: int) -> dict[str, torch.Tensor]:
        network.load_state_dict(self.norm, strict=False)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        seed = derive_seed(0, self.name, round_)
        generator = torch.Generator().manual_seed(derive_seed(seed, "batches"))
        network.train()
        x, y = self.rows
        for _ in range(2):
            for batch in torch.randperm(len(x), generator=generator).split(6):
                optimiser.zero_grad()
                torch.nn.functional.mse_loss(network(x[batch]).squeeze(1), y[batch]).backward()
                optimiser.step()
        state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self.norm = {name: tensor for name, tensor in state.items() if name.startswith(NORM)}
        return {name: tensor for name, tensor in state.items() if not name.startswith(NORM)}

    def measure(self, network: torch.nn.Module) -> float:
        network.load_state_dict(self.norm, strict=False)
        network.eval()
        with torch.no_grad():
            x, y = self.held_out
            return float(torch.nn.functional.mse_loss(network(x).squeeze(1), y))


def fedbn(sites: list[SimulatedSite], rounds: int = ROUNDS) -> tuple[list[Hospital], dict[str, torch.Tensor]]:
    """FedBN: average everything but the batch norms; each hospital goes on with its own."""
    hospitals = [Hospital(site) for site in sites]
    start = NormPlan().initial_model(0)
    shared = {name: torch.from_numpy(array) for name, array in start.items() if not name.startswith(NORM)}
    for one in hospitals:
        one.norm = {name: torch.from_numpy(array.copy()) for name, array in start.items() if name.startswith(NORM)}
    counts = torch.tensor([len(one.rows[0]) for one in hospitals], dtype=torch.float64)
    for round_ in range(1, rounds + 1):
        trained = []
        for one in hospitals:
            network = NormPlan().build_model()
            network.load_state_dict(shared, strict=False)
            trained.append(one.train(network, round_))
        for name in shared:
            stacked = torch.stack([state[name] for state in trained])
            shared[name] = torch.tensordot(counts / counts.sum(), stacked, 1)
    return hospitals, shared


def test_it_is_fedbn(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    found = made()
    assert {spec.name for spec in found.job.tensors.tensors} == SHARED
    store = run(tmp_path / "1", sites, found)
    hospitals, shared = fedbn(sites)
    model = decode(store.models[store.model].read_bytes())
    assert model.keys() == SHARED
    for name in SHARED:
        assert model[name] == pytest.approx(shared[name].numpy(), rel=1e-9, abs=1e-9)
    norms = [decode((tmp_path / "1" / one.name / LOCAL_PART).read_bytes()) for one in hospitals]
    for one, norm in zip(hospitals, norms, strict=True):
        assert norm.keys() == one.norm.keys()
        assert norm["1.num_batches_tracked"] == one.norm["1.num_batches_tracked"] > 0
        for name, tensor in one.norm.items():
            assert norm[name] == pytest.approx(tensor.numpy(), rel=1e-9, abs=1e-9)
    assert np.abs(norms[0]["1.running_mean"] - norms[1]["1.running_mean"]).max() > 0.1, "each site has its own"
    # The federated model is measured at each site with the site's own batch norm.
    (last,) = store.committed(TaskKind.EVALUATE)
    for one in hospitals:
        network = NormPlan().build_model()
        network.load_state_dict(shared, strict=False)
        measured = last.sites[one.name].validation["validation_loss"].mean()
        assert measured == pytest.approx(one.measure(network), rel=1e-5)


@pytest.mark.processes
def test_one_process_and_several_give_the_same_bits(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    found = made(baselines=Baselines(local=True))
    one = run(tmp_path / "1", sites, found)
    two = run(tmp_path / "2", sites, found, workers=2)
    assert one.model == two.model != found.job.initial_model and one.local_models == two.local_models
    for name in COUNTS:
        first, second = ((tmp_path / run / name / LOCAL_PART).read_bytes() for run in "12")
        assert first == second
    assert [record.validation for record in one.records] == [record.validation for record in two.records]


def test_a_local_model_is_measured_at_its_own_site_with_the_norm_of_its_own_training(
    tmp_path: Path, sites: list[SimulatedSite]
) -> None:
    store = run(tmp_path / "1", sites, made(baselines=Baselines(local=True)))
    alone = {record.stage.about: record for record in store.records if record.stage.about}
    for site in sites:
        record = alone[site.name]
        assert [name for name, part in record.sites.items() if part.validation] == [site.name]
        assert [part.samples > 0 for name, part in sorted(record.sites.items())] == [
            name == site.name for name in sorted(COUNTS)
        ]
        ([hospital], shared) = fedbn([site])
        network = NormPlan().build_model()
        network.load_state_dict(shared, strict=False)
        measured = record.sites[site.name].validation["validation_loss"].mean()
        assert measured == pytest.approx(hospital.measure(network), rel=1e-4)


def test_an_ensemble_of_models_that_are_not_whole_elsewhere_is_refused() -> None:
    with pytest.raises(BadInput, match=r"the local part of each stays at its site: leave the ensemble out"):
        made(baselines=Baselines(local=True, ensemble=True))
    assert made(baselines=True).job.baselines == Baselines(local=True), "all that there can be"


def test_only_sums_leave_and_the_model_is_the_same(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    found = made(privacy=PrivacyTerms(release=Release.SUM))
    summed = decode(run(tmp_path / "1", sites, found).models.popitem()[1].read_bytes())
    whole = run(tmp_path / "2", sites, made())
    assert summed.keys() == SHARED
    for name, array in decode(whole.models[whole.model].read_bytes()).items():
        assert summed[name] == pytest.approx(array, abs=1e-5)


class OneSite:
    """The handler of site-a, asked for single attempts."""

    def __init__(self, folder: Path, site: SimulatedSite, found: Draft) -> None:
        folder.mkdir()
        assert found.job.local is not None and found.local is not None
        self.job, self.hash = found.job, job_hash(found.job)
        model_path(folder, found.job.local.blob).write_bytes(found.local)
        model_path(folder, found.job.initial_model).write_bytes(found.initial_model)
        spec = SiteSpec(found.job, found.plan, site.name, site.data, site.cohort, folder, folder / site.name)
        self.handler: SiteHandler = site_handler(spec, asyncio.Lock())

    async def train(self, round_: int, attempt: int = 1) -> str | None:
        key = TaskKey(experiment=self.job.experiment, round=round_, attempt=attempt)
        passes = (TrainingPass(round=round_, arguments=self.job.arguments),)
        task = Task(key=key, job_hash=self.hash, models=(self.job.initial_model,), passes=passes)
        return (await self.handler(task)).update.model

    def close(self, round_: int, attempt: int, *contributors: str) -> None:
        self.handler.settle(
            RoundClosed(
                experiment=self.job.experiment,
                round=round_,
                attempt=attempt,
                job_hash=self.hash,
                committed=bool(contributors),
                contributors=contributors,
            )
        )


async def test_an_attempt_that_did_not_count_leaves_nothing(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    found = made()
    found = found._replace(job=found.job.model_copy(update={"terms": RoundTerms(rounds=3, quorum=1)}))
    site, other, fresh = (OneSite(tmp_path / name, sites[0], found) for name in "abc")
    first = await site.train(1)
    site.close(1, 1)
    assert await site.train(1, 2) == first, "a second attempt starts from the same local part"
    site.close(1, 2, "site-b")
    assert await site.train(2) == await fresh.train(2), "the round counted without this site"
    await other.train(1)
    other.close(1, 1, "site-a")
    assert await other.train(2) != await fresh.train(2, 2)


def test_the_pooled_baseline_is_one_site_with_one_local_part(tmp_path: Path, sites: list[SimulatedSite]) -> None:
    pooled = train_pooled(PLAN, sites, rounds=2, folder=tmp_path)
    together = sum(per_site["validation_loss"].total for per_site in pooled.per_site.values())
    assert pooled.last.validation["validation_loss"].total == pytest.approx(together, rel=1e-5)


def test_simulate_writes_a_model_with_the_initial_local_part_and_says_that_there_is_no_ensemble(
    tmp_path: Path, data: Path
) -> None:
    out = tmp_path / "model.safetensors"
    words = ["simulate", str(PLAN), str(data), "--rounds", "1", "--out", str(out), "--baselines", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "no ensemble: a part of each local model stays at its site" in done.stderr
    assert "ensemble" not in {one["model"] for one in json.loads(done.stdout)}
    found = made()
    arrays, before = decode(out.read_bytes()), decode(joined(found.initial_model, found.local))
    changed = {name for name in arrays if (arrays[name] != before[name]).any()}
    # A bias before a batch norm has no gradient.
    assert SHARED - {"0.bias"} <= changed <= SHARED and arrays.keys() == before.keys() > SHARED
