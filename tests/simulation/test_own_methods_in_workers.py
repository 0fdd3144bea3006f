"""Methods that Archipel does not have, in worker processes: the same bits as in one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_workers import NOBODY, TINY, patients, told

from archipel.plans import draft
from archipel.rounds import MemoryExperimentStore
from archipel.simulation import simulate
from archipel.vocabulary import BadInput, PrivacyTerms, Release, RosterEntry, RoundTerms, StepTerms, StrategyTerms

pytestmark = pytest.mark.processes
MODULES = ("own_methods",)
CLIP = StepTerms(name="own-clip", parameters={"bound": 0.01})
MOMENTUM = StrategyTerms(name="own-momentum", parameters={"beta": 0.5})


async def run(folder: Path, workers: int, privacy: PrivacyTerms, modules: tuple[str, ...]) -> MemoryExperimentStore:
    who = patients(folder / "data", "abc", TINY)
    (folder / "run").mkdir()
    made = draft(
        TINY,
        experiment="simulated",
        roster=[RosterEntry(site=site.name, identity_key=NOBODY, dataset="data") for site in who],
        server_key=NOBODY,
        terms=RoundTerms(rounds=2, quorum=len(who), deadline_s=3600),
        strategy=MOMENTUM,
        privacy=privacy,
    )
    return await simulate(
        made.job, made.plan, made.initial_model, who, folder / "run", workers=workers, modules=modules
    )


@pytest.mark.parametrize("release", list(Release))
async def test_a_clip_and_server_momentum_give_the_same_bits_in_two_workers(tmp_path: Path, release: Release) -> None:
    privacy = PrivacyTerms(release=release, steps=(CLIP,))
    alone = await run(tmp_path / "one", 1, privacy, MODULES)
    several = await run(tmp_path / "two", 2, privacy, MODULES)
    assert (several.model, told(several)) == (alone.model, told(alone))
    assert several.records[0].metrics["update_norm"].mean() > 0.01, "nothing was clipped"
    kept = [book.progress().memory["momentum"] for book in (alone, several)]
    assert kept[0] == kept[1]


async def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="module no_such_methods: cannot be imported: ModuleNotFoundError"):
        await run(tmp_path, 1, PrivacyTerms(), ("no_such_methods",))
