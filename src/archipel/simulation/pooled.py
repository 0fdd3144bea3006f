"""The pooled baseline: what one hospital with the patients of all sites would reach.

Every site's data is read and mapped as at that site, and the same subjects are held out, so that only the pooling
differs. Only a simulation may pool: real hospitals' data stays apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from archipel.data import Cohort, RawSource, Sample, SampleData, Source, usable
from archipel.governance import job_hash
from archipel.plans import StartingModel, draft, load_packaged
from archipel.plans.runtime import PlanRuntime
from archipel.rounds import StageRecord
from archipel.simulation.experiment import simulate
from archipel.simulation.sites import SimulatedSite
from archipel.simulation.trainer import LOCAL_PART
from archipel.vocabulary import (
    NO_KEY,
    DataNeeds,
    MetricSum,
    RosterEntry,
    RoundTerms,
    Task,
    TaskKey,
    TaskKind,
    Value,
    WorkerLimits,
)

NAME = "pooled"
_Key = tuple[str, str]


@dataclass(frozen=True)
class PooledSource:
    """Samples of several sites under unique names. Values have the plan's names already."""

    needs: DataNeeds
    sites: tuple[SimulatedSite, ...]
    origins: Mapping[_Key, tuple[int, Sample]]
    """For each pooled sample its site, by place, and the sample as it is there."""

    def read(self, samples: Sequence[Sample]) -> Iterator[SampleData]:
        """The samples in order; each site's are read one after the other, in one go."""
        origins = [self.origins[sample.key] for sample in samples]
        readings = {
            place: _source(site).read([sample for at, sample in origins if at == place])
            for place, site in enumerate(self.sites)
        }
        for place, _ in origins:
            yield self._in_the_plans_words(self.sites[place], next(readings[place]))

    def _in_the_plans_words(self, site: SimulatedSite, reading: SampleData) -> SampleData:
        rule = site.cohort.mapping
        values = {column.name: rule.value(column.name, reading.values) for column in self.needs.all_columns}
        images = {asked: reading.images.get(rule.stored_modality(asked)) for asked in self.needs.images}
        return SampleData(
            images={asked: image for asked, image in images.items() if image is not None},
            label=reading.label,
            affine=reading.affine,
            arrays=reading.arrays,
            values={name: value for name, value in values.items() if value is not None},
        )


def _source(site: SimulatedSite) -> Source:
    return RawSource(site.data, site.cohort) if isinstance(site.data, Path) else site.data


def pooled_site(sites: Sequence[SimulatedSite], needs: DataNeeds, fraction: float, name: str = NAME) -> SimulatedSite:
    """All sites' usable subjects as one site; those held out at a site (by ``fraction`` where it has no list) are held
    out here too. An id that several sites have stands for several patients, each called ``<site>:<id>``."""
    cohorts = [usable(site.cohort, needs) for site in sites]
    sites_of = Counter(subject for cohort in cohorts for subject in cohort.subjects)
    several = {subject for subject, count in sites_of.items() if count > 1}
    origins: dict[_Key, tuple[int, Sample]] = {}
    samples, held_out = [], []
    for place, (site, cohort) in enumerate(zip(sites, cohorts, strict=True)):
        chosen = cohort.held_out(fraction)

        def called(subject: str, site: str = site.name) -> str:
            return f"{site}:{subject}" if subject in several else subject

        held_out += [called(subject) for subject in cohort.subjects if subject in chosen]
        for sample in cohort.samples:
            pooled = sample.model_copy(update={"subject": called(sample.subject)})
            origins[pooled.key] = place, sample
            samples.append(pooled)
    cohort = Cohort(
        dataset=NAME, format=sites[0].cohort.format, samples=tuple(samples), validation=tuple(sorted(held_out))
    )
    return SimulatedSite(name, PooledSource(needs, tuple(sites), origins), cohort)


@dataclass(frozen=True)
class Pooled:
    """The results of the pooled model: the records of its rounds and of its last validation, and sums at each site."""

    rounds: tuple[StageRecord, ...]
    last: StageRecord
    per_site: Mapping[str, Mapping[str, MetricSum]]


def train_pooled(
    plan: Path,
    sites: Sequence[SimulatedSite],
    *,
    rounds: int,
    folder: Path,
    fraction: float = 0.2,
    entry: str | None = None,
    seed: int = 0,
    arguments: Mapping[str, Value] | None = None,
    start_from: StartingModel | None = None,
    limits: WorkerLimits | None = None,
) -> Pooled:
    """Train on the union of the sites' training subjects, then validate on the held-out ones of each site.

    It is one site, so where a part of the model is local there is one local part, trained on the data of all.

    ``folder`` takes the rounds' models; ``entry``, ``seed``, ``arguments`` and ``start_from`` are those of ``draft``.
    """
    drafted = draft(
        plan,
        experiment=NAME,
        roster=[RosterEntry(site=NAME, identity_key=NO_KEY, dataset="data")],
        server_key=NO_KEY,
        terms=RoundTerms(rounds=rounds, quorum=1, deadline_s=360_000),
        validation_fraction=fraction,
        entry=entry,
        seed=seed,
        arguments=arguments,
        start_from=start_from,
        limits=limits or WorkerLimits(),
    )
    pooled = pooled_site(sites, drafted.job.needs, fraction)
    store = asyncio.run(
        simulate(
            drafted.job,
            drafted.plan,
            drafted.initial_model,
            [pooled],
            folder,
            frozen=drafted.frozen,
            local=drafted.local,
        )
    )
    model = store.models[store.model].read_bytes()
    trained = tuple(store.committed(TaskKind.TRAIN))
    (last,) = store.committed(TaskKind.EVALUATE)
    key = TaskKey(experiment=NAME, round=rounds, kind=TaskKind.EVALUATE)
    task = Task(key=key, job_hash=job_hash(drafted.job), models=(store.model,))
    local = (folder / NAME / LOCAL_PART).read_bytes() if drafted.local is not None else None
    per_site = {}
    for site in sites:
        runtime = PlanRuntime(load_packaged(drafted.plan), drafted.job, NAME, site.data, site.cohort)
        if drafted.frozen is not None:
            runtime.freeze(memoryview(drafted.frozen))
        runtime.prepare()
        per_site[site.name] = runtime.evaluate(task, [memoryview(model)], local).validation
    return Pooled(trained, last, per_site)
