"""What the kernel says of a process that a test started."""

from __future__ import annotations

import signal
from pathlib import Path


def hears_no_ctrl_c(process: int) -> bool:
    """Whether the process blocks or ignores SIGINT (proc(5): SigBlk and SigIgn are masks in hexadecimal)."""
    fields = dict(line.split(":\t") for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return bool((int(fields["SigBlk"], 16) | int(fields["SigIgn"], 16)) >> (signal.SIGINT - 1) & 1)
