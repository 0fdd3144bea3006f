"""Strategies by the name that a job gives: its declared parameters, and how to make it from their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from archipel.strategies.contract import Strategy
from archipel.strategies.fedavg import FedAvg
from archipel.vocabulary import (
    BadInput,
    Conflict,
    HyperParameter,
    Job,
    Release,
    StrategyTerms,
    Value,
    check_arguments,
)


@dataclass(frozen=True)
class StrategyKind:
    """One kind of strategy: its parameters with their bounds, and ``make`` from the value of each."""

    parameters: tuple[HyperParameter, ...]
    make: Callable[[Mapping[str, Value]], Strategy]


_KINDS: dict[str, StrategyKind] = {}


def register_strategy(
    name: str, make: Callable[[Mapping[str, Value]], Strategy], *parameters: HyperParameter
) -> Callable[[], None]:
    """Make a strategy known by ``name``, in every program that is to run or submit it; returns how to undo that.

    Raises Conflict when the name is taken.
    """
    if name in _KINDS:
        raise Conflict(f"strategy {name}", "is registered already", "choose another name")
    _KINDS[name] = StrategyKind(parameters, make)

    def forget() -> None:
        del _KINDS[name]

    return forget


def strategy_of(terms: StrategyTerms) -> Strategy:
    """The strategy that a job names. Raises BadInput for an unknown name and for parameters that it does not take."""
    kind = _KINDS.get(terms.name)
    if kind is None:
        known = ", ".join(sorted(_KINDS))
        raise BadInput(f"strategy {terms.name}", "is not known here", f"choose one of: {known}")
    return kind.make(check_arguments(kind.parameters, terms.parameters, owner=f"strategy {terms.name}"))


def check_strategy(job: Job) -> Strategy:
    """The job's strategy. Raises BadInput when it cannot work with what the job lets leave a site."""
    strategy = strategy_of(job.strategy)
    if strategy.needs is Release.INDIVIDUALLY and job.privacy.release is Release.SUM:
        cause = f"strategy {job.strategy.name} needs each site's own update, and only sums may leave a site"
        remedy = "choose a strategy that needs only sums (fedavg), or let updates leave individually"
        raise BadInput(f"job {job.experiment}", cause, remedy)
    return strategy


register_strategy("fedavg", lambda _: FedAvg())
