"""``archipel run`` and ``archipel experiment``, as they are typed against a server."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import archipel
from archipel.researcher.connection import Connection
from archipel.transport.messages import DatasetSummary
from archipel.vocabulary import ArchipelError, BadInput, Patience, WorkerLimits
from worlds.research import TINY_PLAN, World

Typed = Callable[..., Result]


@pytest.fixture
def typed(world: World) -> Iterator[Typed]:
    environment = {
        "ARCHIPEL_SERVER": world.url,
        "ARCHIPEL_TOKEN": world.token(),
        "ARCHIPEL_CA": str(world.ca),
        "COLUMNS": "200",
    }

    def type_(command: str, *words: object) -> Result:
        app = importlib.import_module(f"archipel.cli.{command}").app
        return CliRunner().invoke(app, [str(word) for word in words], env=environment)

    world.experiments.approve_at_once = True
    yield type_
    world.experiments.approve_at_once = False


def test_run_says_who_is_asked_who_is_left_out_and_that_nobody_is_told_what_it_is_for(
    world: World, typed: Typed
) -> None:
    registry = world.federation.registry
    before = {one.site: one.datasets for one in registry.sites()}
    try:
        more = [DatasetSummary(name=name, kind="arrays", subjects=9) for name in ("brains", "brains2")]
        registry.set_datasets("site-c", more)
        done = typed("run", TINY_PLAN, "--rounds", 1, "--name", "aloud")
        assert done.exit_code == 0, done.output
        assert (
            "left out: site-c (2 datasets fit: brains, brains2; choose with --site site-c=brains)\n"
            "experiment aloud is offered to site-a (table), site-b (table)\n"
        ) in done.stderr
        assert "no --description" in done.stderr and "Warning" not in done.stderr
        again = typed(
            "run", TINY_PLAN, "--rounds", 1, "--site", "site-c=brains2", "--site", "site-a", "--description", "A test."
        )
        assert again.exit_code == 0, again.output
        assert "offered to site-a (table), site-c (brains2)" in again.stderr
        assert "left out" not in again.stderr and "description" not in again.stderr
    finally:
        for site, datasets in before.items():
            registry.set_datasets(site, datasets)


@pytest.mark.parametrize("given", [("site-a", "site-a"), ("site-a=table", "site-a"), ("site-a=", "site-b"), ("=x",)])
def test_a_site_named_twice_or_half_is_refused(typed: Typed, given: tuple[str, ...]) -> None:
    done = typed("run", TINY_PLAN, *(word for one in given for word in ("--site", one)))
    assert isinstance(done.exception, BadInput)
    assert "twice" in str(done.exception) or "is incomplete" in str(done.exception)


def test_an_experiment_is_listed_watched_and_ended_by_its_name(world: World, typed: Typed) -> None:
    world.experiments.stall_after = 1
    try:
        done = typed("run", TINY_PLAN, "--rounds", 3, "--name", "steered")
        assert "is paused after round 1 of 3" in str(done.exception)
    finally:
        world.experiments.stall_after = None
    listed = json.loads(typed("experiment", "list", "--json").stdout)
    (row,) = [one for one in listed if one["experiment"] == "steered"]
    assert (row["state"], row["round"], row["asked_by"]) == ("paused", 1, "anna")
    assert "steered" in typed("experiment", "list").stdout
    assert typed("experiment", "resume", "steered").stdout == "experiment steered is running\n"
    watched = typed("experiment", "watch", "steered")
    assert watched.exit_code == 0 and "steered · finished · round 3 of 3" in watched.stdout
    assert typed("experiment", "cancel", "steered").stdout == "experiment steered is cancelled\n"


def test_an_error_text_that_was_released_is_read_by_a_command(world: World, typed: Typed) -> None:
    failure = {"code": "plan-error", "sentence": "the plan failed", "exception": "KeyError"}
    failure |= {"file": "plan.py", "line": 3, "retry": False}
    world.experiments.failing = {"round": 1, "site": "site-b", "failure": failure}
    try:
        typed("run", TINY_PLAN, "--rounds", 1, "--name", "faulty")
    finally:
        world.experiments.failing = None
    world.experiments.release("faulty", "site-b", 1, "Traceback\nKeyError: 'age'\x1b[2J")
    shown = typed("experiment", "failures", "faulty").stdout
    assert "KeyError: 'age'" in shown and "\x1b" not in shown
    (row,) = json.loads(typed("experiment", "failures", "faulty", "--json").stdout)
    assert (row["site"], row["detail"]) == ("site-b", "Traceback\nKeyError: 'age'\x1b[2J")


def test_report_and_model_are_taken_home_by_commands(typed: Typed, tmp_path: Path) -> None:
    assert typed("run", TINY_PLAN, "--rounds", 1, "--name", "taken").exit_code == 0
    done = typed("experiment", "report", "taken", "--out", tmp_path)
    assert done.exit_code == 0 and done.stdout == f"report: {tmp_path / 'taken.html'}\n"
    done = typed("experiment", "download", "taken", "--model", "best", "--out", tmp_path / "b.safetensors")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b-plan", "b.md", "b.safetensors", "taken.html"]


def test_an_experiment_is_finished_by_its_name_and_everything_says_that_it_ended_early(
    world: World, typed: Typed, tmp_path: Path
) -> None:
    world.experiments.stall_after = 2
    try:
        typed("run", TINY_PLAN, "--rounds", 5, "--name", "enough")
    finally:
        world.experiments.stall_after = None
    words = "ended early after round 2 of 5: a person asked to finish it"
    done = typed("experiment", "finish", "enough")
    assert done.exit_code == 0 and done.stdout == f"experiment enough is finished: {words}\n"
    assert words in typed("experiment", "watch", "enough").output
    (row,) = [one for one in json.loads(typed("experiment", "list", "--json").stdout) if one["experiment"] == "enough"]
    assert (row["state"], row["round"], row["rounds"], row["reason"]) == ("finished", 2, 5, words)
    assert typed("experiment", "report", "enough", "--out", tmp_path).exit_code == 0
    assert f"The experiment {words}." in (tmp_path / "enough.html").read_text()
    assert typed("experiment", "download", "enough", "--out", tmp_path).exit_code == 0
    (card,) = tmp_path.glob("*.md")
    assert f'- **Ended early**: "{words}"' in card.read_text()


def test_run_takes_a_rule_of_patience(world: World, typed: Typed) -> None:
    done = typed("run", TINY_PLAN, "--rounds", 1, "--name", "patient", "--patience", "accuracy:5:0.01")
    assert done.exit_code == 0, done.output
    rule = Patience(metric="accuracy", rounds=5, smallest_gain=0.01)
    assert world.experiments.jobs["patient"].terms.patience == rule


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        ("accuracy", "is not a metric, a number of rounds and a smallest gain"),
        ("accuracy:5:0.01:2", "is not a metric, a number of rounds and a smallest gain"),
        ("accuracy:0", "rounds='0' is too small"),
        ("accuracy:two", "rounds='two' is not a whole number"),
        ("accuracy:5:-1", "smallest_gain='-1' is too small"),
        ("accuracy:5:nan", "smallest_gain='nan' is not a finite number"),
        ("dice:5", "patience metric dice is not a validation metric of the plan; it has accuracy"),
    ],
)
def test_a_rule_that_is_none_is_refused_with_the_way_to_write_one(typed: Typed, given: str, cause: str) -> None:
    done = typed("run", TINY_PLAN, "--patience", given)
    assert isinstance(done.exception, BadInput) and cause in str(done.exception)


def test_run_has_the_options_of_python_for_terms_and_limits(world: World, typed: Typed) -> None:
    terms = ("--grace", 12, "--retries", 1, "--resumes", 0, "--measurements", 3)
    limits = ("--memory-mb", 512, "--cpu-s", 30, "--wall-s", 45.5, "--tmp-mb", 16, "--processes", 9, "--threads", 2)
    assert typed("run", TINY_PLAN, "--rounds", 1, "--name", "bounded", *terms, *limits).exit_code == 0
    with archipel.connect(world.url, token=world.token(), ca=world.ca) as federation:
        job = federation.experiment("bounded").job
    assert (job.terms.grace_s, job.terms.retries, job.terms.resumes, job.terms.attempts) == (12, 1, 0, 2)
    assert job.terms.measurements == 3
    wanted = WorkerLimits(memory_mb=512, cpu_s=30, wall_s=45.5, tmp_mb=16, processes=9, threads=2)
    assert job.limits == wanted


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--memory-mb", 1, "memory_mb=1: is too small; give at least 64"),
        ("--cpu-s", 0, "cpu_s=0.0: is too small; give more than 0"),
        ("--wall-s", "inf", "wall_s=inf: is not a finite number; give a finite number"),
        ("--processes", 0, "processes=0: is too small; give at least 1"),
        ("--retries", 101, "retries=101: is too large; give at most 100"),
        ("--retries", -1, "retries=-1: is not a valid whole number; give at least 0"),
        ("--measurements", 0, "measurements=0: is not a valid whole number; give at least 1"),
        ("--grace", "inf", "grace_s=inf: is not a finite number; give a finite number"),
        ("--grace", "nan", "are not valid numbers of seconds; give a deadline above 0"),
    ],
)
def test_a_number_outside_its_bounds_is_refused_with_the_bound(
    typed: Typed, option: str, value: object, words: str
) -> None:
    done = typed("run", TINY_PLAN, "--name", "refused", option, value)
    assert isinstance(done.exception, BadInput) and words in str(done.exception)
    assert "refused" not in typed("experiment", "list").stdout


def test_rounds_are_stepped_and_hyper_parameters_changed_between_them(world: World, typed: Typed) -> None:
    world.experiments.stall_after = 1
    try:
        typed("run", TINY_PLAN, "--rounds", 4, "--name", "stepped")
    finally:
        world.experiments.stall_after = None
    done = typed("experiment", "set", "stepped", "learning_rate=0.25", "steps=2")
    assert done.exit_code == 0 and done.stdout == "learning_rate=0.25\nsteps=2\n"
    done = typed("experiment", "step", "stepped")
    assert done.exit_code == 0 and done.stdout.endswith("experiment stepped is paused after round 2 of 4\n")
    record = json.loads(typed("experiment", "step", "stepped", "--json").stdout)
    assert (record["round"], record["arguments"]) == (3, {"learning_rate": 0.25, "steps": 2})
    assert json.loads(typed("experiment", "set", "stepped", "steps=3", "--json").stdout)["steps"] == 3


def test_a_step_whose_round_does_not_count_is_an_error_with_the_reason(world: World, typed: Typed) -> None:
    world.experiments.stall_after = 1
    try:
        typed("run", TINY_PLAN, "--rounds", 3, "--name", "stuck")
        world.experiments.without_quorum = True
        done = typed("experiment", "step", "stuck")
    finally:
        world.experiments.stall_after, world.experiments.without_quorum = None, False
    assert isinstance(done.exception, ArchipelError)
    assert "experiment stuck: is paused after round 1 of 3 (no quorum)" in str(done.exception)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("learning_rate", "learning_rate: is not NAME=VALUE; give for example learning_rate=0.01"),
        ("learning_rate=99", "is outside its bounds"),
        ("learning_rate=nan", "is not a number"),
        ("learning_rate=NaN", "is outside its bounds"),
        ("steps=1e999", "is not a whole number"),
        ("depth=2", "argument depth: the plan declares no such hyper-parameter; declared are: learning_rate, steps"),
        ("self=2", "declares no such hyper-parameter"),
    ],
)
def test_a_wrong_hyper_parameter_is_refused_before_it_is_sent(
    world: World, typed: Typed, given: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed("run", TINY_PLAN, "--rounds", 1, "--name", "checked")
    sent: list[str] = []
    ask = Connection.ask

    def noted(self: Connection, kind: Any, method: str, path: str, *rest: Any) -> Any:
        sent.append(method)
        return ask(self, kind, method, path, *rest)

    monkeypatch.setattr(Connection, "ask", noted)
    done = typed("experiment", "set", "checked", given)
    assert isinstance(done.exception, BadInput) and words in str(done.exception)
    assert "PATCH" not in sent
    twice = typed("experiment", "set", "checked", "steps=1", "steps=2")
    assert "gives steps a second value" in str(twice.exception)


def test_events_are_what_happened_one_line_each(world: World, typed: Typed) -> None:
    failure = {"code": "plan-error", "sentence": "the plan failed", "exception": "KeyError"}
    failure |= {"file": "plan.py", "line": 3, "retry": False}
    world.experiments.failing = {"round": 1, "site": "site-b", "failure": failure}
    try:
        typed("run", TINY_PLAN, "--rounds", 1, "--name", "told", "--quorum", 2)
    finally:
        world.experiments.failing = None
    world.experiments.release("told", "site-b", 1, "Traceback\nKeyError: 'age'\x1b[2J\nfinished")
    events = json.loads(typed("experiment", "events", "told", "--json").stdout)
    lines = typed("experiment", "events", "told").stdout.splitlines()
    assert len(lines) == len(events) and events[0]["kind"] == "submitted"
    shown = "\n".join(lines)
    assert all(" UTC  " in line for line in lines) and "\x1b" not in shown
    for words in ("submitted: job sha256:", "site-a: approved", "round 1 opened from model ", "site-b failed: "):
        assert words in shown


def test_the_command_history_and_the_table_history_are_the_same_rows(typed: Typed, world: World) -> None:
    assert typed("run", TINY_PLAN, "--rounds", 2, "--name", "rows").exit_code == 0
    rows = json.loads(typed("experiment", "history", "rows", "--json").stdout)
    with archipel.connect(world.url, token=world.token(), ca=world.ca) as federation:
        table = federation.experiment("rows").history
    assert [[row["round"], row["site"]] for row in rows] == table[["round", "site"]].values.tolist()
    assert set(rows[0]) == set(table.columns) and {row["site"] for row in rows} >= {"site-a", "all_sites"}
    assert "history of rows" in typed("experiment", "history", "rows").stdout
