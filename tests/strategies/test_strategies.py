"""Every strategy against numpy, the product's and two that only tests have."""

from __future__ import annotations

import numpy as np
import pytest
from other_strategies import CoordinateMedian, FedAvgM, registered
from strategy_conformance import StrategyConformance, Tree

from archipel.governance import canonical
from archipel.strategies import STRATEGIES, FedAvg, strategy_of
from archipel.vocabulary import BadInput, Conflict, StrategyTerms


def mean(trees: list[Tree], samples: list[int]) -> Tree:
    return {
        name: np.average([tree[name].astype(float) for tree in trees], axis=0, weights=samples) for name in trees[0]
    }


class TestFedAvg(StrategyConformance):
    strategy = FedAvg()

    def oracle(self, model: Tree, trees: list[Tree], samples: list[int], memory: dict[str, Tree]) -> Tree:
        return mean(trees, samples)


class TestServerMomentum(StrategyConformance):
    strategy = FedAvgM(0.5)

    def oracle(self, model: Tree, trees: list[Tree], samples: list[int], memory: dict[str, Tree]) -> Tree:
        found = {}
        for name, aggregate in mean(trees, samples).items():
            memory["momentum"][name] = 0.5 * memory["momentum"][name] + (model[name] - aggregate)
            found[name] = np.asarray(model[name] - memory["momentum"][name])
        return found


class TestCoordinateMedian(StrategyConformance):
    strategy = CoordinateMedian()

    def oracle(self, model: Tree, trees: list[Tree], samples: list[int], memory: dict[str, Tree]) -> Tree:
        return {name: np.asarray(np.median([tree[name] for tree in trees], axis=0)) for name in trees[0]}


def test_parameters_are_those_that_a_strategy_declares() -> None:
    with registered():
        assert strategy_of(StrategyTerms(name="fedavgm", parameters={"beta": 0.25})) == FedAvgM(0.25)
        assert strategy_of(StrategyTerms(name="fedavgm")) == FedAvgM(0.9)
        with pytest.raises(BadInput, match="strategy fedavgm declares no such"):
            strategy_of(StrategyTerms(name="fedavgm", parameters={"gamma": 1.0}))
        with pytest.raises(BadInput, match="outside its bounds"):
            strategy_of(StrategyTerms(name="fedavgm", parameters={"beta": 2.0}))
        with pytest.raises(Conflict, match="registered already"):
            STRATEGIES.register("fedavgm", lambda _: FedAvg())
    with pytest.raises(BadInput, match="not known here; choose one of: fedavg"):
        strategy_of(StrategyTerms(name="fedavgm"))


def test_only_what_differs_from_the_defaults_is_in_what_a_site_approves() -> None:
    assert canonical(StrategyTerms()) == b"{}"
    assert canonical(StrategyTerms(name="m", parameters={"b": 1.5})) == b'{"name":"m","parameters":{"b":1.5}}'
