"""What happened in an experiment, in one line for each event, for terminals and logs."""

from __future__ import annotations

from archipel.researcher.progress import last_line
from archipel.transport.rest import (
    AnswerReceived,
    ArgumentsChanged,
    ErrorReleased,
    Event,
    Interrupted,
    Reply,
    RoundCommitted,
    RoundEnded,
    RoundOpened,
    SiteFailed,
    SitesAwaited,
    StageEvent,
    StateChanged,
    Submitted,
    TaskAccepted,
    UpdateReceived,
)
from archipel.vocabulary import TaskKind
from archipel.vocabulary.visible import escape_hidden, quote


def event_line(event: Event) -> str:
    """The event in words, on one line; texts of other parties are quoted.

    >>> body = {"state": "paused", "reason": "as asked"}
    >>> event_line(Event.model_validate({"seq": 7, "at": "", "kind": "state", "body": body}))
    'paused: "as asked"'
    """
    return escape_hidden(_words(event.kind, event.body))


def _words(kind: str, body: Reply) -> str:
    match body:
        case Submitted(job_hash=hashed):
            return f"submitted: job {hashed}"
        case AnswerReceived(site=site, state=state):
            return f"{site}: {state}"
        case StateChanged(state=state, reason=reason):
            return f"{state}" + (f": {quote(reason)}" if reason else "")
        case ArgumentsChanged(arguments=arguments):
            return f"hyper-parameters from the next round on: {_named(arguments)}"
        case Interrupted(reason=reason):
            return f"the server cannot continue now and tries again: {quote(reason)}"
        case SitesAwaited(until=until, away=away):
            awaited = [f"{site} is awaited until {at}" for site, at in until.items()]
            return "; ".join([*awaited, *(f"{site} is away and not awaited" for site in away)]) or "no site is awaited"
        case RoundOpened(arguments=arguments, model=model):
            return f"{_stage(body)} opened from model {model[:19]}" + (f": {_named(arguments)}" if arguments else "")
        case TaskAccepted(site=site):
            return f"{_stage(body)}: {site} works on it"
        case UpdateReceived(site=site, samples=samples):
            return f"{_stage(body)}: {site} delivered" + ("" if samples is None else f", {samples} samples")
        case SiteFailed(site=site, failure=failure):
            return f"{_stage(body)}: {site} failed: {quote(str(failure))}"
        case ErrorReleased(site=site, detail=detail):
            return f"{_stage(body)}: {site} released its error text: {last_line(detail)}"
        case RoundEnded():
            return _ended(body)
    # A kind that this version has no sentence for: its fields as they came.
    return ": ".join(text for text in (kind, _named(body.model_dump(mode="json"))) if text)


def _ended(body: RoundEnded) -> str:
    counts = "counts" if isinstance(body, RoundCommitted) else "does not count"
    parts = [f"{_stage(body)} {counts} after {body.seconds:.3g} s", f"delivered by {_listed(body.contributors)}"]
    parts += [f"{site} {status}" for site, status in sorted(body.others.items())]
    parts += [f"{name} {value:.4g}" for name, value in sorted(body.metrics.items())]
    return ", ".join(parts)


def _stage(body: StageEvent) -> str:
    name = "round" if body.kind is TaskKind.TRAIN else f"{body.stage}, round"
    return f"{name} {body.round}" + (f" (attempt {body.attempt})" if body.attempt > 1 else "")


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names) if len(names) < 3 and names else ", ".join(names) or "no site"


def _named(values: dict[str, object] | dict[str, bool | int | float | str]) -> str:
    return ", ".join(f"{name}={quote(value) if isinstance(value, str) else value}" for name, value in values.items())
