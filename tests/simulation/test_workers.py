"""A simulation in several processes: the same bits as in one, a dead process is one error, and none is left."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deed_plan import DIES, FORKS_AND_DIES, RAISES, RAISES_WHAT_CANNOT_TRAVEL, SLEEPS, TRAINS

from archipel.plans import draft, load, package
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import SimulatedSite, SiteSpec, scanned_site, simulate
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Baselines,
    ErrorCode,
    OptimiserState,
    RosterEntry,
    RoundTerms,
    TaskKind,
)
from worlds.processes import hears_no_ctrl_c

pytestmark = pytest.mark.processes
HERE = Path(__file__).parent
DEEDS, NET, TINY = HERE / "deed_plan.py", HERE / "torch_plan.py", HERE.parents[1] / "examples" / "tiny_numpy.py"
NOBODY = "ed25519:" + "0" * 64


def table(folder: Path, x: np.ndarray[Any, Any]) -> Path:
    folder.mkdir(parents=True)
    names = np.array([f"{folder.name}-{number}" for number in range(len(x))])
    np.savez(folder / "table.npz", x=x, y=(x[:, 0] > 0).astype(float), subject=names)
    return folder


def patients(root: Path, names: str, plan: Path) -> list[SimulatedSite]:
    needs = load(plan).needs
    draws = ((name, np.random.default_rng([7, *name.encode()])) for name in names)
    return [scanned_site(name, table(root / name, draw.normal(size=(30, 8))), needs) for name, draw in draws]


def doing(root: Path, deeds: Sequence[int]) -> list[SimulatedSite]:
    """Sites ``site-0``, ``site-1``, ...; worker number w of n has those from w on, n apart."""
    needs = load(DEEDS).needs
    return [
        scanned_site(f"site-{number}", table(root / f"site-{number}", np.full((3, 1), float(deed))), needs)
        for number, deed in enumerate(deeds)
    ]


async def run(
    folder: Path, plan: Path, who: Sequence[SimulatedSite], *, workers: int, **more: Any
) -> MemoryExperimentStore:
    folder.mkdir()  # noqa: ASYNC240 - a test has nothing else to do
    made = draft(
        plan,
        experiment="simulated",
        roster=[RosterEntry(site=site.name, identity_key=NOBODY, dataset="data") for site in who],
        server_key=NOBODY,
        terms=RoundTerms(rounds=3, quorum=len(who), deadline_s=3600),
        **more,
    )
    return await simulate(made.job, made.plan, made.initial_model, who, folder, workers=workers)


def told(store: MemoryExperimentStore) -> list[Any]:
    """Everything that an experiment says, but for the time that it took."""
    return [
        (
            record.stage, record.contributors, record.model, record.metrics, record.validation,
            {name: (one.samples, one.metrics, one.validation) for name, one in record.sites.items()},
        )
        for record in store.records
    ]  # fmt: skip


def workers_of(process: int) -> set[int]:
    """The worker processes that this one started: those beside multiprocessing's own."""
    found = map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())
    return {child for child in found if b"spawn_main" in command(child)}


def command(process: int) -> bytes:
    """How it was started; empty when it is gone or only waits to be looked at."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize(("plan", "workers"), [(TINY, 2), (TINY, 5), (NET, 2)], ids=["numpy", "many", "torch"])
async def test_processes_give_the_same_bits_as_one_and_a_state_that_stays_at_its_site(
    tmp_path: Path, plan: Path, workers: int
) -> None:
    assert load(plan).optimiser_state is OptimiserState.CONTINUE_LOCAL
    who = patients(tmp_path / "data", "abcde", plan)
    both = Baselines(local=True, ensemble=True)
    one, several = [
        await run(tmp_path / f"with-{count}", plan, who, workers=count, baselines=both) for count in (1, workers)
    ]
    assert told(one) == told(several)
    assert one.local_models == several.local_models and len(one.local_models) == 5
    assert several.models.keys() == one.models.keys()
    assert all(several.models[model].read_bytes() == one.models[model].read_bytes() for model in one.models)


async def test_a_site_stays_with_its_worker_and_no_process_is_left(tmp_path: Path) -> None:
    store = await run(tmp_path / "out", DEEDS, doing(tmp_path / "data", [TRAINS] * 5), workers=2)
    trained = store.committed(TaskKind.TRAIN)
    assert len(trained) == 3
    of_round = [{name: one.metrics["loss"].total for name, one in record.sites.items()} for record in trained]
    assert of_round[0] == of_round[1] == of_round[2]
    first = of_round[0]
    assert first["site-0"] == first["site-2"] == first["site-4"] != first["site-1"] == first["site-3"]
    assert os.getpid() not in first.values()
    assert not workers_of(os.getpid())


@pytest.mark.parametrize("deed", [DIES, FORKS_AND_DIES])
async def test_a_worker_that_dies_is_one_error_that_names_its_sites(
    tmp_path: Path, deed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked = tmp_path / "forked"
    monkeypatch.setenv("DEED_PLAN_FORKED", str(forked))
    who = doing(tmp_path / "data", [TRAINS, TRAINS, SLEEPS, deed])
    began = time.monotonic()
    with pytest.raises(ArchipelError, match="worker of sites site-1, site-3: ended by signal SIGKILL") as caught:
        await run(tmp_path / "out", DEEDS, who, workers=2, arguments={"from_round": 2})
    assert caught.value.code is ErrorCode.CRASHED
    assert "use fewer workers" in caught.value.remedy
    # The other worker was at a task of a minute, and what the dead one had started sleeps for one, too.
    assert time.monotonic() - began < 50
    assert not workers_of(os.getpid())
    if deed == FORKS_AND_DIES:
        os.kill(int(forked.read_text()), signal.SIGKILL)


async def test_what_a_plan_raises_in_a_worker_reaches_the_researcher(tmp_path: Path) -> None:
    who = doing(tmp_path / "data", [TRAINS, RAISES])
    with pytest.raises(Exception, match=r"^on purpose$") as caught:
        await run(tmp_path / "out", DEEDS, who, workers=2)
    assert type(caught.value).__name__ == "OwnError"
    assert 'raise OwnError("on purpose")' in str(caught.value.__cause__)


async def test_what_cannot_travel_between_processes_is_told_in_words(tmp_path: Path) -> None:
    who = doing(tmp_path / "data", [TRAINS, RAISES_WHAT_CANNOT_TRAVEL])
    with pytest.raises(ArchipelError, match=r"site-1: Unpicklable: on purpose \(deed_plan.py:\d+\); fix"):
        await run(tmp_path / "out", DEEDS, who, workers=2)


async def test_an_error_of_archipels_keeps_its_class_and_code(tmp_path: Path) -> None:
    who = doing(tmp_path / "data", [TRAINS, TRAINS])
    (tmp_path / "data" / "site-1" / "table.npz").unlink()
    table(tmp_path / "other", np.ones((2, 1)))
    (tmp_path / "other" / "table.npz").rename(tmp_path / "data" / "site-1" / "table.npz")
    with pytest.raises(BadInput) as caught:
        await run(tmp_path / "out", DEEDS, who, workers=2)
    assert caught.value.code is ErrorCode.DATA_CHANGED and caught.value.remedy


async def test_a_plan_that_cannot_be_loaded_is_told_before_the_first_round(tmp_path: Path) -> None:
    who = doing(tmp_path / "data", [TRAINS, TRAINS])
    made = draft(
        DEEDS, experiment="simulated", server_key=NOBODY, terms=RoundTerms(rounds=1, quorum=2),
        roster=[RosterEntry(site=site.name, identity_key=NOBODY, dataset="data") for site in who],
    )  # fmt: skip
    broken = tmp_path / "deed_plan.py"
    broken.write_text(DEEDS.read_text().replace("import os\n", "import os\nimport nowhere_to_be_found\n"))
    (tmp_path / "out").mkdir()
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        await simulate(made.job, package(broken), made.initial_model, who, tmp_path / "out", workers=2)


async def test_no_number_of_workers_below_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="workers 0: is less than one; give the number of processes that train"):
        await run(tmp_path / "out", DEEDS, doing(tmp_path / "data", [TRAINS]), workers=0)


def test_a_specification_is_a_value_that_travels(tmp_path: Path) -> None:
    [site] = doing(tmp_path / "data", [TRAINS])
    made = draft(
        DEEDS, experiment="simulated", server_key=NOBODY, terms=RoundTerms(rounds=1, quorum=1),
        roster=[RosterEntry(site=site.name, identity_key=NOBODY, dataset="data")],
    )  # fmt: skip
    spec = SiteSpec(made.job, made.plan, site.name, site.data, site.cohort, tmp_path, tmp_path / site.name)
    assert pickle.loads(pickle.dumps(spec)) == spec


async def test_a_simulation_that_is_cancelled_ends_its_workers(tmp_path: Path) -> None:
    who = doing(tmp_path / "data", [SLEEPS, SLEEPS])
    running = asyncio.create_task(run(tmp_path / "out", DEEDS, who, workers=2))
    while len(workers_of(os.getpid())) < 2:  # noqa: ASYNC110 - the processes set no event here
        await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not workers_of(os.getpid())


@pytest.mark.parametrize("at_once", [True, False], ids=["while-starting", "while-training"])
def test_ctrl_c_ends_all(tmp_path: Path, at_once: bool) -> None:
    doing(tmp_path / "data", [SLEEPS, SLEEPS, SLEEPS])
    words = ["simulate", str(DEEDS), str(tmp_path / "data"), "--workers", "2", "--rounds", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "archipel", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as started:  # fmt: skip
        tensor_files = "archipel-simulation-*/site-1" if not at_once else "archipel-simulation-*"
        while not list(tmp_path.glob(tensor_files)):
            assert started.poll() is None
            time.sleep(0.05)
        while not (workers := workers_of(started.pid)):
            time.sleep(0.002)
        # The first one too, from its first instruction on.
        assert all(map(hears_no_ctrl_c, workers))
        # As a terminal does: to every process of the group.
        os.killpg(started.pid, signal.SIGINT)
        output, errors = started.communicate(timeout=60)
        assert (started.returncode, output, errors) == (130, "", "")
    assert not any(map(command, workers))
    assert not list(tmp_path.glob("archipel-simulation-*"))
