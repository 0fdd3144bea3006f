"""The experiment loop: opens stages one after the other over a fleet, and closes each when the table says so.

Its lasting state is in the experiment store, written before it takes effect. Started again on the same store, it
continues where the store ends, with the updates of an open round that had arrived.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from archipel.rounds.absences import Waiting, absent, never_complete, short_since, waiting_in
from archipel.rounds.accounting import stage_record
from archipel.rounds.aggregation import Aggregated, UnusableSum, aggregate
from archipel.rounds.arrivals import SHOWN_S, Arrivals, ask, step, waiting_deliveries
from archipel.rounds.attempts import NEW_JOB, is_used_up, next_possible_stage, used_up
from archipel.rounds.early_end import Course, has_stepped, measurement_due, why_it_ends
from archipel.rounds.experiment_store import ExperimentProgress, ExperimentStore, Opened
from archipel.rounds.fleet import Accepted, Delivered, Failed, Fleet, FleetEvent, Lost, Nudged, Returned
from archipel.rounds.stage_tasks import task_of
from archipel.rounds.stages import Stage
from archipel.rounds.tables import ENDED, ParticipantEvent, UpdateVerdict, next_site_state, verdict
from archipel.tensors import NotFiniteResult, NotFiniteUpdate
from archipel.vocabulary import (
    Conflict,
    ErrorCode,
    Failure,
    Job,
    RoundClosed,
    TaskKind,
)
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.remedies import Nothing
from archipel.vocabulary.states import ExperimentState, ParticipantStatus
from archipel.vocabulary.visible import quote

_log = structlog.get_logger("archipel.rounds")
T = TypeVar("T")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""How long the loop waits before it tries a failed stage again: doubling from the first to the longest."""


class ExperimentLoop:
    """Runs one experiment until it is finished, paused or cancelled."""

    def __init__(
        self, job: Job, job_hash: str, store: ExperimentStore, fleet: Fleet, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.job, self.job_hash, self.store, self.fleet, self.clock = job, job_hash, store, fleet, clock
        self._began = self._not_before = clock()
        self._told: Waiting | None = None
        self._for_good = ""
        self._has_stalled = False
        self._course = Course(job)
        self._arrivals = Arrivals(job, store)
        self._left: FleetEvent | None = None

    async def run(self) -> ExperimentState:
        """Continue where the experiment store ends; returns the state in which nothing is left to do."""
        while True:
            progress = await self._ask(self.store.progress)
            opened = progress.opened
            if opened is None:
                is_running = progress.state is ExperimentState.RUNNING
                if is_running and await self._loses_patience(progress):
                    continue
                if not is_running or has_stepped(self.job, progress):
                    if await self._measure_newest(progress):
                        continue
                    if is_running:
                        await self._turn(self.store.stepped)
                        continue
                    await self._tell(self._told.ended() if self._told else Waiting())
                    return progress.state
                if not self._for_good and self.clock() < self._not_before:
                    await self._rest(self._not_before)
                    continue
                opened = await self._open_next(progress)
                if opened is None:
                    continue
            elif progress.state is ExperimentState.CANCELLED:
                await self._cancel(opened)
                continue
            await self._conduct(opened, progress.tries)

    async def _rest(self, until: float) -> None:
        """Wait while no attempt is open, or for an event that may change what comes next."""
        event = await self._next_event(until)
        if isinstance(event, Delivered) and not event.settled.done():
            thing = event.update.key.update_of(event.site)
            cause = "that round is not open"
            event.settled.set_exception(
                Conflict(thing, cause, "no action is needed", code=ErrorCode.ROUND_CLOSED, command=Nothing())
            )

    async def _open_next(self, progress: ExperimentProgress) -> Opened | None:
        stage = next_possible_stage(self.job, progress)
        if stage is None:
            await self._turn(self.store.finish, why_it_ends(self.job, progress))
            return None
        quorum = self._quorum(stage)
        if len(progress.invited) < quorum:
            reason = (
                f"{stage}: {len(progress.invited)} sites have approved, the quorum is {quorum}; approve at more sites"
            )
            await self._stall(reason)
            return None
        made, ends = progress.attempts.get(stage, 0), is_used_up(self.job, progress, stage)
        if not made:
            # What failed before was a round that an early end passes over.
            self._for_good = ""
        tries = min(progress.tries, made)
        if self._for_good or ends or tries > self.job.terms.retries:
            tried = f"{stage} was tried {pluralise(tries or made, 'time')} without its quorum of {quorum}"
            why = f", and would fail again: {self._for_good}" if self._for_good else "; see the sites' failures"
            way_on = f"; {used_up(self.job, stage)}: {NEW_JOB}" if ends else ""
            self._for_good = ""
            await self._stall(tried + why + way_on)
            return None
        since = absent(self.fleet, progress.invited)
        if len(progress.invited) - len(since) < quorum:
            await self._await_quorum(stage, quorum, len(progress.invited), since)
            return None
        return await self._opened(stage, made + 1, progress)

    async def _opened(self, stage: Stage, attempt: int, progress: ExperimentProgress) -> Opened:
        self._has_stalled, is_local = False, stage.kind is TaskKind.LOCAL
        arguments = await self._ask(self.store.passes) if is_local else {stage.round: progress.arguments}
        passes = stage.round if is_local else 1
        opened = Opened(
            stage=stage,
            attempt=attempt,
            task=task_of(self.job, self.job_hash, stage, attempt, progress, arguments),
            sites=dict.fromkeys(progress.invited, ParticipantStatus.INVITED),
            remaining_s=self.job.terms.deadline_s * passes,
        )
        await self._ask(self.store.open, opened)
        return opened

    async def _loses_patience(self, progress: ExperimentProgress) -> bool:
        """End the experiment early if its rule says so now, by what its rounds measured."""
        rule, course = self.job.terms.patience, self._course
        if rule is None or progress.ending is not None or progress.rounds_done >= self.job.terms.rounds:
            return False
        if course.rounds < progress.rounds_done:
            course.take(await self._ask(self.store.measured, rule.metric, course.rounds))
        if course.is_over:
            await self._turn(self.store.end_early, rule.in_words)
        return course.is_over

    async def _measure_newest(self, progress: ExperimentProgress) -> bool:
        """Measure the newest model after a step or a pause, once; False when there is nothing to measure or to wait
        for.

        It waits for sites no longer than their grace: what is missed here is measured at the start of the next round.
        """
        stage = measurement_due(self.job, progress)
        if stage is None or self._has_stalled or len(progress.invited) < self.job.terms.quorum:
            return False
        since, spare = absent(self.fleet, progress.invited), len(progress.invited) - self.job.terms.quorum
        if len(since) > spare:
            until = max(self._began, short_since(since, spare)) + self.job.terms.grace_s
            if self.clock() >= until:
                return False
            await self._tell(Waiting(dict.fromkeys(sorted(since), until)))
            await self._rest(until)
            return True
        await self._conduct(await self._opened(stage, 1, progress), 0)
        # It is tried once, and its failure says nothing of the next round.
        self._for_good, self._not_before = "", self.clock()
        return True

    async def _stall(self, reason: str) -> None:
        self._has_stalled = True
        await self._turn(self.store.stall, reason)

    async def _await_quorum(self, stage: Stage, quorum: int, invited: int, since: dict[str, float]) -> None:
        """Wait while fewer sites than the quorum are there, as long as a round may last; then pause.

        No attempt is opened, so that none is used up.
        """
        terms = self.job.terms
        until = max(self._began, short_since(since, invited - quorum)) + terms.deadline_s
        if self.clock() < until:
            await self._tell(Waiting(dict.fromkeys(sorted(since), until)))
            await self._rest(until)
        else:
            await self._stall(never_complete(stage, quorum, invited, since, terms.deadline_s))

    async def _tell(self, waiting: Waiting) -> None:
        """Let people see whom the loop waits for, once until it changes."""
        if waiting != self._told:
            self._told = waiting
            seconds = waiting.left(self.clock())
            if seconds or waiting.away:
                rounded = {site: round(left) for site, left in seconds.items()}
                experiment = self.job.experiment
                _log.info("sites are not connected", experiment=experiment, awaited_s=rounded, not_awaited=waiting.away)
            await self._ask(self.store.awaiting, seconds, waiting.away)

    async def _turn(self, turn: Callable[..., None], *words: str | None) -> None:
        try:
            await self._ask(turn, *words)
        except Conflict as error:
            # The experiment was cancelled since the experiment store was read; the next reading shows it.
            _log.info("overtaken", experiment=self.job.experiment, error=str(error))

    async def _ask(self, function: Callable[..., T], *arguments: object) -> T:
        return await ask(self.store, function, *arguments)

    def _quorum(self, stage: Stage) -> int:
        return 1 if stage.kind is TaskKind.LOCAL else self.job.terms.quorum

    async def _conduct(self, opened: Opened, tries: int) -> None:
        """Run one attempt from open to closed, or until the experiment is cancelled; ``tries`` failed before it."""
        began = self.clock()
        ends = began + opened.remaining_s
        awaited: dict[str, float] = {}
        for site, state in list(opened.sites.items()):
            if state not in ENDED:
                opened.sites[site] = ParticipantStatus.INVITED
                await self._reach(opened, site, ends, awaited)
        self._let_time_pass(opened, ends, awaited)
        while True:
            while verdict(opened.sites.values(), self._quorum(opened.stage)) is UpdateVerdict.OPEN:
                await self._tell(waiting_in(opened, ends, awaited))
                shown = [self.clock() + SHOWN_S] if self._arrivals.working else []
                event = await self._next_event(min([ends, *awaited.values(), *shown]))
                if event is None:
                    await self._arrivals.show(opened)
                if isinstance(event, Nudged):
                    if (await self._ask(self.store.progress)).state is ExperimentState.CANCELLED:
                        await self._cancel(opened)
                        return
                elif event is not None:
                    await self._take(opened, event, ends, awaited)
                # Checked after every event too: a site that sends events without end must not delay the deadline.
                self._let_time_pass(opened, ends, awaited)
            if await self._close(opened, self.clock() - began, tries):
                return

    async def _next_event(self, until: float) -> FleetEvent | None:
        if self._left is not None:
            event, self._left = self._left, None
            return event
        if not self.fleet.events.empty():
            return self.fleet.events.get_nowait()
        try:
            async with asyncio.timeout(max(until - self.clock(), 0)):
                return await self.fleet.events.get()
        except TimeoutError:
            return None

    async def _reach(self, opened: Opened, site: str, ends: float, awaited: dict[str, float]) -> None:
        """Offer the site its task, or await it to the end of its grace, which began when it was lost."""
        since = self.fleet.absent_since(site)
        if since is None:
            await self.fleet.offer(site, opened.task, ends - self.clock())
        else:
            self._await(opened, site, since, awaited)

    def _await(self, opened: Opened, site: str, since: float, awaited: dict[str, float]) -> None:
        step(opened, site, ParticipantEvent.LOST)
        if opened.sites[site] is ParticipantStatus.LOST:
            awaited[site] = since + self.job.terms.grace_s

    def _let_time_pass(self, opened: Opened, ends: float, awaited: dict[str, float]) -> None:
        now = self.clock()
        for site, until in list(awaited.items()):
            if now >= until:
                del awaited[site]
                step(opened, site, ParticipantEvent.GRACE_OVER)
        if now >= ends:
            for site in opened.sites:
                step(opened, site, ParticipantEvent.DEADLINE)

    async def _take(self, opened: Opened, event: FleetEvent, ends: float, awaited: dict[str, float]) -> None:
        match event:
            case Accepted(site, key) if key == opened.task.key and site in opened.sites:
                if next_site_state(opened.sites[site], ParticipantEvent.ACCEPTED) is not opened.sites[site]:
                    self._arrivals.working.append(site)
                step(opened, site, ParticipantEvent.ACCEPTED)
            case Failed(site, key, failure) if key == opened.task.key and site in opened.sites:
                if opened.sites[site] not in ENDED:
                    await self._arrivals.show(opened)
                    await self._ask(self.store.failed, key, site, failure)
                    opened.failures[site] = failure
                    step(opened, site, ParticipantEvent.FAILED)
            case Delivered():
                others, self._left = waiting_deliveries(self.fleet.events)
                await self._arrivals.receive(opened, [event, *others])
            case Lost(site) if site in opened.sites and opened.sites[site] not in ENDED:
                since = self.fleet.absent_since(site)
                self._await(opened, site, self.clock() if since is None else since, awaited)
            case Returned(site) if site in opened.sites and opened.sites[site] not in ENDED:
                awaited.pop(site, None)
                step(opened, site, ParticipantEvent.RETURNED)
                await self._reach(opened, site, ends, awaited)
            case _:
                pass
        for site in [site for site in awaited if opened.sites[site] in ENDED]:
            del awaited[site]

    async def _close(self, opened: Opened, seconds: float, tries: int) -> bool:
        """Close the attempt; False when the fold found a faulty update and the verdict must be made again."""
        committed = verdict(opened.sites.values(), self._quorum(opened.stage)) is UpdateVerdict.QUORUM
        contributors = sorted(site for site, state in opened.sites.items() if state is ParticipantStatus.DELIVERED)
        await self._arrivals.show(opened)
        made, unable = Aggregated(), ""
        if committed:
            try:
                made = await asyncio.to_thread(aggregate, self.job, self.store, opened, contributors)
            except NotFiniteUpdate as error:
                await self._expel(opened, contributors[error.index], error)
                return False
            except NotFiniteResult as error:
                committed, unable = False, f"strategy {self.job.strategy.name}: {error}"
            except UnusableSum as error:
                committed, unable = False, f"{error}; a sum does not show whose part is at fault"
        for site in opened.sites:
            step(opened, site, ParticipantEvent.CLOSED)
        model = made.model.hash if made.model else None
        record = stage_record(self.job, opened, committed, contributors, model, seconds, made.sums)
        closed = RoundClosed(
            experiment=self.job.experiment,
            round=opened.stage.round,
            attempt=opened.attempt,
            kind=opened.stage.kind,
            about=opened.stage.about,
            job_hash=self.job_hash,
            committed=committed,
            contributors=tuple(contributors),
            model=model,
        )
        local = dict(opened.tensor_files) if committed and opened.stage.kind is TaskKind.LOCAL else {}
        try:
            result = made.model.file if made.model else None
            invited = await self._ask(self.store.close, record, closed, result, local, made.memory)
        except Exception:
            made.remove()
            raise
        if not committed:
            self._put_off(opened, tries)
        self._for_good = self._for_good or unable
        for site, state in opened.sites.items():
            if state in (ParticipantStatus.LATE, ParticipantStatus.MISSING):
                await self.fleet.withdraw(site, opened.task.key, f"the round closed and this site was {state}")
        sites = set(opened.sites)
        if committed and opened.stage.kind is TaskKind.TRAIN:
            # A site that approved since is asked for what follows this round, and does it only with its result.
            sites.update(invited)
        await self.fleet.announce(sorted(sites), closed)
        return True

    def _put_off(self, opened: Opened, tries: int) -> None:
        """After a failed attempt: another one after a pause, or none when no site said that it could end better."""
        pause = min(FIRST_PAUSE_S * 2**tries, LONGEST_PAUSE_S)
        self._not_before = self.clock() + pause
        awaited = any(state in (ParticipantStatus.LATE, ParticipantStatus.MISSING) for state in opened.sites.values())
        if not awaited and opened.failures and not any(failure.retry for failure in opened.failures.values()):
            failed = sorted(opened.failures.items())
            self._for_good = "; ".join(f"{site}: {quote(str(failure))}" for site, failure in failed)

    async def _expel(self, opened: Opened, site: str, error: NotFiniteUpdate) -> None:
        failure = Failure(code=ErrorCode.NOT_FINITE, sentence=f"tensor {error.tensor} holds NaN or infinite values")
        await self._ask(self.store.failed, opened.task.key, site, failure)
        opened.failures[site] = failure
        opened.sites[site] = ParticipantStatus.FAILED

    async def _cancel(self, opened: Opened) -> None:
        self._arrivals.working.clear()
        working = [site for site, state in opened.sites.items() if state not in ENDED]
        await self._ask(self.store.refused, opened.task.key, working)
        for site in working:
            await self.fleet.withdraw(site, opened.task.key, "the experiment was cancelled")
