"""Trying an offered experiment at this site before a round is spent on it, and what every step found."""

from __future__ import annotations

from collections.abc import Callable

from archipel.site.approval import decisions
from archipel.site.checks import PASSES, CheckFinding, CheckResult, Checks, CheckStep, run_checks
from archipel.site.state import StateFolder
from archipel.vocabulary import Actor, Record, ShowProgress, show_nothing


class CheckedStep(Record):
    """One step: ``go`` when nothing has to be fixed, its findings, and its figures (seconds, MiB, metrics)."""

    step: CheckStep
    findings: tuple[CheckFinding, ...]
    figures: dict[str, float]
    go: bool


class CheckReport(Record):
    """Every step that was run, in order; ``go`` when none of them found something to fix."""

    experiment: str
    go: bool
    steps: tuple[CheckedStep, ...]


async def check(
    site: StateFolder,
    experiment: str,
    last: CheckStep,
    *,
    by: Actor,
    dataset: str | None = None,
    passes: int = PASSES,
    plan_was_read: bool = False,
    job_hash: str | None = None,
    say: Callable[[CheckResult], None] = lambda _: None,
    show: ShowProgress = show_nothing,
) -> CheckReport:
    """Run the steps up to ``last``, each only if the one before gave go; ``say`` gets each result when it is done.

    ``plan_was_read`` is the person's statement that replaces an approval; it is journaled. ``job_hash`` limits the
    check to one job: a program gives the hash of the job whose plan it showed. Raises NotFound while the plan has not
    been fetched, Conflict when another job is offered, and Refused when the last step may not see data. Cancelling it
    ends the worker, and nothing of the running step is kept.
    """
    checks = Checks(site, experiment, dataset, by=by)
    if job_hash is not None:
        decisions.check_shown(checks.offer, job_hash)
    results = await run_checks(checks, last, passes=passes, plan_was_read=plan_was_read, say=say, show=show)
    steps = [CheckedStep(**dict(result), go=result.go) for result in results]
    return CheckReport(experiment=experiment, go=all(step.go for step in steps), steps=tuple(steps))
