"""Everything on the machine that a worker holds besides its processes, to be given back when it ends."""

from __future__ import annotations

from dataclasses import dataclass

from archipel.site.sandbox.groups import ControlGroup
from archipel.site.sandbox.identities import Identity
from archipel.site.sandbox.output import Output
from archipel.site.sandbox.staging import StagedFiles


@dataclass
class Resources:
    """A worker's uid, its staged files, its output and its control group."""

    identity: Identity
    stage: StagedFiles
    output: Output
    group: ControlGroup | None = None

    def grouped(self) -> set[int]:
        """Processes in the worker's control group."""
        return self.group.processes() if self.group is not None else set()

    def leave_group(self) -> bool:
        """Remove the control group; False when it must be tried again, because a process is still on its way out."""
        return self.group is None or self.group.close()

    def oom_kills(self) -> int:
        """How often the kernel ended a process for its memory."""
        return self.group.oom_kills() if self.group is not None else 0

    def close(self) -> None:
        """Give it all back; a second time does nothing."""
        self.output.close()
        self.stage.close()
        self.identity.close()
        if self.group is not None:
            self.group.close()
            self.group = None
