"""``archipel demo`` as it is typed, with the smallest phantom: real processes, and the folder of results they leave."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from archipel.data.synthetic import phantom
from archipel.lab.demo import PLAN
from archipel.lab.pooled import PooledInBackground
from archipel.plans import load
from archipel.vocabulary import ArchipelError
from worlds.processes import hears_no_ctrl_c

pytestmark = pytest.mark.processes
SITES = ("site-a", "site-b", "site-c")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder of results, and what was printed where no terminal is."""
    if shutil.which("bwrap") is None:
        pytest.skip("the Debian package bubblewrap is not installed")
    folder = tmp_path_factory.mktemp("demo") / "results"
    smallest = ["--subjects", "4", "--rounds", "1", "--epochs", "1", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "archipel", "demo", *smallest, "--results", str(folder)],
        capture_output=True, text=True, timeout=290, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


@pytest.fixture(scope="module")
def summary(demo: tuple[Path, list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((demo[0] / "summary.json").read_text())
    return found


def test_the_summary_has_every_figure_that_is_promised(summary: dict[str, Any]) -> None:
    dice = summary["dice"]
    figures = [dice["federated"], dice["pooled"], dice["ensemble"], *(dice["local"][site] for site in SITES)]
    assert set(dice["local"]) == set(SITES)
    assert all(0 <= one <= 1 for one in figures)
    assert math.isclose(summary["ratio"], dice["federated"] / dice["pooled"])
    assert summary["rounds"] == 1
    assert summary["seconds"]["total"] >= summary["seconds"]["federated and local"] > 0
    counts = {site: one["training"] + one["held_out"] for site, one in summary["sites"].items()}
    assert counts == dict.fromkeys(SITES, 4)


def test_the_model_is_one_of_the_plan(demo: tuple[Path, list[str]]) -> None:
    tensors = load_file(demo[0] / "model.safetensors")
    plan: Any = load(PLAN)
    expected = {name: tuple(one.shape) for name, one in plan.build_model().state_dict().items()}
    assert {name: one.shape for name, one in tensors.items()} == expected


def test_the_curves_are_a_picture(demo: tuple[Path, list[str]]) -> None:
    from matplotlib.image import imread

    height, width, _ = imread(demo[0] / "curves.png").shape
    assert height > 200 and width > 200


def test_the_report_shows_the_table_the_curves_and_a_slice_of_each_site(
    demo: tuple[Path, list[str]], summary: dict[str, Any]
) -> None:
    report = (demo[0] / "report.html").read_text()
    table = report[report.index("<table") : report.index("</table>")]
    for model in ("federated", "pooled", "ensemble", *SITES):
        assert model in table
    assert f"{summary['dice']['federated']:.3f}" in table
    pictures = re.findall(r'src="([^"]*)"', report)
    assert len(pictures) >= 2 and all(one.startswith("data:image/png;base64,") for one in pictures)
    # It loads nothing: neither pictures nor scripts nor styles from elsewhere.
    assert not re.search(r'(src|href)="https?:', report)


def test_what_is_printed_without_a_terminal_is_a_line_a_step(
    demo: tuple[Path, list[str]], summary: dict[str, Any]
) -> None:
    lines = demo[1]
    assert lines[0] == "drawing phantom MRI for 3 hospitals, 4 subjects each"
    steps = [line for line in lines if line.startswith("demo · ")]
    assert len(steps) == len(set(steps)) <= 12
    assert sum("round 1 of 1" in line and "running" in line for line in steps) <= 2
    row = next(line for line in lines if "all sites, federated" in line)
    assert f"{summary['dice']['federated']:.4f}" in row
    assert lines[-1].endswith(f"report: {demo[0] / 'report.html'}")


def below(folder: Path) -> list[int]:
    """Processes that were started with a path under a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in words:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("how", ["terminated", "ctrl-c"])
def test_a_demo_that_is_stopped_ends_what_it_started_and_leaves_nothing(tmp_path: Path, how: str) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("the Debian package bubblewrap is not installed")
    place = tmp_path / "place"
    place.mkdir()
    running = subprocess.Popen(
        [sys.executable, "-m", "archipel", "demo", "--subjects", "4", "--results", str(tmp_path / "results")],
        env={**os.environ, "TMPDIR": str(place)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert running.stdout is not None
    with running.stdout:
        try:
            for line in running.stdout:
                if "is offered" in line:
                    break
            started = below(place)
            children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        finally:
            if how == "terminated":
                running.terminate()
            else:
                # As a terminal does: to every process of the group.
                os.killpg(running.pid, signal.SIGINT)
            _, errors = running.communicate()
            code = running.returncode
    assert errors == ""
    assert len(started) >= 4, "a server and three agents"
    assert code == 128 + (signal.SIGTERM if how == "terminated" else signal.SIGINT)
    assert not below(place)
    # A process that outlives the demo keeps this waiting until pytest's own timeout.
    while any(Path(f"/proc/{child}").exists() for child in children):
        time.sleep(0.05)
    assert not list(place.glob("archipel-*"))


def test_a_pooled_baseline_that_cannot_be_trained_says_why(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with PooledInBackground(PLAN, {"a": tmp_path}, rounds=1, epochs=1, seed=0) as pooled, pytest.raises(ArchipelError):
        pooled.result()


def test_a_pooled_baseline_that_is_killed_is_not_waited_for(tmp_path: Path) -> None:
    with PooledInBackground(PLAN, {"a": tmp_path}, rounds=1, epochs=1, seed=0) as pooled:
        assert pooled._process.pid is not None
        # From its first instruction on.
        assert hears_no_ctrl_c(pooled._process.pid)
        pooled._process.kill()
        with pytest.raises(ArchipelError, match="ended by itself"):
            pooled.result()


def test_a_pooled_baseline_that_is_ended_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))  # the process it starts looks here
    roots = {one.name: one for one in phantom.generate(tmp_path / "sites", ("a", "b"), subjects_per_site=4)}
    with PooledInBackground(PLAN, roots, rounds=1000, epochs=1, seed=0):
        until = time.monotonic() + 100
        while not any(one.is_file() for one in place.glob("archipel-pooled-*/**/*")):
            assert time.monotonic() < until, "it wrote nothing"
            time.sleep(0.05)
    assert not list(place.iterdir())
