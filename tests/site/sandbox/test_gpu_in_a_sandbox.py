"""A worker on a made-up GPU: what it sees, and that it is ended when it holds or does more than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from archipel.site.gpus import GivenGpu, NvmlFault
from archipel.site.gpus.devices import find
from archipel.site.gpus.pool import given
from archipel.site.sandbox import Sandbox
from archipel.vocabulary import ErrorCode
from worlds.gpus import ASKED, CARDS, FIRST, MIB, SLICE, made_up_driver
from worlds.sandbox import World

pytestmark = pytest.mark.processes

SEEN = """
import os
below = lambda top: sorted(os.path.join(at, name) for at, _, names in os.walk(top) for name in names)
text = lambda path: open(path).read()
said = {
    "dev": [path for path in below("/dev") if "nvidia" in path or "dri" in path],
    "proc": below("/proc/driver"),
    "params": text("/proc/driver/nvidia/params"),
    "sys": below("/sys"),
    "node": text("/dev/nvidia1") if os.path.exists("/dev/nvidia1") else "",
    "libraries": below("/gpu-libraries"),
    "numa": text("/sys/bus/pci/devices/BUS/numa_node"),
    "variable": os.environ["CUDA_VISIBLE_DEVICES"],
    "device": context.device,
}
"""


class OnGpu:
    """A world whose worker computes on a GPU of the made-up machine."""

    def __init__(self, folder: Path, name: str = "0", *, by_process: bool = True) -> None:
        folder.chmod(0o755)
        driver, self.nvml = made_up_driver(folder / "gpus", by_process=by_process)
        self.given: GivenGpu = given(driver, find(name, driver.nvml), ASKED)
        (folder / "world").mkdir()
        self.world = World.make(folder / "world")
        self.world.spec = replace(self.world.spec, gpu=self.given)


@pytest.fixture
def on_gpu(tmp_path: Path) -> Iterator[OnGpu]:
    yield OnGpu(tmp_path)


@pytest.mark.parametrize(("name", "card", "uuid"), [("0", CARDS[0], FIRST), (SLICE, CARDS[2], SLICE)])
async def test_a_worker_sees_its_gpu_and_no_other(tmp_path: Path, name: str, card: object, uuid: str) -> None:
    made = OnGpu(tmp_path, name)
    worker = await Sandbox.start(made.world.spec)
    try:
        await worker.prepare()
        seen = await made.world.say(worker, SEEN.replace("BUS", made.given.gpu.card.bus))
    finally:
        await worker.kill()
    own = ["/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", f"/dev/nvidia{made.given.gpu.card.minor}", "/dev/nvidiactl"]
    caps = ["/dev/nvidia-caps/nvidia-cap30", "/dev/nvidia-caps/nvidia-cap31"] if name == SLICE else []
    assert seen["dev"] == sorted([*own, *caps])
    files = {
        f"/proc/driver/nvidia/{one}" for one in ("params", "version", f"gpus/{made.given.gpu.card.bus}/information")
    }
    assert set(seen["proc"]) >= files and not any(
        other.bus in path for path in seen["proc"] for other in CARDS if other != card
    )
    assert "ModifyDeviceFiles: 0" in seen["params"]
    tops = {"/".join(path.split("/")[:4]) for path in seen["sys"]}
    assert tops == {"/sys/devices/system", "/sys/devices/pci0000:00", "/sys/module/nvidia", "/sys/module/nvidia_uvm",
                    "/sys/module/nvidia_modeset"}  # fmt: skip
    assert not any("secret" in path or "memory" in path for path in seen["sys"])
    assert seen["libraries"] == ["/gpu-libraries/libcuda.so.1", "/gpu-libraries/libnvidia-ml.so.1"]
    assert (seen["variable"], seen["device"], seen["numa"]) == (uuid, "cuda", "0\n")
    assert "watched by the agent by process" in worker.description or name == SLICE


async def test_without_a_gpu_a_worker_computes_on_the_cpu_and_sees_none(world: World) -> None:
    worker = await Sandbox.start(world.spec)
    try:
        await worker.prepare()
        code = """
import os
said = os.path.exists("/sys"), os.environ["CUDA_VISIBLE_DEVICES"], context.device
"""
        assert await world.say(worker, code) == (False, "", "cpu")
    finally:
        await worker.kill()


async def test_a_node_that_is_closed_ends_the_start_with_its_name(on_gpu: OnGpu) -> None:
    node, _ = on_gpu.given.shown.nodes[0]
    node.chmod(0o600)
    with pytest.raises(NvmlFault, match="device node /dev/nvidiactl: is closed to the worker's user"):
        await Sandbox.start(on_gpu.world.spec)


@pytest.mark.parametrize("by_process", [True, False])
async def test_a_worker_beyond_its_memory_of_the_gpu_is_ended(tmp_path: Path, by_process: bool) -> None:
    made = OnGpu(tmp_path, by_process=by_process)
    worker = await Sandbox.start(made.world.spec)
    await worker.prepare()
    made.nvml.held, made.nvml.used = {worker.main: 1024 * MIB}, 1024 * MIB
    assert await made.world.run(worker, "import time; time.sleep(0.3)")
    doing = asyncio.create_task(made.world.fails(worker, "import time; time.sleep(15)"))
    await asyncio.sleep(0.3)
    made.nvml.held, made.nvml.used = {worker.main: 1025 * MIB}, 1025 * MIB
    failed = await doing
    assert failed.failure.code is ErrorCode.LIMIT_MEMORY and "1025 MiB" in failed.detail
    assert not worker.alive


async def test_a_gpu_that_cannot_be_watched_ends_the_task(on_gpu: OnGpu) -> None:
    worker = await Sandbox.start(on_gpu.world.spec)
    await worker.prepare()
    on_gpu.nvml.lost = True
    failed = await on_gpu.world.fails(worker, "import time; time.sleep(15)")
    assert failed.failure.code is ErrorCode.GPU and "GPU is lost" in failed.detail
    assert not worker.alive


async def test_a_frozen_worker_whose_gpu_still_computes_is_ended(on_gpu: OnGpu) -> None:
    worker = await Sandbox.start(on_gpu.world.spec)
    await worker.prepare()
    await on_gpu.world.run(worker, "")
    await asyncio.sleep(2.5)
    assert worker.alive
    on_gpu.nvml.busy = frozenset({worker.main})
    for _ in range(3000):
        if not worker.alive:
            break
        await asyncio.sleep(0.02)
    assert not worker.alive
