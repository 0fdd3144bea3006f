"""Child processes that hear no Ctrl-C: a terminal sends it to each of its processes, and theirs ends with the parent's.

A child is deaf from its first instruction on, so that it never prints a traceback while it is still being imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any


def started(
    target: Callable[..., None], *arguments: Any, variables: Mapping[str, str] | None = None, daemon: bool = False
) -> BaseProcess:
    """A new process that runs ``target`` with these arguments, which are pickled, and with ``variables`` in its
    environment. As a ``daemon`` it ends with this process."""
    process = get_context("spawn").Process(target=_run, args=(target, *arguments), daemon=daemon)
    with _surroundings(variables or {}):
        process.start()
    return process


def _run(target: Callable[..., None], *arguments: Any) -> None:
    # Ignored instead of blocked from here on: what the target starts inherits it too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    target(*arguments)


@contextmanager
def _surroundings(variables: Mapping[str, str]) -> Iterator[None]:
    """What a process that is started in the block inherits: the variables, and that SIGINT is blocked."""
    before = {name: os.environ.get(name) for name in variables}
    # The first process to be spawned starts this one too, and starting it lets SIGINT through again.
    resource_tracker.ensure_running()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
