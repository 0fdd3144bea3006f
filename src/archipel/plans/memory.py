"""Keep the C library from giving memory back to the system between the steps of training.

Every step of a 3-D network frees and asks for the same tens of megabytes. By default glibc returns them to the kernel
each time, which must then hand out and clear the same pages again: measured at 10 to 25 % of an epoch.
"""

from __future__ import annotations

from archipel.linux import HeapSetting, set_heap

_LARGEST_FROM_HEAP = 32 << 20  # glibc takes no larger value


def keep_freed_memory() -> bool:
    """Ask glibc to keep what is freed for the next step; False on a C library that has no such setting.
    The process's peak does not grow; its memory only stays near the peak.
    """
    settings = ((HeapSetting.MMAP_THRESHOLD, _LARGEST_FROM_HEAP), (HeapSetting.TRIM_THRESHOLD, 2**31 - 1))
    return all(set_heap(setting, value) for setting, value in settings)
