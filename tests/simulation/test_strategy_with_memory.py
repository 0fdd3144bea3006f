"""A strategy with memory from end to end in a simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from other_strategies import registered
from test_simulation import made, run, sites

from archipel.tensors import decode
from archipel.vocabulary import StrategyTerms

TERMS = StrategyTerms(name="fedavgm", parameters={"beta": 0.5})


async def test_a_simulated_round_with_momentum_is_numpys(tmp_path: Path) -> None:
    who = sites(tmp_path / "data", "a", "b")
    with registered():
        store = await run(tmp_path / "m", who, rounds=3, strategy=TERMS)
        again = await run(tmp_path / "again", who, rounds=3, strategy=TERMS)
        plain = await run(
            tmp_path / "none", who, rounds=3, strategy=StrategyTerms(name="fedavgm", parameters={"beta": 0})
        )
    averaged = await run(tmp_path / "avg", who, rounds=3)
    initial = decode(made(["a", "b"]).initial_model)
    first = await run(tmp_path / "first", who, rounds=1)
    assert store.model == again.model != averaged.model
    # Without momentum it is federated averaging, up to the rounding of w - (w - mean).
    for name, values in decode(plain.models[plain.model].read_bytes()).items():
        np.testing.assert_allclose(values, decode(averaged.models[averaged.model].read_bytes())[name], rtol=1e-5)
    # Models that have no name are deleted, so shorter runs show what the first two rounds made.
    shorter = []
    for rounds in (1, 2):
        with registered():
            part = await run(tmp_path / f"part-{rounds}", who, rounds=rounds, strategy=TERMS)
        shorter.append(decode(part.models[part.model].read_bytes()))
    after = [*shorter, decode(store.models[store.model].read_bytes())]
    mean = decode(first.models[first.model].read_bytes())
    kept = decode(store.models[store.progress().memory["momentum"]].read_bytes())
    for name in initial:
        np.testing.assert_allclose(after[0][name], mean[name], rtol=1e-6, atol=1e-7)
        # What is kept after the last round is the step that the last round took; whole numbers are rounded in a model.
        step = after[1][name].astype(float) - after[2][name]
        np.testing.assert_allclose(kept[name], step, rtol=1e-4, atol=1e-6 if after[2][name].dtype.kind == "f" else 1)
    assert store.named.keys() >= {"last", "memory:momentum"}
    assert {one.model for one in store.named.values()} == set(store.models), "older memories are deleted"
