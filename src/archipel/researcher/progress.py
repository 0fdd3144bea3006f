"""What to show of a running experiment, as a value: a headline, one table, and the course of the main metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from archipel.researcher.tables import measured_after
from archipel.transport.rest import (
    ApprovalView,
    ErrorReleased,
    Event,
    ExperimentView,
    RoundEnded,
    RoundOpened,
    RoundView,
    SiteFailed,
    SitesAwaited,
    TaskAccepted,
    UpdateReceived,
)
from archipel.vocabulary import Job, MetricDetail, MetricSpec, TaskKind
from archipel.vocabulary.states import ApprovalState, ExperimentState
from archipel.vocabulary.visible import escape_hidden, escape_markup, quote

_BARS = "▁▂▃▄▅▆▇█"
_STAGES = {
    TaskKind.TRAIN: "round",
    TaskKind.LOCAL: "baselines: each site trains alone",
    TaskKind.EVALUATE: "validating",
}


@dataclass(frozen=True)
class Progress:
    """An experiment's document and rounds, what each site does in the exchange that is open, and a notice.

    ``absent`` says of each site that is not connected whether it is awaited.

    ``document`` is None before the server has answered. ``released`` are error texts that people at sites released, a
    line each. Texts of other parties are given without control characters.
    """

    name: str
    document: ExperimentView | None = None
    rounds: tuple[RoundView, ...] = ()
    stage: str = ""
    doing: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""
    released: tuple[str, ...] = ()

    @property
    def state(self) -> ExperimentState | None:
        """The experiment's state, as far as it is known."""
        return self.document.state if self.document is not None else None

    @property
    def approvals(self) -> tuple[ApprovalView, ...]:
        """The sites' answers, as far as they are known."""
        return self.document.approvals if self.document is not None else ()

    @property
    def committed(self) -> list[RoundView]:
        """The rounds that count, oldest first."""
        return [attempt for attempt in self.rounds if attempt.is_committed]

    def headline(self) -> str:
        """The experiment's name, state and how far it is, in one line."""
        document = self.document
        if document is None:
            return escape_hidden(f"{self.name} · unknown")
        parts = [self.name, str(document.state), f"round {document.round} of {document.rounds}"]
        if self.stage and document.state is ExperimentState.RUNNING:
            parts.append(self.stage)
        seconds = [attempt.seconds for attempt in self.committed if attempt.seconds]
        if seconds:
            parts.append(f"{sorted(seconds)[len(seconds) // 2]:.3g} s per round")
        parts += [words for words in (document.waits_for, document.reason) if words]
        return escape_hidden(" · ".join(parts))

    def remarks(self) -> list[str]:
        """The sites that have not answered, with the command to type there, and the newest released error texts."""
        silent = [answer.site for answer in self.approvals if answer.state is ApprovalState.WAITING]
        found = []
        if silent and self.state is ExperimentState.WAITING:
            found.append(
                f"no answer yet from {', '.join(silent)}: a person there types `archipel site plans {self.name}`, "
                f"then `archipel site approve {self.name}`"
            )
        return [escape_hidden(remark) for remark in (*found, *self.released[-3:])]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and rows: each site with its answer, what it does, and its numbers of the last full round.

        A validation metric's column says which round's model it is of: the one that this round produced where that was
        measured already, else the one that it started from.
        """
        last = self.committed[-1] if self.committed else None
        training = sorted(last.metrics) if last else []
        validation = sorted(last.validation) if last else []
        produced = last.model_validation if last else {}
        baselines = self.document.baselines if self.document is not None else None
        after = measured_after(last, self.rounds, baselines) if last and produced else {}
        rows = []
        for answer in self.approvals:
            site = answer.site
            part = last.sites.get(site) if last else None
            now = self.absent.get(site) or self.doing.get(site) or (str(part.state) if part else "")
            if part and part.failure:
                now = f"{now}: {quote(str(part.failure))}"
            measured = (after.get(site, {}) if produced else part.validation) if part else {}
            numbers = [(part.metrics if part else {}).get(name) for name in training]
            numbers += [measured.get(name) for name in validation]
            counts = ["" if part.samples is None else str(part.samples), _number(part.seconds)] if part else ["", ""]
            rows.append([site, str(answer.state), now, *counts, *map(_number, numbers)])
        if last:
            numbers = [last.metrics.get(name) for name in training]
            measured = produced or last.validation
            details = last.model_details if produced else last.details
            declared = {spec.name: spec for spec in self.document.job.validation} if self.document else {}
            cells = [*map(_number, numbers)]
            cells += [_with_details(measured.get(one), details.get(one), declared.get(one)) for one in validation]
            rows.append(["all sites", "", "", str(last.samples), _number(last.seconds), *cells])
        model = f", model {last.round if produced else last.round - 1}" if last else ""
        heads = ["site", "answer", "now", "samples", "seconds", *training, *(f"{name}{model}" for name in validation)]
        return [escape_hidden(head) for head in heads], [[escape_hidden(cell) for cell in row] for row in rows]

    def course(self) -> list[tuple[str, list[float]]]:
        """Each validation metric's values for all sites over the committed rounds, with the last model's if known."""
        committed = self.committed
        names = sorted({name for attempt in committed for name in attempt.validation})
        return [
            (
                escape_hidden(name),
                [attempt.validation[name] for attempt in committed if name in attempt.validation]
                + [last.model_validation[name] for last in committed[-1:] if name in last.model_validation],
            )
            for name in names
        ]

    def html(self) -> str:
        """The same as a table in HTML, which every notebook shows without widgets."""
        headers, rows = self.table()
        head = "".join(f"<th style='text-align:left'>{escape_markup(text)}</th>" for text in headers)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape_markup(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        course = "".join(
            f"<div><code>{escape_markup(name)} {sparkline(values)}</code> {values[-1]:.4f}</div>"
            for name, values in self.course()
        )
        remarks = [*self.remarks(), escape_hidden(self.notice)]
        notice = "".join(f"<p><em>{escape_markup(text)}</em></p>" for text in remarks if text)
        return (
            f"<div><p><strong>{escape_markup(self.headline())}</strong></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{course}{notice}</div>"
        )


def advance(progress: Progress, event: Event) -> Progress:
    """The progress after one more event."""
    match event.body:
        case RoundOpened() as body:
            stage = _STAGES[body.kind]
            about = f" {body.about}" if body.about else ""
            attempt = f" (attempt {body.attempt})" if body.attempt > 1 else ""
            opened = f"{stage} {body.round} is open" if body.kind is TaskKind.TRAIN else f"{stage}{about}"
            return replace(progress, stage=opened + attempt, doing={})
        case SitesAwaited(until=until, away=away):
            lost = {site: f"not connected; awaited until {at[11:19]} UTC" for site, at in until.items()}
            absent = lost | dict.fromkeys(away, "not connected; not awaited")
            back = dict.fromkeys(progress.absent.keys() - absent, "connected again")
            return replace(progress, absent=absent, doing={**back, **progress.doing})
        case TaskAccepted(site=site):
            return replace(progress, doing={**progress.doing, site: "working"})
        case UpdateReceived(site=site):
            return replace(progress, doing={**progress.doing, site: "delivered"})
        case SiteFailed(site=site, failure=failure):
            outcome = f"failed: {quote(str(failure))}"
            return replace(progress, doing={**progress.doing, site: outcome}, notice=f"{site} {outcome}")
        case ErrorReleased() as body:
            return replace(progress, released=(*progress.released, _released(body)))
        case RoundEnded():
            return replace(progress, stage="", doing={})
    return progress


def sparkline(values: list[float], width: int = 40) -> str:
    """The newest values as a line of bars.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    shown = values[-width:]
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int((value - low) / span * len(_BARS)))] for value in shown)


def last_line(detail: str) -> str:
    """One line of an error's full text, quoted: its last, which names the error."""
    lines = [line.strip() for line in detail.split("\n") if line.strip()]
    return quote(lines[-1][:300]) if lines else "an empty text"


def _released(body: ErrorReleased) -> str:
    return f"{body.site} released its error text of round {body.round}: {last_line(body.detail)} (in full: .failures)"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _with_details(value: float | None, detail: MetricDetail | None, spec: MetricSpec | None) -> str:
    if detail is not None and (pooled := detail.pooled_auc) is not None:
        return f"{_number(value)} (pooled: {pooled.in_words}, {pooled.over})"
    spread = detail.spread if detail is not None else None
    if spread is None:
        return _number(value)
    return f"{_number(value)} (95 %: {spread.low:.4g} to {spread.high:.4g}, {spread.over(spec)})"


def draft_html(job: Job, left_out: Mapping[str, str]) -> str:
    """A job that was not submitted: which dataset of which site it asks for, and which sites it leaves out and why."""
    rows = [(entry.site, entry.dataset) for entry in job.roster]
    rows += [(site, f"left out: {reason}") for site, reason in left_out.items()]
    cell = "<td style='text-align:left'>{}</td>"
    body = "".join(
        f"<tr>{cell.format(escape_markup(site))}{cell.format(escape_markup(what))}</tr>" for site, what in rows
    )
    return (
        f"<div><p><strong>{escape_markup(job.experiment)}</strong> · draft, not submitted yet · "
        f"{f'starts from {escape_markup(str(job.lineage))} · ' if job.lineage is not None else ''}"
        f"{job.terms.rounds} rounds · quorum {job.terms.quorum} of {len(job.roster)} sites</p><table><thead><tr>"
        "<th style='text-align:left'>site</th><th style='text-align:left'>dataset</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
