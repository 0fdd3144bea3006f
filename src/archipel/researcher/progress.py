"""What is shown of a running experiment, as a value: a headline, one table, and the course of the main metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from archipel.vocabulary import Failure

_BARS = "▁▂▃▄▅▆▇█"
_STAGES = {"train": "round", "local": "baselines: each site trains alone", "evaluate": "validating"}


@dataclass(frozen=True)
class Progress:
    """An experiment's document and rounds, what each site does in the exchange that is open, and a notice."""

    document: dict[str, Any]
    rounds: tuple[Mapping[str, Any], ...]
    stage: str = ""
    doing: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""

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
        return " · ".join(parts)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Column names and rows: each site with its answer, what it does, and its numbers of the last full round."""
        last = self.committed[-1] if self.committed else None
        training = sorted(last["metrics"]) if last else []
        validation = sorted(last["validation"]) if last else []
        rows = []
        for answer in self.document.get("approvals", ()):
            site = answer["site"]
            part = last["sites"].get(site) if last else None
            now = self.doing.get(site) or (part["state"] if part else "")
            if part and part["failure"]:
                now = f"{now}: {Failure.model_validate(part['failure'])}"
            numbers = [part["metrics"].get(name) for name in training] if part else [None] * len(training)
            numbers += [part["validation"].get(name) for name in validation] if part else [None] * len(validation)
            counts = [str(part["samples"]), _number(part["seconds"])] if part else ["", ""]
            rows.append([site, answer["state"], now, *counts, *map(_number, numbers)])
        if last:
            pooled = [_number(last["metrics"][name]) for name in training]
            pooled += [_number(last["validation"][name]) for name in validation]
            samples = sum(last["sites"][site]["samples"] for site in last["contributors"])
            rows.append(["all sites", "", "", str(samples), _number(last["seconds"]), *pooled])
        return ["site", "answer", "now", "samples", "seconds", *training, *validation], rows

    def course(self) -> list[tuple[str, list[float]]]:
        """Each validation metric's pooled values over the committed rounds; the last round's own model too if known."""
        committed = self.committed
        names = sorted({name for one in committed for name in one["validation"]})
        return [
            (
                name,
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
        notice = f"<p><em>{escape(self.notice)}</em></p>" if self.notice else ""
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


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
