"""A clip goes through a whole simulation: every site's update is bounded before it is averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clip import registered
from test_simulation import made, run, sites

from archipel.tensors import decode
from archipel.vocabulary import BadInput, PrivacyTerms, StepTerms

CLIP = PrivacyTerms(steps=(StepTerms(name="clip", parameters={"bound": 0.01}),))


async def test_what_is_averaged_is_each_sites_clipped_update(tmp_path: Path) -> None:
    who = sites(tmp_path / "data", "a", "b", "c")
    with registered():
        store = await run(tmp_path / "all", who, rounds=1, privacy=CLIP)
    initial = {name: value.astype(float) for name, value in decode(made(["a"]).initial_model).items()}
    samples, deltas = [], []
    for site in who:
        alone = await run(tmp_path / f"alone-{site.name}", [site], rounds=1)
        trained = decode(alone.models[alone.model].read_bytes())
        delta = {name: trained[name] - initial[name] for name in initial}
        norm = float(np.sqrt(sum(np.sum(value**2) for value in delta.values())))
        assert norm > 0.01, "nothing would be clipped"
        deltas.append({name: value * 0.01 / norm for name, value in delta.items()})
        samples.append(alone.records[0].sites[site.name].samples)
        found = store.records[0].sites[site.name].metrics["update_norm"]
        assert found.mean() == pytest.approx(norm, rel=1e-6)
    model = decode(store.models[store.model].read_bytes())
    for name, before in initial.items():
        oracle = before + np.average([delta[name] for delta in deltas], axis=0, weights=samples)
        wanted = oracle if model[name].dtype.kind == "f" else np.rint(oracle)
        np.testing.assert_allclose(model[name], wanted, rtol=1e-5, atol=1e-7)


async def test_a_step_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="privacy step clip"):
        await run(tmp_path / "1", sites(tmp_path / "data", "a"), rounds=1, privacy=CLIP)
