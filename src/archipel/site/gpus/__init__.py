"""The GPUs that a site's owner named: what the driver says of them, what a worker is shown, who computes when.

It may know the site's settings; it knows no plan, no dataset and no sandbox. The files of the driver are read below a
root folder that is given, and NVML is asked through a contract (``Nvml``), so that both can be others in a test.
"""

from typing import TYPE_CHECKING

from archipel.lazy import lazy_names

if TYPE_CHECKING:
    from archipel.site.gpus.devices import Gpu, all_gpus
    from archipel.site.gpus.driver_tree import DriverTree
    from archipel.site.gpus.inventory import GpuRow, gpu_rows, nameable_gpus, usable_gpu
    from archipel.site.gpus.nvml import Card, GpuMemory, GpuProcess, NvmlFault, Slice
    from archipel.site.gpus.pool import Driver, GivenGpu, GpuPool
    from archipel.site.gpus.shown import ShownGpu
    from archipel.site.gpus.watch import GpuWatch
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "devices": ["Gpu", "all_gpus"],
            "driver_tree": ["DriverTree"],
            "inventory": ["GpuRow", "gpu_rows", "nameable_gpus", "usable_gpu"],
            "nvml": ["Card", "GpuMemory", "GpuProcess", "NvmlFault", "Slice"],
            "pool": ["Driver", "GivenGpu", "GpuPool"],
            "shown": ["ShownGpu"],
            "watch": ["GpuWatch"],
        },
    )

__all__ = [
    "Card",
    "Driver",
    "DriverTree",
    "GivenGpu",
    "Gpu",
    "GpuMemory",
    "GpuPool",
    "GpuProcess",
    "GpuRow",
    "GpuWatch",
    "NvmlFault",
    "ShownGpu",
    "Slice",
    "all_gpus",
    "gpu_rows",
    "nameable_gpus",
    "usable_gpu",
]
