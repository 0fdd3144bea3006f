"""Strategies by the name that a job gives, and whether a strategy can work under the job's release."""

from __future__ import annotations

from archipel.strategies.contract import Strategy
from archipel.strategies.fedavg import FedAvg
from archipel.vocabulary import BadInput, Job, Registry, Release, StrategyTerms, Thing

STRATEGIES: Registry[Strategy] = Registry("strategy")
"""Every strategy that this process knows."""
STRATEGIES.register("fedavg", lambda _: FedAvg())


def strategy_of(terms: StrategyTerms) -> Strategy:
    """The strategy that a job names. Raises BadInput for an unknown name and for parameters that it does not take."""
    return STRATEGIES.make(terms.name, terms.parameters)


def known_needs(terms: StrategyTerms) -> Release | None:
    """What must leave the sites for the strategy to work; None for one that this process does not know.

    Raises BadInput for parameters that a known strategy does not take.
    """
    return strategy_of(terms).needs if terms.name in STRATEGIES else None


def check_strategy(job: Job) -> Strategy:
    """The job's strategy. Raises BadInput when it needs individual updates and only sums may leave."""
    strategy = strategy_of(job.strategy)
    if strategy.needs is Release.INDIVIDUALLY and job.privacy.release is Release.SUM:
        cause = f"strategy {job.strategy.name} needs each site's own update, and only sums may leave a site"
        remedy = "choose a strategy that needs only sums (fedavg), or let updates leave individually"
        raise BadInput(Thing("job", job.experiment), cause, remedy, values={"strategy": job.strategy.name})
    return strategy
