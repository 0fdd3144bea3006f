"""Which packages a site has, before anybody approves: what its people read, and what is disclosed to its server."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from test_agent import Line, agent_of

from archipel.site.agent.agent import Agent
from archipel.site.approval import offers
from archipel.site.audit import journal
from archipel.site.packages import QUESTION, install_command, installed
from archipel.site.packages import installed as packages_installed
from archipel.site.services import approvals, explanations
from archipel.site.state import SiteJournalKind
from archipel.site.state.folder import StateFolder
from archipel.tensors import blob_hash
from archipel.transport import PackagesMessage
from archipel.vocabulary import ArchipelError, ErrorCode, Job, PlanReference
from worlds.people import ANNA, approve
from worlds.site import PLAN, Terminal, job_for

IMPORTING = (
    PLAN
    + b"""
import os, numpy
def train():
    import sksurv.metrics, absent_one
try:
    import absent_two
except ImportError:
    absent_two = None
module = __import__(name)
"""
)
NAMED = ("absent_one", "absent_two", "numpy", "sksurv")


def plan_of(source: bytes, packages: tuple[str, ...] = ()) -> PlanReference:
    return PlanReference(files={"tiny.py": blob_hash(source)}, entry="tiny.py", class_name="Tiny", packages=packages)


def offered(site: StateFolder, source: bytes = IMPORTING, packages: tuple[str, ...] = NAMED) -> offers.Offer:
    site.blobs.put(source)
    offers.record(site, job_for(site, plan=plan_of(source, packages)))
    return offers.offered(site.database, "heart")


def forbid(site: StateFolder) -> None:
    policy = site.settings.policy.model_copy(update={"disclose_packages": False})
    site.settings = site.settings.model_copy(update={"policy": policy})


def disclosed_to(line: Line) -> list[PackagesMessage]:
    return [message for message, _ in line.said if isinstance(message, PackagesMessage)]


def disclosed(site: StateFolder) -> list[dict[str, Any]]:
    return [dict(one.body) for one in journal.lines(site.database) if one.kind == SiteJournalKind.PACKAGES_DISCLOSED]


def test_packages_are_found_with_their_versions() -> None:
    import yaml
    from PIL import __version__ as pillow

    found = installed(["yaml", "PIL", "absent_one", "archipel"])
    assert found["yaml"] == yaml.__version__ and found["PIL"] == pillow
    assert found["absent_one"] is None and found["archipel"]


def test_a_package_in_a_place_that_the_sandbox_does_not_show_is_not_there(tmp_path: Path) -> None:
    from archipel.site.packages.interpreter import _version

    assert _version(("1.0", [str(tmp_path / "own" / "__init__.py")])) is None
    assert _version(("1.0", [sys.prefix])) == "1.0"
    assert _version(("1.0\nforged: yes", [sys.prefix])) == ""


def test_a_package_is_not_taken_from_the_working_folder_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "absent_here.py").write_text("raise SystemExit('was imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert installed(["absent_here"]) == {"absent_here": None}


def test_the_offer_says_what_is_missing_and_how_to_install_it(with_table: StateFolder) -> None:
    said = dict(explanations.explain(with_table, offered(with_table)))[QUESTION]
    assert "This site has: numpy " in said
    assert (
        "WARNING: this site lacks absent_one, scikit-survival (imported as sksurv), so the plan fails where it imports "
        "them; if you trust these, install them first: "
    ) in said
    assert install_command(["sksurv", "absent_one"]) in said
    assert install_command(["sksurv"]).endswith(" scikit-survival") and sys.executable in install_command(["sksurv"])
    assert "Missing here, but the plan also runs without: absent_two." in said
    assert "It may import others, under names that its text does not show (tiny.py:11)." in said
    assert (
        "This site discloses to the server which of the packages that the job names are here, and their versions."
        in said
    )


def test_a_missing_package_warns_and_does_not_prevent_an_approval(with_table: StateFolder) -> None:
    offered(with_table)
    asked = approvals.prepare(with_table, "heart")
    (warning,) = asked.warnings
    assert warning.startswith("this site lacks absent_one, scikit-survival (imported as sksurv)")
    assert asked.objections == ()
    shown = " ".join(Terminal(with_table.folder)("approve", "heart", answer="n").stdout.split())
    assert "warning: this site lacks absent_one, scikit-survival (imported as sksurv)" in shown
    assert approve(with_table, "heart").job_hash == asked.job_hash


def test_what_is_missing_is_read_from_the_plan_though_its_job_names_nothing(with_table: StateFolder) -> None:
    said = dict(explanations.explain(with_table, offered(with_table, packages=())))[QUESTION]
    assert "this site lacks absent_one" in said and "discloses" not in said


def test_a_plan_that_imports_nothing_says_so(with_table: StateFolder) -> None:
    said = dict(explanations.explain(with_table, offered(with_table, PLAN + b"import os, archipel\n", ())))[QUESTION]
    assert said == "None except Python's standard library and archipel."
    assert approvals.prepare(with_table, "heart").warnings == ()


def test_a_plan_of_ten_thousand_imports_is_looked_at_within_a_bound(with_table: StateFolder) -> None:
    many = PLAN + "".join(f"import p{number:05}\n" for number in range(10_000)).encode()
    said = dict(explanations.explain(with_table, offered(with_table, many, ())))[QUESTION]
    assert "WARNING: it imports 9900 more; whether they are here was not checked." in said and len(said) < 5_000


def test_an_interpreter_that_does_not_answer_is_said_and_hides_no_offer(
    with_table: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = offered(with_table)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setattr("archipel.site.packages.interpreter._when_changed", lambda: (1,))
    with pytest.raises(ArchipelError, match="/nowhere/python: did not say which packages it has") as error:
        packages_installed(["numpy"])
    assert error.value.code is ErrorCode.SANDBOX
    said = dict(explanations.explain(with_table, offer))[QUESTION]
    assert said.startswith("WARNING: which packages this site has could not be found out (did not say which packages")
    assert approvals.prepare(with_table, "heart").warnings[0].startswith("which packages this site has could not")


async def taken(site: StateFolder, plan: PlanReference, source: bytes = IMPORTING) -> tuple[Agent, Line, Job]:
    agent, line = agent_of(site)
    line.plan = source
    job = job_for(site, plan=plan)
    await agent.take(line.offer(job))
    await asyncio.gather(*agent._aside, return_exceptions=True)
    return agent, line, job


async def test_what_a_job_names_is_disclosed_to_the_server_before_anybody_decides(
    hospital: StateFolder,
) -> None:
    agent, line, _ = await taken(hospital, plan_of(IMPORTING, NAMED))
    (message,) = disclosed_to(line)
    assert message.packages == installed(NAMED) and message.packages["absent_one"] is None
    assert [one["packages"] for one in disclosed(hospital)] == [message.packages]
    await agent.decided()
    assert len(disclosed_to(line)) == 1, "it was said already"
    agent.reporting.connected()
    await agent.decided()
    assert len(disclosed_to(line)) == 2 and len(disclosed(hospital)) == 1, (
        "said again at each connection, journaled once"
    )


async def test_what_was_installed_since_is_disclosed(hospital: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, line, _ = await taken(hospital, plan_of(IMPORTING, NAMED))
    now = dict(installed(NAMED)) | {"absent_one": "1.2"}
    monkeypatch.setattr("archipel.site.agent.package_reporting.installed", lambda _: now)
    await agent.decided()
    assert [message.packages for message in disclosed_to(line)][1:] == [now] and len(disclosed(hospital)) == 2


@pytest.mark.parametrize("more", [("acme_pacs",), tuple(f"p{number:02}" for number in range(90))])
async def test_a_job_cannot_ask_about_packages_that_its_plan_does_not_import(
    hospital: StateFolder, more: tuple[str, ...]
) -> None:
    with capture_logs() as logs:
        _, line, _ = await taken(hospital, plan_of(IMPORTING, tuple(sorted((*NAMED, *more)))))
    (refused,) = [one["error"] for one in logs if one["event"] == "failed beside the control stream"]
    assert f"names package {more[0]}" in refused and "which no file of the plan imports" in refused
    assert disclosed_to(line) == [] and offers.names(hospital.database) == [] and disclosed(hospital) == []


async def test_a_policy_that_forbids_it_lets_only_that_leave(hospital: StateFolder, with_table: StateFolder) -> None:
    forbid(hospital)
    _, line, _ = await taken(hospital, plan_of(IMPORTING, NAMED))
    assert [message.packages for message in disclosed_to(line)] == [None] and disclosed(hospital) == []
    said = dict(explanations.explain(with_table, offers.offered(hospital.database, "heart")))[QUESTION]
    assert "This site does not disclose to the server which of them are here (disclose_packages = false)." in said


async def test_a_rejected_offer_is_not_answered(hospital: StateFolder) -> None:
    offered(hospital)
    approvals.reject(hospital, "heart", by=ANNA)
    agent, line = agent_of(hospital)
    await agent.decided()
    assert disclosed_to(line) == []
