"""The checks: what a site tries before a round is spent on it, each step in the real sandbox and each with a verdict.

*Dummy*: the plan trains on generated data of the declared shape; it reads no sample, so it needs no approval.
*Preflight*: needs, rules, counts, split, duplicates, disk, memory and time. *Local*: the plan trains on this site's
cohort alone; that needs the approval, or a person's statement that the plan was read. Each step is journaled by name
and verdict; nothing of it leaves the site.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from archipel.data.synthetic import Dummies, as_given
from archipel.plans.runtime import Outcome
from archipel.site.approval import Offer, offers, suitability
from archipel.site.audit import Checked, add_entry
from archipel.site.checks.findings import CheckResult, CheckStep, Notes
from archipel.site.checks.in_thread import run_in_thread
from archipel.site.checks.permission import Permission
from archipel.site.checks.preflight import Preflight
from archipel.site.checks.rehearsal import Rehearsal
from archipel.site.datasets import catalog, stored_grids
from archipel.site.execution import sandbox_spec
from archipel.site.gpus import GivenGpu, GpuPool
from archipel.site.sandbox import WorkerTaskFailed
from archipel.site.state import SiteJournalKind, StateFolder
from archipel.vocabulary import (
    UNWATCHED,
    Actor,
    ArchipelError,
    BadInput,
    MetricSum,
    NotFound,
    ShowProgress,
    TaskKind,
    Thing,
    Watch,
    WorkProgress,
    show_nothing,
)
from archipel.vocabulary.remedies import StartAgent
from archipel.vocabulary.visible import quote

PASSES = 5
DUMMY_ROUNDS = "rounds on generated data"


class Checks:
    """The steps for one offered experiment at this site. ``dataset`` takes the place of the one the job asks for.

    ``by`` is the person who checks.
    """

    def __init__(self, site: StateFolder, experiment: str, dataset: str | None = None, *, by: Actor) -> None:
        self._site, self._offer = site, offers.offered(site.database, experiment)
        self._job = self._offer.job
        if offers.plan_files(site.blobs, self._job) is None:
            raise NotFound(
                Thing.worded(f"the plan of {experiment}", experiment=experiment),
                "has not been fetched yet",
                "start the agent, which fetches it, then check",
                command=StartAgent(),
            )
        self._entry = suitability.asked_dataset(site.database, site.name, self._job, dataset)
        self._permission = Permission(site, self._offer, self._entry, by, is_named=dataset is not None)

    def check_permission(self, plan_was_read: bool) -> None:
        """Raise Refused unless the local step may run: it is approved, or a person states that the plan was read."""
        self._permission.check(plan_was_read)

    @property
    def offer(self) -> Offer:
        """The experiment as this site has it."""
        return self._offer

    async def dummy(self, show: ShowProgress = show_nothing) -> CheckResult:
        """Train twice and validate on generated data: what breaks here is the plan's or the sandbox's."""
        notes = Notes()
        job, site = self._job, self._site
        try:
            entry, cohort = self._permission.likeness()
            schema = as_given(
                entry.summary, cohort, stored_grids(site.database, cohort) if entry.kind == "volumes" else ()
            )
            dummies = Dummies(job.needs, schema, cohort.mapping, cohort.format)
            with tempfile.TemporaryDirectory(prefix="check-", dir=site.folder) as place:
                files = await run_in_thread(lambda _: dummies.write(Path(place)))
                gpu = await self._gpu(notes)
                spec = sandbox_spec(site, job, dummies.cohort, files, log=f"{job.experiment}.check", gpu=gpu)
                async with Rehearsal(spec) as run:
                    notes.go("sandbox", run.worker.description)
                    notes.go("generated data", f"{len(dummies.cohort.samples)} samples read")
                    notes.number("start_s", run.started_s)
                    notes.number("prepare_s", run.prepared_s)
                    show(WorkProgress(DUMMY_ROUNDS, 0, 2))
                    await self._begun(run, notes)
                    outcome = await run.train(round_=0)
                    show(WorkProgress(DUMMY_ROUNDS, 1, 2))
                    began = time.monotonic()
                    outcome = await run.train(round_=min(1, job.terms.rounds - 1))
                    notes.number("dummy_round_s", time.monotonic() - began)
                    show(WorkProgress(DUMMY_ROUNDS, 2, 2))
                    notes.number("dummy_training_samples", outcome.samples.training)
                    notes.number("dummy_voxels", dummies.voxels)
                    notes.number("dummy_peak_mib", run.peak_mib())
                    losses = _means(outcome.metrics)
                    notes.go("training", ", ".join(f"{name} {value:.4g}" for name, value in losses.items()))
                    scores = _means(outcome.validation)
                    if scores or not job.validation:
                        notes.go("validation", ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))
                    else:
                        notes.look("validation", "the plan measured nothing on the generated held-out samples")
        except (WorkerTaskFailed, ArchipelError) as error:
            self._failed(error, notes)
        return self._rung(CheckStep.DUMMY, notes)

    async def _gpu(self, notes: Notes) -> GivenGpu | None:
        """The GPU that this step computes on: only while no agent runs, which knows nothing of this process."""
        asked, pool = self._job.gpu, GpuPool(self._site.settings)
        if asked is None or not pool.serves(asked):
            return None
        if self._site.agent_runs():
            notes.look(
                "GPU", "the agent runs and may use it, so this step runs on the CPU; to try the GPU, stop the agent"
            )
            return None
        return await pool.claim_alone(asked)

    def preflight(self, dummy: CheckResult | None = None, watch: Watch = UNWATCHED) -> CheckResult:
        """Whether data, rules and machine fit the job; with the dummy run's figures, memory and time as well.

        It blocks while files are read. Raises Cancelled when ``watch`` stops it; nothing is journaled then.
        """
        notes, job = Notes(), self._job
        try:
            entry, cohort = self._permission.cohort(watch)
        except catalog.DatasetProblems as error:
            for problem in error.problems:
                notes.fix(problem.thing, f"{problem.cause}; {problem.remedy}")
        except BadInput as error:
            self._failed(error, notes)
        else:
            figures = dummy.figures if dummy is not None and dummy.go else {}
            Preflight(self._site, job, entry, cohort, notes, watch).look(figures)
        watch.check()
        return self._rung(CheckStep.PREFLIGHT, notes)

    async def local(
        self, passes: int = PASSES, *, plan_was_read: bool = False, show: ShowProgress = show_nothing
    ) -> CheckResult:
        """Train on this site's cohort alone, and the validation metrics before and after.

        Raises Refused unless the experiment is approved here, or a person says that its plan was read.
        """
        permitted = await run_in_thread(lambda watch: self._permission.given(plan_was_read, watch), show)
        notes, job, site = Notes(), self._job, self._site
        passes = min(passes, job.terms.rounds)
        try:
            permitted, prepared = await self._permission.prepared(permitted, plan_was_read, show)
            with prepared:
                gpu = await self._gpu(notes)
                log = f"{job.experiment}.check"
                spec = sandbox_spec(site, job, permitted.cohort, prepared.files, log=log, gpu=gpu)
                async with Rehearsal(spec) as run:
                    tried = self._tried_alone(run, passes, notes)
                    before, outcome, after = await self._permission.while_given(permitted, tried)
        except (WorkerTaskFailed, ArchipelError) as error:
            self._failed(error, notes)
            return self._rung(CheckStep.LOCAL, notes)
        for name, value in _means(outcome.metrics).items():
            notes.number(name, value)
        notes.go("training", f"{passes} passes over {outcome.samples.training} samples")
        for metric in job.validation:
            if metric.name in after and metric.name in before:
                self._progress(metric.name, metric.better, before[metric.name], after[metric.name], notes)
        return self._rung(CheckStep.LOCAL, notes)

    async def _tried_alone(
        self, run: Rehearsal, passes: int, notes: Notes
    ) -> tuple[dict[str, float], Outcome, dict[str, float]]:
        await self._begun(run, notes)
        before = _means((await run.evaluate()).validation)
        began = time.monotonic()
        outcome = await run.train(round_=0, kind=TaskKind.LOCAL, passes=passes)
        notes.number("seconds_a_pass", (time.monotonic() - began) / passes)
        notes.number("peak_mib", run.peak_mib())
        run.take_result()
        return before, outcome, _means((await run.evaluate()).validation)

    # Parts ----------------------------------------------------------------------------------------------------

    async def _begun(self, run: Rehearsal, notes: Notes) -> None:
        if await run.begin():
            notes.go("initial model", "the plan makes the initial model that the job names")
        else:
            notes.look(
                "initial model",
                "the plan makes another initial model here than the job names; the check continues with it",
            )

    def _progress(self, name: str, better: str, before: float, after: float, notes: Notes) -> None:
        notes.number(f"{name}_before", before)
        notes.number(name, after)
        rose = after > before if better == "higher" else after < before
        said = f"{after:.4g}, {before:.4g} before training"
        notes.go(name, said) if rose else notes.look(name, f"{said}: {better} is better")

    def _failed(self, error: WorkerTaskFailed | ArchipelError, notes: Notes) -> None:
        if isinstance(error, WorkerTaskFailed):
            last = error.detail.strip().rpartition("\n")[2]
            log = self._site.logs / f"{self._job.experiment}.check.log"
            notes.fix("plan", f"{error.failure}: {quote(last)}; tell the researcher (the worker's output is in {log})")
        else:
            notes.fix(error.thing, f"{error.cause}; {error.remedy}")

    def _rung(self, step: CheckStep, notes: Notes) -> CheckResult:
        result = CheckResult(step=step, findings=tuple(notes.findings), figures=notes.figures)
        with self._site.database.write() as connection:
            body = Checked(
                experiment=self._job.experiment, job_hash=self._offer.job_hash, step=step.value, go=result.go
            )
            add_entry(connection, SiteJournalKind.CHECKED, body)
        return result


def _means(sums: Mapping[str, MetricSum]) -> dict[str, float]:
    return {name: value.mean() for name, value in sums.items() if value.weight}


async def run_checks(
    checks: Checks,
    last: CheckStep,
    *,
    passes: int = PASSES,
    plan_was_read: bool = False,
    say: Callable[[CheckResult], None] = lambda result: None,
    show: ShowProgress = show_nothing,
) -> list[CheckResult]:
    """Run the steps up to ``last``, each only if the step before it gave go; ``say`` gets each result when it is done.

    Cancelling it also ends the worker; the step that was running is not journaled and leaves no file.
    """
    results: list[CheckResult] = []

    def done(result: CheckResult) -> bool:
        results.append(result)
        say(result)
        return result.go and result.step is not last

    if last is CheckStep.LOCAL:
        # Refused now, before time is spent on the steps before it.
        checks.check_permission(plan_was_read)
    dummy = await checks.dummy(show)
    if done(dummy) and done(await run_in_thread(lambda watch: checks.preflight(dummy, watch), show)):
        done(await checks.local(passes, plan_was_read=plan_was_read, show=show))
    return results
