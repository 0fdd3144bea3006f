"""What rounds take of memory at the sites: their own, and what agent and worker share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class MemoryWatch:
    """Looked at several times in a round. ``agents`` are the processes of the agents, idle when this is made.

    ``own`` is by how many bytes the memory of the site that grew most has grown that no other process shares: of its
    agent since then, and of each process below it since it was seen first. ``shared`` are the most bytes of shared
    memory (memfd) that one site's processes held, each piece counted once.
    """

    def __init__(self, agents: Sequence[int]) -> None:
        self._agents = agents
        self._first: dict[int, int] = {}
        self.own = self.shared = 0
        self.look()

    def look(self) -> None:
        """Note what is used now."""
        for agent in self._agents:
            tree = _tree(agent)
            used = {pid: _anonymous(pid) for pid in tree}
            for pid, count in used.items():
                self._first.setdefault(pid, count)
            self.own = max(self.own, sum(count - self._first[pid] for pid, count in used.items()))
            pieces: dict[int, int] = {}
            for pid in tree:
                pieces |= _shared(pid)
            self.shared = max(self.shared, sum(pieces.values()))

    def begin_again(self) -> None:
        """Workers are ready now: what they have used until here is theirs, whatever the size of the model."""
        for agent in self._agents:
            self._first |= {pid: _anonymous(pid) for pid in _tree(agent) if pid != agent}
        self.own = 0


def _tree(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = children.read_text().split()
        except OSError:
            # The thread has ended.
            continue
        for child in below:
            found += _tree(int(child))
    return found


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        # It has ended.
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def _shared(pid: int) -> dict[int, int]:
    """The bytes of each piece of shared memory that a process holds open, by its inode."""
    found = {}
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if str(link.readlink()).startswith("/memfd:"):
                status = link.stat()
                found[status.st_ino] = status.st_blocks * 512
    except OSError:
        # The process or the descriptor went while it was looked at: the next look sees the others.
        return found
    return found
