"""Which files of a made-up driver a sandbox shows of one GPU, and that it shows nothing of another one."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from archipel.site.gpus import DriverTree, Gpu, NvmlFault
from archipel.site.gpus.devices import find
from archipel.site.gpus.driver_tree import device_numbers, from_ldconfig, libraries
from archipel.site.gpus.shown import shown
from archipel.site.sandbox.command import bubblewrap_arguments, environment
from archipel.vocabulary import WorkerLimits
from archipel.vocabulary.remedies import GrantAccess
from worlds.gpus import (
    CARDS,
    DIVIDED,
    FIRST,
    LISTING,
    OTHER_SLICE,
    SECOND,
    SLICE,
    MadeUpNvml,
    made_up_libraries,
    made_up_tree,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> DriverTree:
    return made_up_tree(tmp_path_factory.mktemp("machine"))


def gpu(name: str) -> Gpu:
    return find(name, MadeUpNvml())


def test_a_card_is_reached_by_the_node_of_its_minor_not_of_its_index(tree: DriverTree) -> None:
    common = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
    assert sorted(tree.nodes(gpu("0"))) == sorted([*common, "/dev/nvidia1"])
    assert sorted(tree.nodes(gpu(SECOND))) == sorted([*common, "/dev/nvidia0"])


def test_a_slice_has_the_nodes_of_its_own_instances_and_of_no_other(tree: DriverTree) -> None:
    common = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia2"]
    own = ["/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"]
    assert sorted(tree.nodes(gpu(SLICE))) == sorted([*common, *own])
    other = ["/dev/nvidia-caps/nvidia-cap48", "/dev/nvidia-caps/nvidia-cap50"]
    assert sorted(tree.nodes(gpu(OTHER_SLICE))) == sorted([*common, *other])


def test_what_the_driver_says_is_of_this_gpu_alone_and_makes_no_nodes(tree: DriverTree) -> None:
    found = tree.figures(gpu("0"))
    proc = "/proc/driver/nvidia"
    own = f"{proc}/gpus/0000:3b:00.0/information"
    assert set(found) == {f"{proc}/version", f"{proc}/params", own, "/proc/devices"}
    assert found[f"{proc}/params"].decode().count("ModifyDeviceFiles") == 1
    assert b"ModifyDeviceFiles: 0\n" in found[f"{proc}/params"]
    assert FIRST.encode() in found[own]
    assert b"nvidia-uvm" in found["/proc/devices"] and b"mem" not in found["/proc/devices"]
    of_slice = set(tree.figures(gpu(SLICE))) - {f"{proc}/gpus/0000:d8:00.0/information"}
    instance = f"{proc}/capabilities/gpu2/mig/gi3"
    assert of_slice - set(found) == {f"{instance}/access", f"{instance}/ci0/access"}


def test_of_sys_there_are_processors_the_cards_own_folder_and_the_drivers_modules(tree: DriverTree) -> None:
    assert tree.folders(gpu("0")) == [
        "/sys/devices/system/cpu",
        "/sys/devices/system/node",
        "/sys/devices/pci0000:00/0000:00:01.0/0000:3b:00.0",
        "/sys/module/nvidia",
        "/sys/module/nvidia_modeset",
        "/sys/module/nvidia_uvm",
    ]


def test_a_link_of_a_card_to_another_place_is_not_followed(tmp_path: Path) -> None:
    tree = made_up_tree(tmp_path)
    link = tmp_path / "sys/bus/pci/devices" / CARDS[0].bus
    for target in ("../../../../../../etc/0000:3b:00.0", f"../../../devices/pci0000:00/0000:00:01.1/{CARDS[1].bus}"):
        link.unlink()
        link.symlink_to(target)
        assert tree.card_folder(gpu("0")) is None
        assert not any("pci" in folder for folder in tree.folders(gpu("0")))


@pytest.mark.parametrize("node", ["nvidiactl", "nvidia-uvm", "nvidia1"])
def test_a_node_that_is_not_there_is_named_with_what_makes_it(tmp_path: Path, node: str) -> None:
    tree = made_up_tree(tmp_path)
    (tmp_path / "dev" / node).unlink()
    with pytest.raises(NvmlFault, match=f"device node /dev/{node}: is not there; load the driver's modules"):
        tree.nodes(gpu("0"))


@pytest.mark.parametrize(
    ("node", "is_now", "told"),
    [
        ("nvidia-uvm", "8:0", "is device 8:0"),
        ("nvidia-uvm-tools", "507:0", "is device 507:0"),
        ("nvidia1", "195:0", "is device 195:0"),
        ("nvidia1", "507:1", "is device 507:1"),
        ("nvidiactl", "195:1", "is device 195:1"),
        ("nvidia1", "a disk", "is not a character device"),
    ],
)
def test_a_node_of_another_device_is_not_shown(tmp_path: Path, node: str, is_now: str, told: str) -> None:
    tree = made_up_tree(tmp_path)
    (tmp_path / "dev" / node).write_text(is_now)
    with pytest.raises(NvmlFault, match=f"device node /dev/{node}: {told}, which is not one of the NVIDIA driver's"):
        tree.nodes(gpu("0"))


def test_a_capability_of_another_module_is_not_shown(tmp_path: Path) -> None:
    tree = made_up_tree(tmp_path)
    (tmp_path / "dev/nvidia-caps/nvidia-cap30").write_text("509:30")
    with pytest.raises(NvmlFault, match="nvidia-cap30: is device 509:30"):
        tree.nodes(gpu(SLICE))


def test_numbers_are_those_of_the_kernel_and_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "file").write_text("195:0")
    assert device_numbers(tmp_path / "null") == (1, 3) and device_numbers(tmp_path / "file") is None


def test_a_slice_that_was_taken_down_is_named(tmp_path: Path) -> None:
    tree = made_up_tree(tmp_path)
    (tmp_path / "proc/driver/nvidia/capabilities/gpu2/mig/gi3/ci0/access").unlink()
    with pytest.raises(NvmlFault, match="is not one that the driver shows"):
        tree.nodes(gpu(SLICE))


@pytest.mark.parametrize(
    ("uid", "who"), [(731_000, r"the worker's user \(uid 731000\)"), (None, "the user that the agent")]
)
def test_a_node_that_is_closed_to_the_worker_is_one_clear_error(
    tmp_path: Path, uid: int | None, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = shown(made_up_tree(tmp_path), gpu("0"), {})
    given.check_open(uid)
    (tmp_path / "dev/nvidia-uvm").chmod(0o660)
    # Root may open every file, whatever its mode.
    monkeypatch.setattr(os, "access", lambda path, mode: path.stat().st_mode & 0o6 == 0o6)
    with pytest.raises(NvmlFault, match=rf"/dev/nvidia-uvm: is closed to {who}.*0660; run `chmod a\+rw") as refused:
        given.check_open(uid)
    assert refused.value.command == GrantAccess(path="/dev/nvidia-uvm")


def test_of_the_libraries_only_those_that_cuda_needs_are_found() -> None:
    found = from_ldconfig(LISTING.format(folder="/opt/nvidia"), "x86_64")
    names = ["libcuda.so.1", "libnvidia-gpucomp.so.550.54", "libnvidia-ml.so.1", "libnvidia-nvvm.so.4"]
    assert sorted(found) == [*names, "libnvidia-ptxjitcompiler.so.1"]
    assert found["libcuda.so.1"] == Path("/opt/nvidia/libcuda.so.1")


def test_libraries_come_from_the_named_folder_and_their_absence_is_said(tmp_path: Path) -> None:
    made_up_libraries(tmp_path / "driver", ("libcuda.so.1", "libcuda.so.550.54", "libnvidia-encode.so.1"))
    assert sorted(libraries(str(tmp_path / "driver"))) == ["libcuda.so.1", "libcuda.so.550.54"]
    with pytest.raises(NvmlFault, match=r"libcuda\.so\.1: is not in .*; install the driver's libraries, or name"):
        libraries(str(tmp_path))
    with pytest.raises(NvmlFault, match="is not known to ldconfig"):
        libraries(listing="")


def test_libraries_of_the_system_need_no_bind_and_others_are_taken_as_one_set(tree: DriverTree, tmp_path: Path) -> None:
    usual = shown(tree, gpu("0"), {"libcuda.so.1": Path("/usr/lib/libcuda.so.1")})
    assert usual.libraries == () and "LD_LIBRARY_PATH" not in usual.environment
    other = {"libnvidia-ml.so.1": Path("/usr/lib/libnvidia-ml.so.1"), **made_up_libraries(tmp_path, ("libcuda.so.1",))}
    given = shown(tree, gpu("0"), other)
    assert [place for _, place in given.libraries] == [
        "/gpu-libraries/libcuda.so.1",
        "/gpu-libraries/libnvidia-ml.so.1",
    ]
    assert given.environment["LD_LIBRARY_PATH"] == "/gpu-libraries"


def test_a_worker_is_told_of_one_gpu_by_its_uuid_and_without_one_of_none(tree: DriverTree) -> None:
    limits = WorkerLimits()
    assert environment(limits)["CUDA_VISIBLE_DEVICES"] == ""
    assert environment(limits, shown(tree, gpu("0"), {}))["CUDA_VISIBLE_DEVICES"] == FIRST
    assert environment(limits, shown(tree, gpu(SLICE), {}))["CUDA_VISIBLE_DEVICES"] == SLICE


def test_nodes_are_bound_so_that_devices_open_and_after_the_new_dev(tree: DriverTree, tmp_path: Path) -> None:
    given = shown(tree, gpu(SLICE), {})
    arguments = bubblewrap_arguments(
        plan={}, figures={}, dataset=[], limits=WorkerLimits(), seccomp=3, uid=731_000, hidden=tmp_path, gpu=given
    )
    words = " ".join(arguments)
    places = re.findall(r"--dev-bind \S+ (\S+)", words)
    assert sorted(places) == sorted(tree.nodes(gpu(SLICE)))
    assert words.index("--dev /dev") < words.index("--perms 0755 --dir /dev/nvidia-caps") < words.index("--dev-bind")
    assert words.index("--dev-bind") < words.index("--remount-ro /dev ")
    assert not re.search(r"--(ro-)?bind \S+ /dev", words)
    without = bubblewrap_arguments(
        plan={}, figures={}, dataset=[], limits=WorkerLimits(), seccomp=3, uid=731_000, hidden=tmp_path
    )
    assert "--dev-bind" not in without and not any(word.startswith("/sys") for word in without)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("7", "is not on this machine"),
        ("nvidia0", "is not the name of a GPU"),
        (DIVIDED, f"is divided into MIG slices; name one of them: {SLICE}, {OTHER_SLICE}"),
        ("2", "is divided into MIG slices"),
    ],
)
def test_a_name_that_is_no_gpu_for_a_worker_is_refused(name: str, words: str) -> None:
    with pytest.raises(NvmlFault, match=re.escape(words)):
        gpu(name)
