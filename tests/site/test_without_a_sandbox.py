"""Where no sandbox can be made, people read it before a task fails: at the start, in the status, before approving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from archipel.site.agent.process import warn_without_sandbox
from archipel.site.sandbox import trial
from archipel.site.state import SandboxRule
from archipel.site.state.folder import StateFolder
from worlds.site import Terminal, make_site, take_offer

WHY = "bubblewrap: is not installed; install the Debian package bubblewrap"


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.shutil, "which", lambda name: None)


def accept_the_risk(state: Path) -> None:
    settings = state / "site.toml"
    settings.write_text(settings.read_text().replace('sandbox = "required"', 'sandbox = "none-i-accept-the-risk"'))


def test_the_status_says_that_no_plan_can_run(terminal: Terminal, no_bubblewrap: None) -> None:
    assert f"no plan can run here: {WHY}\n" in terminal("status").stdout
    assert terminal.json("status")["sandbox_problem"] == f"no plan can run here: {WHY}"
    accept_the_risk(terminal.state)
    assert f"plans run here WITHOUT a sandbox: {WHY}\n" in terminal("status").stdout


@pytest.mark.processes
def test_with_a_sandbox_the_status_says_nothing_of_it(terminal: Terminal) -> None:
    assert terminal.json("status")["sandbox_problem"] is None


def test_it_is_said_before_a_person_approves(terminal: Terminal, with_table: StateFolder, no_bubblewrap: None) -> None:
    take_offer(with_table)
    asked = terminal("approve", "heart", answer="n\n").stdout
    assert f"warning: no plan can run here: {WHY}\n" in asked
    assert asked.index(WHY) < asked.index("Run this on this site's data?")


async def test_the_log_says_it_once_with_what_follows(no_bubblewrap: None) -> None:
    with capture_logs() as said:
        await warn_without_sandbox(SandboxRule.REQUIRED)
        await warn_without_sandbox(SandboxRule.NONE)
    assert [(line["log_level"], line["event"], line["sandbox"]) for line in said] == [
        ("warning", "no plan can run here until this is fixed", WHY),
        ("warning", "plans run here WITHOUT a sandbox, as site.toml says", WHY),
    ]


@pytest.mark.processes
def test_a_started_agent_warns_and_runs_on(tmp_path: Path) -> None:
    site = make_site(tmp_path / "s")
    site.close()
    environment = {**os.environ, "PATH": str(tmp_path), "ARCHIPEL_SITE_STATE": str(site.folder)}
    command = [sys.executable, "-m", "archipel", "site", "start"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as agent:
        assert agent.stderr is not None
        watchdog = threading.Timer(60, agent.kill)
        watchdog.start()
        try:
            assert any("no plan can run here" in line and WHY in line for line in agent.stderr)
            assert agent.poll() is None
            agent.send_signal(signal.SIGTERM)
            assert agent.wait(30) == 0
        finally:
            watchdog.cancel()
            agent.kill()
