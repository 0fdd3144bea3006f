"""Benchmarks belong to a checkout: a wheel has none of them, and the command says where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from archipel.cli import bench

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.processes
def test_a_wheel_has_no_benchmark_and_its_command_says_where_they_are(tmp_path: Path) -> None:
    source = tmp_path / "source"
    # A copy, because a build leaves folders beside what it builds.
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("src", "benchmarks"):
        shutil.copytree(CHECKOUT / name, source / name, ignore=leave_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source / name)
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *build], check=True)
    (wheel,) = tmp_path.glob("archipel-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        inside = {Path(name).name for name in packed.namelist()}
        packed.extractall(tmp_path / "installed")
    benchmarks = {path.name for path in (CHECKOUT / "benchmarks").glob("*.py")}
    assert {"bench_round.py", "reference.py"} <= benchmarks and "bench.py" in inside
    assert not benchmarks & inside

    done = subprocess.run(
        [sys.executable, "-m", "archipel", "bench", "round"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    assert "benchmarks: are not part of an installed archipel" in said
    assert "run this command in a checkout: make bench" in said


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("round", "bench_round"),
        ("training", "bench_training"),
        ("simulation", "bench_simulation"),
        ("data", "bench_data"),
        ("size", "bench_size"),
        ("kills", "bench_kills"),
    ],
)
def test_a_checkout_has_the_benchmark_of_each_command(command: str, name: str) -> None:
    found = bench._benchmark(name)
    assert found.__file__ == str(CHECKOUT / "benchmarks" / f"{name}.py")
    assert CliRunner().invoke(bench.app, [command, "--help"]).exit_code == 0


def test_a_simulation_is_measured_beside_the_bare_loop_round_by_round(tmp_path: Path) -> None:
    found = bench._benchmark("bench_simulation")
    sites = found.made_sites(tmp_path, 2, 10)
    simulated, bare = found.simulated(sites, 3, 1), found.bare(sites, 3)
    assert len(simulated.ends) == len(bare.ends) == 3 and simulated.seconds > 0 and bare.processor > 0
    found.farthest(bare, {"one_process": [simulated], "two_workers": [simulated]})


@pytest.mark.processes
def test_the_catalog_is_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    figures = bench._benchmark("bench_data").in_a_process_of_its_own(tmp_path / "catalog", 4)
    assert figures["files"] == 4 and figures["subjects"] == 2
    assert figures["register_files_opened"] == 4 and figures["rescan_files_opened"] == 1


@pytest.mark.processes
def test_a_large_dataset_is_measured_step_by_step(tmp_path: Path) -> None:
    """Small here: every step of both kinds runs, and each process that takes part is measured."""
    found = bench._benchmark("bench_size").bench_size(40, 12, tmp_path)
    for kind, count in (("rows", 40), ("volumes", 12)):
        assert found[kind]["count"] == count
        steps = found[kind]["steps"]
        assert list(steps) == ["add", "freeze", "check", "approve", "round"]
        assert {"command_mb", "agent_mb", "worker_mb"} <= steps["check"].keys()
        assert {"agent_mb", "worker_mb"} <= steps["round"].keys() and "command_mb" not in steps["round"]
        assert all(value > 0 for step in steps.values() for value in step.values())
