"""How much of a GPU a worker holds, as NVML says it; and whether the pids that it names can be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from archipel.site.gpus import GpuWatch
from archipel.site.gpus.devices import find
from archipel.site.gpus.watch import pids_are_the_machines
from archipel.site.sandbox.usage import pinned_memory
from worlds.gpus import MIB, SLICE, MadeUpNvml


def watch(nvml: MadeUpNvml, *, by_process: bool = True, name: str = "0") -> GpuWatch:
    return GpuWatch(nvml, find(name, nvml), memory_mb=100, by_process=by_process, used_before=50 * MIB)


def test_only_what_the_workers_own_processes_hold_counts() -> None:
    nvml = MadeUpNvml(held={7: 60 * MIB, 8: 40 * MIB, 99: 5000 * MIB}, used=5150 * MIB)
    assert watch(nvml).excess({7, 8}) is None
    nvml.held[8] = 41 * MIB
    assert watch(nvml).excess({7, 8}) == "101 MiB of the GPU's memory"


@pytest.mark.parametrize("by_process", [True, False])
def test_what_no_process_is_named_for_is_counted_for_the_whole_gpu(by_process: bool) -> None:
    """In a container NVML names other pids or none; a driver may name a process without its memory."""
    nvml = MadeUpNvml(held={7: None}, used=150 * MIB)
    assert watch(nvml, by_process=by_process).excess({7}) is None
    nvml.used = 151 * MIB
    excess = watch(nvml, by_process=by_process).excess({7})
    assert excess == "101 MiB more of the GPU's memory than before it started, counted for the whole GPU"


def test_work_of_another_process_does_not_count() -> None:
    assert watch(MadeUpNvml(busy=frozenset({7, 99}), works=True)).is_busy({7}, 0)
    assert not watch(MadeUpNvml(busy=frozenset({99}), works=True)).is_busy({7}, 0)


def test_where_pids_are_not_the_machines_the_whole_gpu_must_be_idle() -> None:
    assert watch(MadeUpNvml(works=True), by_process=False).is_busy({7}, 0)
    assert not watch(MadeUpNvml(busy=frozenset({7})), by_process=False).is_busy({7}, 0)
    assert not watch(MadeUpNvml(busy=None, works=None), name=SLICE).is_busy({7}, 0)


def test_the_journal_says_what_bounds_the_memory() -> None:
    assert watch(MadeUpNvml()).in_words == "at most 100 MiB of its memory, watched by the agent by process"
    whole = watch(MadeUpNvml(), by_process=False).in_words
    assert whole.endswith("watched by the agent as the growth of all that the GPU holds")
    assert watch(MadeUpNvml(), name=SLICE).in_words.startswith("at most 10240 MiB by its MIG slice")


def test_memory_that_the_driver_holds_for_a_process_counts_as_the_machines(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    lines = ("7f0000000000-7f0000200000 rw-s 00000000 00:06 481  /dev/nvidiactl",
             "7f0000400000-7f0000500000 rw-s 00000000 00:06 481  /dev/nvidiactl",
             "7f0010000000-7f0090000000 rw-s 00000000 00:06 482  /dev/nvidia0",
             "7f00a0000000-7f00b0000000 ---p 00000000 00:06 483  /dev/nvidia-uvm",
             "7f00c0000000-7f00d0000000 rw-p 00000000 00:00 0 ")  # fmt: skip
    (tmp_path / "7/maps").write_text("\n".join(lines))
    assert pinned_memory({7, 8}, tmp_path) == 3 * MIB


def test_pids_are_the_machines_only_in_its_first_namespace(tmp_path: Path) -> None:
    (tmp_path / "self/ns").mkdir(parents=True)
    assert not pids_are_the_machines(tmp_path)
    (tmp_path / "self/ns/pid").write_text("")
    assert not pids_are_the_machines(tmp_path)
