"""``python -m archipel.site.worker FD [confined]``: set limits, report to the agent, then answer its requests."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys

from archipel.site.worker.landlock import confine
from archipel.site.worker.protocol import Ready, Start, receive, send
from archipel.vocabulary import WorkerLimits

OPEN_FILES = 1024
_WRITABLE = {"/tmp": True, "/dev/shm": True, "/dev": False}  # noqa: S108 - inside the sandbox


def limit_this_process(limits: WorkerLimits) -> None:
    """Set what the kernel keeps for each process and for this uid; nothing in here can raise it again.

    Set inside the sandbox, because processes are counted per user namespace and its own is the one that must bind.
    """
    for what, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.tmp_mb << 20),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_RTPRIO, 0),
        (resource.RLIMIT_SIGPENDING, 1024),
    ):
        _, hard = resource.getrlimit(what)
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def main() -> None:
    """Serve until the agent closes the socket."""
    if sys.argv[2:] == ["confined"]:
        confine(_WRITABLE)
    # Only now: numpy, which comes with it, starts threads, and those would not be confined.
    from archipel.site.worker.serving import serve

    channel = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    # A write beyond RLIMIT_FSIZE becomes an error that the plan sees instead of ending the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        start, _ = receive(channel)
        if not isinstance(start, Start):
            raise SystemExit("the agent's first message was not a start")
        limit_this_process(start.job.limits)
        send(channel, Ready())
        serve(channel, start)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main()
