"""Whether a sandbox is possible on this machine: bubblewrap is run once, as for a worker."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess

from archipel.site.sandbox import tree
from archipel.site.sandbox.command import inner_namespace
from archipel.vocabulary import ArchipelError, ErrorCode
from archipel.vocabulary.remedies import AllowSandbox

_TRIAL_S = 30.0
_TRIALS = 3
"""How often a trial is made that was killed: that says nothing of the machine, unless each of them is."""


async def check() -> None:
    """Raise ArchipelError (code sandbox), with the remedy, when a worker cannot be sandboxed here."""
    if (problem := await asyncio.to_thread(sandbox_problem)) is not None:
        raise problem


def sandbox_problem() -> ArchipelError | None:
    """Why no worker can be sandboxed here (code sandbox), with the remedy; None when one can.

    It takes about 30 ms, and at most 30 s for a bubblewrap that never ends.
    """
    program = shutil.which("bwrap")
    if program is None:
        return _cannot("bubblewrap", "is not installed", "install the Debian package bubblewrap")
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return _cannot("setpriv", "is not installed", "install the Debian package util-linux")
    trial = [program, "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
    if os.getuid() != 0:
        trial.append("--unshare-user")
    trial += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"]
    if os.getuid() != 0:
        trial += [*inner_namespace(), "--"]
    trial.append("/bin/true")
    for _ in range(_TRIALS):
        try:
            status, message = _outcome(trial)
        except subprocess.TimeoutExpired:
            return _cannot("bubblewrap", "did not answer", "run `bwrap --ro-bind / / true` by hand")
        except OSError as error:
            return _cannot("bubblewrap", f"could not be started ({error.strerror})", "install bubblewrap again")
        if not was_killed(status):
            break
    if status == 0:
        return None
    return _cannot(
        "bubblewrap",
        f"cannot make a sandbox here ({message or f'each trial was killed, exit status {status}'})",
        "allow unprivileged user namespaces on this machine (sysctl kernel.unprivileged_userns_clone, or its "
        'AppArmor profile for bwrap), or run the agent as root; sandbox = "none-i-accept-the-risk" in site.toml '
        "trains without",
    )


def was_killed(status: int) -> bool:
    """Whether a process with this exit status, or the one that it reports on as shells do, was ended by a signal.

    >>> was_killed(-9), was_killed(137), was_killed(1)
    (True, True, False)
    """
    return status < 0 or status > 128


def _outcome(trial: list[str]) -> tuple[int, str]:
    """The exit status of one trial, and what it wrote. Raises TimeoutExpired when it does not end."""
    with os.fdopen(os.memfd_create("trial"), "w+b") as said:
        process = subprocess.Popen(
            trial, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        try:
            status = process.wait(_TRIAL_S)
        except subprocess.TimeoutExpired:
            tree.kill_tree(process.pid)
            process.wait()
            raise
        finally:
            # A trial that was killed while it began leaves a process behind that waits for it without end.
            tree.kill_group(process.pid)
        said.seek(0)
        return status, said.read().decode(errors="replace").strip()[:200]


def _cannot(thing: str, cause: str, remedy: str) -> ArchipelError:
    return ArchipelError(thing, cause, remedy, code=ErrorCode.SANDBOX, command=AllowSandbox())
