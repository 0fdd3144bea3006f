"""The calls of NVML, against a real shared library whose layouts are written in C."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from archipel.site.gpus import Card, GpuMemory, GpuProcess, NvmlFault, Slice
from archipel.site.gpus.nvml_library import NvmlLibrary

SOURCE = Path(__file__).with_name("made_up_nvml.c")
ONE = Card(0, "GPU-one", "Made Up", 5, "0001:3b:00.0", 1 << 40)
SLICE = Slice("MIG-one", ONE, 3, 1, 1 << 33)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("driver") / "libnvidia-ml.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", made, SOURCE], check=True)
    return made


@pytest.fixture
def nvml(place: Path) -> Iterator[NvmlLibrary]:
    yield NvmlLibrary(place)
    ctypes.CDLL(str(place)).made_up_set(0, 0, 0)


def test_a_card_and_its_slices_are_as_the_driver_says(nvml: NvmlLibrary, place: Path) -> None:
    assert nvml.cards() == [ONE]
    assert nvml.slices_of(ONE) == []
    ctypes.CDLL(str(place)).made_up_set(0, 1, 0)
    assert nvml.slices_of(ONE) == [SLICE]
    assert nvml.slice_of("MIG-one") == SLICE


def test_memory_is_that_of_the_card_or_of_the_slice(nvml: NvmlLibrary) -> None:
    assert nvml.memory("GPU-one") == GpuMemory(1 << 40, 1 << 34)
    assert nvml.memory("MIG-one").total == 1 << 33


def test_processes_are_named_and_unknown_memory_is_not_a_number(nvml: NvmlLibrary) -> None:
    assert nvml.processes("GPU-one") == [GpuProcess(41, 1 << 35), GpuProcess(42, None)]
    assert nvml.processes("MIG-one") == []


def test_only_work_after_the_moment_counts(nvml: NvmlLibrary, place: Path) -> None:
    assert nvml.busy_pids("GPU-one", 1_700_000_000_000_000) == {41}
    assert nvml.busy_pids("MIG-one", 0) is None
    ctypes.CDLL(str(place)).made_up_set(0, 0, 1)
    assert nvml.busy_pids("GPU-one", 0) == frozenset()
    assert (nvml.is_busy("GPU-one"), nvml.is_busy("MIG-one")) == (True, None)


def test_what_the_driver_refuses_is_said_in_its_words(nvml: NvmlLibrary, place: Path, tmp_path: Path) -> None:
    with pytest.raises(NvmlFault, match="GPU GPU-two: is not on this machine; `nvidia-smi -L` shows"):
        nvml.memory("GPU-two")
    with pytest.raises(NvmlFault, match="answered nvmlDeviceGetDeviceHandleFromMigDeviceHandle with an error"):
        nvml.slice_of("GPU-one")
    ctypes.CDLL(str(place)).made_up_set(1, 0, 0)
    with pytest.raises(NvmlFault, match="GPU is lost"):
        nvml.processes("GPU-one")
    with pytest.raises(NvmlFault, match=r"cannot be loaded .* install the NVIDIA driver"):
        NvmlLibrary(tmp_path / "libnvidia-ml.so.1")


def test_a_driver_without_a_call_is_too_old(tmp_path: Path) -> None:
    old = tmp_path / "old.c"
    old.write_text("int nvmlInit_v2(void) { return 0; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "old.so", old], check=True)
    with pytest.raises(
        NvmlFault, match="does not have nvmlDeviceGetCount_v2; install a driver of version 515 or later"
    ):
        NvmlLibrary(tmp_path / "old.so").cards()
