"""Figures for Prometheus: what is counted, and that another reader of the text format finds the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, update

from archipel.governance import job_hash
from archipel.server.experiments import Figure, figures
from archipel.server.membership.federation import ServerContext
from archipel.server.rest.metrics import exposed
from archipel.server.state import schema
from worlds.server import Applicant, Served, running_job, sql_store_of

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

# The grammar of the format, from its page and not from the code that writes it.
_SAMPLE = re.compile(r'(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)\{(?P<labels>(?:[^"{}]|"(?:[^"\\]|\\.)*")*)\} (?P<value>\S+)')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_PLAIN = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def read(text: str) -> tuple[dict[str, str], Samples]:
    """Types by name, and samples; fails where a line is not of the format or comes twice."""
    types: dict[str, str] = {}
    samples: Samples = {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# "):
            word, name, rest = line[2:].split(" ", 2)
            assert word in ("HELP", "TYPE") and rest
            if word == "TYPE":
                assert name not in types and rest in ("counter", "gauge")
                types[name] = rest
            continue
        found = _SAMPLE.fullmatch(line)
        assert found and found["name"] in types, line
        labels = [(name, _plain(value)) for name, value in _LABEL.findall(found["labels"])]
        assert _LABEL.sub("", found["labels"]) == "", line
        key = (found["name"], frozenset(labels))
        assert key not in samples
        samples[key] = float(found["value"])
    return types, samples


def _plain(value: str) -> str:
    return re.sub(r"\\.", lambda one: _PLAIN[one[0]], value)


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def attempt(federation: ServerContext, number: int, attempt_: int, state: str, site: str, **more: object) -> None:
    place = {"experiment": "first", "round": number, "kind": "train", "about": "", "attempt": attempt_}
    with federation.database.write() as connection:
        row = {"state": state, "model_before": "", "arguments": "{}", "opened_at": "", "record": "{}", **more}
        connection.execute(insert(schema.rounds).values(**place, **row))
        connection.execute(insert(schema.updates).values(**place, site="berlin", task="{}", state=site, at=""))


def test_the_rounds_of_an_experiment_are_counted_by_how_they_ended(
    federation: ServerContext, enrolled: Applicant
) -> None:
    job = running_job(federation, enrolled)
    attempt(federation, 1, 1, "failed", "missing", seconds=2.5)
    attempt(federation, 1, 2, "committed", "received", seconds=0.25)
    attempt(federation, 2, 1, "committed", "received", seconds=0.5)
    attempt(federation, 3, 1, "open", "offered")
    sql_store_of(federation, job, job_hash(job)).awaiting({"berlin": 300.0}, ())
    now = datetime.now(UTC)
    types, samples = read(exposed(figures.figures(federation.database, ["berlin", "rome"], {"rome"}, now)))
    about = {"experiment": "first", "kind": "train"}
    assert samples == {
        of("archipel_site_connected", site="berlin"): 0,
        of("archipel_site_connected", site="rome"): 1,
        **{of("archipel_experiments", state=state): 0 for state in ("waiting", "paused", "finished", "cancelled")},
        of("archipel_experiments", state="running"): 1,
        of("archipel_sites_awaited", experiment="first"): 1,
        of("archipel_rounds_total", experiment="first"): 2,
        of("archipel_attempts_total", **about, state="committed"): 2,
        of("archipel_attempts_total", **about, state="failed"): 1,
        of("archipel_attempt_seconds_total", **about, state="committed"): 0.75,
        of("archipel_attempt_seconds_total", **about, state="failed"): 2.5,
        of("archipel_tasks_total", experiment="first", site="berlin", state="received"): 2,
        of("archipel_tasks_total", experiment="first", site="berlin", state="missing"): 1,
    }
    assert {name for name, kind in types.items() if kind == "counter"} == {name for name in types if "_total" in name}
    ended = {"state": "finished", "ended_at": now.isoformat(timespec="microseconds")}
    with federation.database.write() as connection:
        connection.execute(update(schema.experiments).values(**ended))
    for later, shown in ((timedelta(hours=23), True), (timedelta(hours=25), False)):
        _, samples = read(exposed(figures.figures(federation.database, [], set(), now + later)))
        assert (of("archipel_rounds_total", experiment="first") in samples) == shown
        assert samples[of("archipel_experiments", state="finished")] == 1
        assert of("archipel_sites_awaited", experiment="first") not in samples, "it is over"


def test_a_value_cannot_end_its_line_or_its_label() -> None:
    hostile = 'x"} 1\nfake{a="\\'
    _, samples = read(exposed([Figure("one_total", "One.", True, ("a", "b"), [((hostile, ""), 0.1)])]))
    assert samples == {of("one_total", a=hostile, b=""): 0.1}


async def test_a_monitor_reads_them_with_a_token(served: Served, enrolled: Applicant) -> None:
    async with served.client("read") as client:
        answer = await client.get("/v1/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    _, samples = read(answer.text)
    assert samples[of("archipel_site_connected", site="berlin")] == 1
