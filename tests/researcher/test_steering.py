"""Approvals, running, stepping, changing a parameter, and what is seen of it."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from rich.console import Console

import archipel
from archipel.researcher.display import LogScreen, NotebookScreen, TerminalScreen
from archipel.vocabulary import ArchipelError, BadInput, Conflict, Refused
from worlds.research import TINY_PLAN, World
from worlds.scripted_experiments import logged


def test_run_waits_for_approvals_then_shows_every_round(world: World, federation: archipel.Federation) -> None:
    made = federation.create(TINY_PLAN, rounds=3)
    written = logged(made)
    made.submit()
    late = threading.Timer(0.2, lambda: [world.experiments.answer(made.name, s, "approved") for s in made.job.sites])
    late.start()
    assert made.run() == "finished"
    late.join()
    assert "round 3 of 3" in written.getvalue()
    assert "finished" in written.getvalue().splitlines()[-1]
    lines = written.getvalue().splitlines()
    assert "accuracy" in lines[-1]
    assert len(lines) == len(set(lines)) <= 11
    assert made.approvals()["state"].tolist() == ["approved"] * 3


def test_a_no_that_makes_the_quorum_impossible_ends_the_waiting(world: World, federation: archipel.Federation) -> None:
    made = federation.create(TINY_PLAN, quorum=3).submit()
    logged(made)
    world.experiments.answer(made.name, "site-b", "rejected")
    with pytest.raises(Refused, match=r"0 sites approved, its quorum is 3: .*site-b rejected"):
        made.run()
    with pytest.raises(Conflict, match="its quorum has not approved"):
        made.start()


def test_a_broken_event_stream_is_taken_up_where_it_broke(world: World, experiment: archipel.Experiment) -> None:
    logged(experiment)
    world.experiments.cut_streams = 3
    assert experiment.run() == "finished"


def test_stepping_and_changing_a_bounded_parameter(world: World, experiment: archipel.Experiment) -> None:
    logged(experiment)
    first = experiment.step()
    assert first["round"].tolist() == [1] * 4
    assert experiment.status == "paused"
    assert experiment.set(learning_rate=0.1) == {"learning_rate": 0.1, "steps": 5}
    with pytest.raises(BadInput, match="outside its bounds"):
        experiment.set(learning_rate=99.0)
    with pytest.raises(BadInput, match="no such hyper-parameter"):
        experiment.set(depth=2)
    experiment.step()
    assert [one.arguments["learning_rate"] for one in experiment.rounds()] == [0.5, 0.1]
    assert experiment.run() == "finished"
    assert experiment.run() == "finished"


def test_an_experiment_that_stalls_does_not_report_success(world: World, experiment: archipel.Experiment) -> None:
    logged(experiment)
    failure = {"code": "plan-error", "sentence": "the plan raised", "exception": "KeyError"}
    failure |= {"file": "plan.py", "line": 3, "retry": False}
    world.experiments.stall_after = 2
    world.experiments.failing = {"round": 2, "site": "site-b", "failure": failure}
    words = (
        r"is paused after round 2 of 3 \(no quorum\); site-b failed: \"the plan raised \[KeyError\] \(plan\.py:3\)\""
    )
    try:
        with pytest.raises(ArchipelError, match=words) as caught:
            experiment.run()
        assert "resume" not in str(caught.value), "the same again would fail again"
    finally:
        world.experiments.stall_after = world.experiments.failing = None
    assert experiment.run() == "finished"


def test_what_may_succeed_later_is_told_how_it_goes_on(world: World, experiment: archipel.Experiment) -> None:
    logged(experiment)
    failure = {"code": "lost", "sentence": "the worker was lost", "exception": None, "line": None, "retry": True}
    world.experiments.stall_after = 2
    world.experiments.failing = {"round": 2, "site": "site-b", "failure": failure}
    try:
        with pytest.raises(ArchipelError, match=r"continue with run\(\) or resume\(\)"):
            experiment.run()
    finally:
        world.experiments.stall_after = world.experiments.failing = None


def test_cancelled_is_over(world: World, experiment: archipel.Experiment) -> None:
    logged(experiment)
    assert experiment.cancel() == "cancelled"
    with pytest.raises(ArchipelError, match="is cancelled after round 0"):
        experiment.run()


def test_ctrl_c_stops_the_watching_only(
    world: World, experiment: archipel.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = logged(experiment)

    class Interrupting(LogScreen):
        def show(self, progress: Any) -> None:
            super().show(progress)
            if "is open" in progress.stage:
                raise KeyboardInterrupt

    class Once(Interrupting):
        interrupted = False

        def show(self, progress: Any) -> None:
            if Once.interrupted:
                LogScreen.show(self, progress)
                return
            try:
                super().show(progress)
            except KeyboardInterrupt:
                Once.interrupted = True
                raise

    world.experiments.hold.clear()
    experiment.screen = lambda: Once(Console(file=written, width=500))
    with pytest.raises(KeyboardInterrupt) as caught:
        experiment.run()
    # What a notebook prints of it is short: nothing of a connection's insides.
    assert caught.value.__context__ is None
    assert all("archipel/researcher" in str(entry.path) for entry in caught.traceback[1:])
    assert "the experiment continues at the server" in written.getvalue()
    assert f"`archipel experiment cancel {experiment.name}` ends it" in written.getvalue()
    assert experiment.status == "running"
    world.experiments.hold.set()
    assert experiment.watch() == "finished"


def test_a_terminal_shows_sites_and_numbers(world: World, experiment: archipel.Experiment) -> None:
    written = io.StringIO()
    experiment.screen = lambda: TerminalScreen(Console(file=written, force_terminal=True, width=120))
    experiment.run()
    text = written.getvalue()
    assert "site-a" in text
    assert "all sites" in text
    assert "█" in text


def test_a_notebook_gets_one_html_table_that_is_replaced(world: World, experiment: archipel.Experiment) -> None:
    class Handle:
        def __init__(self) -> None:
            self.updates: list[dict[str, str]] = []

        def update(self, data: dict[str, str], raw: bool) -> None:
            assert raw
            self.updates.append(data)

    class Display:
        def __init__(self) -> None:
            self.first: list[dict[str, str]] = []
            self.handle = Handle()

        def display(self, data: dict[str, str], raw: bool, display_id: bool) -> Handle:
            assert raw and display_id
            self.first.append(data)
            return self.handle

    display = Display()
    experiment.screen = lambda: NotebookScreen(display)
    experiment.run()
    assert len(display.first) == 1
    last = display.handle.updates[-1]
    assert "<table>" in last["text/html"]
    assert "all sites" in last["text/html"]
    assert "<script" not in last["text/html"]
    assert "finished" in last["text/plain"]
    assert "all sites" in experiment._repr_html_()
