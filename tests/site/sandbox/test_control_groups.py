"""Where control groups are made and what is written into them, on made-up hierarchies of both versions."""

from __future__ import annotations

import os
from pathlib import Path

from archipel.site.sandbox import groups


def first_version(folder: Path, own: str = "/agent") -> tuple[Path, Path]:
    for controller in ("memory", "pids", "cpuacct"):
        (folder / controller / own.lstrip("/")).mkdir(parents=True)
    lines = folder / "own"
    lines.write_text(f"4:memory:{own}\n3:pids:{own}\n2:cpu,cpuacct:{own}\n0::/\n")
    return folder, lines


def test_version_1_makes_a_group_below_the_agents_own(tmp_path: Path) -> None:
    mounts, own = first_version(tmp_path)
    group = groups.make(100 << 20, 24, mounts, own)
    assert group is not None and group.keeps_memory and group.version == 1
    assert (group.folders["memory"] / "memory.limit_in_bytes").read_text() == str(100 << 20)
    assert (group.folders["pids"] / "pids.max").read_text() == "32"
    assert {folder.parent.name for folder in group.folders.values()} == {"agent"}
    (group.folders["cpuacct"] / "cpuacct.usage").write_text("2500000000\n")
    assert group.cpu_s() == 2.5
    (group.folders["memory"] / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert group.oom_kills() == 3


def test_version_2_uses_a_place_that_passes_controllers_on(tmp_path: Path) -> None:
    place = tmp_path / "user.slice"
    (place / "agent.service").mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    (place / "cgroup.subtree_control").write_text("cpu memory pids\n")
    (place / "cgroup.procs").write_text("")
    own = tmp_path / "own"
    own.write_text("0::/user.slice/agent.service\n")
    group = groups.make(1 << 30, 10, tmp_path, own)
    assert group is not None and group.version == 2
    folder = group.folders["memory"]
    assert folder == group.folders["pids"] and folder.parent == place
    assert (folder / "memory.max").read_text() == str(1 << 30)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "pids.max").read_text() == "18"
    (folder / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    assert group.cpu_s() == 1.5
    group.add([4711])
    assert group.processes() == {4711}


def test_a_place_that_passes_nothing_on_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "slice"
    (place / "agent").mkdir(parents=True)
    (place / "cgroup.subtree_control").write_text("\n")
    own = tmp_path / "own"
    own.write_text("0::/slice/agent\n")
    assert groups.make(1 << 30, 10, tmp_path, own) is None


def test_no_hierarchy_means_no_group(tmp_path: Path) -> None:
    assert groups.make(1 << 30, 10, tmp_path, tmp_path / "absent") is None


def test_groups_of_agents_that_are_gone_are_swept(tmp_path: Path) -> None:
    mounts, own = first_version(tmp_path)
    gone, living = (mounts / "pids" / "agent" / f"archipel-{pid}-0" for pid in (2**22 + 5, os.getppid()))
    gone.mkdir()
    living.mkdir()
    groups.make(1 << 30, 10, mounts, own)
    assert (gone.exists(), living.exists()) == (False, True)
