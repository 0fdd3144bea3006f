"""What is shown of a running experiment, as a value: a headline, one table, and the course of the main metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from archipel.researcher.frames import measured_after
from archipel.vocabulary import Failure, Job
from archipel.vocabulary.visible import visible

_BARS = "▁▂▃▄▅▆▇█"
_STAGES = {"train": "round", "local": "baselines: each site trains alone", "evaluate": "validating"}


@dataclass(frozen=True)
class Progress:
    """An experiment's document and rounds, what each site does in the exchange that is open, and a notice.

    ``released`` are error texts that people at sites released, a line each. Nothing that others wrote comes out of
    here with control characters in it.
    """

    document: dict[str, Any]
    rounds: tuple[Mapping[str, Any], ...]
    stage: str = ""
    doing: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""
    released: tuple[str, ...] = ()

    @property
    def committed(self) -> list[Mapping[str, Any]]:
        """The rounds that count, oldest first."""
        return [one for one in self.rounds if one["state"] == "committed"]

    def headline(self) -> str:
        """The experiment's name, state and how far it is, in one line."""
        document = self.document
        parts = [str(document["experiment"]), str(document["state"])]
        if document.get("rounds"):
            parts.append(f"round {document['round']} of {document['rounds']}")
        if self.stage and document["state"] == "running":
            parts.append(self.stage)
        seconds = [one["seconds"] for one in self.committed if one["seconds"]]
        if seconds:
            parts.append(f"{sorted(seconds)[len(seconds) // 2]:.3g} s a round")
        if document.get("reason"):
            parts.append(str(document["reason"]))
        return visible(" · ".join(parts))

    def remarks(self) -> list[str]:
        """Who has not answered and what they must type, and the newest error texts that were released."""
        name = self.document["experiment"]
        silent = [one["site"] for one in self.document.get("approvals", ()) if one["state"] == "waiting"]
        found = []
        if silent and self.document["state"] == "waiting":
            found.append(
                f"no answer yet from {', '.join(silent)}: a person there types `archipel site plans {name}`, "
                f"then `archipel site approve {name}`"
            )
        return [visible(one) for one in (*found, *self.released[-3:])]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and rows: each site with its answer, what it does, and its numbers of the last full round.

        A validation metric's column says which round's model it is of: the one that this round produced where that was
        measured already, else the one that it started from.
        """
        last = self.committed[-1] if self.committed else None
        training = sorted(last["metrics"]) if last else []
        validation = sorted(last["validation"]) if last else []
        produced = dict(last["model_validation"]) if last else {}
        after = measured_after(last, self.rounds, self.document.get("baselines")) if last and produced else {}
        rows = []
        for answer in self.document.get("approvals", ()):
            site = answer["site"]
            part = last["sites"].get(site) if last else None
            now = self.doing.get(site) or (part["state"] if part else "")
            if part and part["failure"]:
                now = f"{now}: {Failure.model_validate(part['failure'])}"
            measured = (after.get(site, {}) if produced else part["validation"]) if part else {}
            numbers = [(part["metrics"] if part else {}).get(name) for name in training]
            numbers += [measured.get(name) for name in validation]
            counts = [str(part["samples"]), _number(part["seconds"])] if part else ["", ""]
            rows.append([site, answer["state"], now, *counts, *map(_number, numbers)])
        if last:
            numbers = [last["metrics"].get(name) for name in training]
            numbers += [(produced or last["validation"]).get(name) for name in validation]
            samples = sum(last["sites"][site]["samples"] for site in last["contributors"])
            rows.append(["all sites", "", "", str(samples), _number(last["seconds"]), *map(_number, numbers)])
        model = f", model {last['round'] if produced else last['round'] - 1}" if last else ""
        heads = ["site", "answer", "now", "samples", "seconds", *training, *(f"{name}{model}" for name in validation)]
        return [visible(head) for head in heads], [[visible(cell) for cell in row] for row in rows]

    def course(self) -> list[tuple[str, list[float]]]:
        """Each validation metric's values for all sites over the committed rounds, with the last model's if known."""
        committed = self.committed
        names = sorted({name for one in committed for name in one["validation"]})
        return [
            (
                visible(name),
                [one["validation"][name] for one in committed if name in one["validation"]]
                + [one["model_validation"][name] for one in committed[-1:] if name in one["model_validation"]],
            )
            for name in names
        ]

    def html(self) -> str:
        """The same as a table in HTML, which every notebook shows without widgets."""
        headers, rows = self.table()
        head = "".join(f"<th style='text-align:left'>{escape(one)}</th>" for one in headers)
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        course = "".join(
            f"<div><code>{escape(name)} {sparkline(values)}</code> {values[-1]:.4f}</div>"
            for name, values in self.course()
        )
        said = [*self.remarks(), visible(self.notice)]
        notice = "".join(f"<p><em>{escape(one)}</em></p>" for one in said if one)
        return (
            f"<div><p><strong>{escape(self.headline())}</strong></p>"
            f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{course}{notice}</div>"
        )


def advance(progress: Progress, event: Mapping[str, Any]) -> Progress:
    """What is known after one more event."""
    body = event["body"]
    match event["kind"]:
        case "round-opened":
            stage = _STAGES.get(str(body.get("kind", "train")), "")
            about = f" {body['about']}" if body.get("about") else ""
            attempt = f" (attempt {body['attempt']})" if body.get("attempt", 1) > 1 else ""
            opened = f"{stage} {body['round']} is open" if stage == "round" else f"{stage}{about}"
            return replace(progress, stage=opened + attempt, doing={})
        case "task-accepted":
            return replace(progress, doing={**progress.doing, body["site"]: "working"})
        case "update-received":
            return replace(progress, doing={**progress.doing, body["site"]: "delivered"})
        case "site-failed":
            said = f"failed: {Failure.model_validate(body['failure'])}"
            return replace(progress, doing={**progress.doing, body["site"]: said}, notice=f"{body['site']} {said}")
        case "error-released":
            return replace(progress, released=(*progress.released, _released(body)))
        case "round-committed" | "round-failed":
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


def _released(body: Mapping[str, Any]) -> str:
    """One line of an error's full text: its last, which names the error."""
    lines = [line.strip() for line in str(body["detail"]).splitlines() if line.strip()]
    last = lines[-1][:300] if lines else "an empty text"
    return f"{body['site']} released its error text of round {body['round']}: {last} (in full: .failures)"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def draft_html(job: Job, left_out: Mapping[str, str]) -> str:
    """A job that was not submitted: which dataset of which site it asks for, and which sites it leaves out and why."""
    rows = [(entry.site, entry.dataset) for entry in job.roster]
    rows += [(site, f"left out: {reason}") for site, reason in left_out.items()]
    cell = "<td style='text-align:left'>{}</td>"
    body = "".join(f"<tr>{cell.format(escape(site))}{cell.format(escape(visible(what)))}</tr>" for site, what in rows)
    return (
        f"<div><p><strong>{escape(job.experiment)}</strong> · draft, not submitted yet · {job.terms.rounds} rounds · "
        f"quorum {job.terms.quorum} of {len(job.roster)} sites</p><table><thead><tr>"
        "<th style='text-align:left'>site</th><th style='text-align:left'>dataset</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
