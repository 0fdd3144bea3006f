"""What holds for every test: it leaves the process as it found it."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import signal
import sys
from collections.abc import Generator, Iterator
from functools import cache

import _pytest.logging
import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the code. Continuous integration tries the same
# examples each time, so that what it refuses is the change; everybody else's runs try new ones.
settings.register_profile(
    "archipel", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.register_profile("few", settings.get_profile("archipel"), max_examples=25)
"""A quarter of the examples, for ``make test-fast``; `worlds.examples` says how a test takes part."""

settings.load_profile("archipel")

_SHARED = {
    "archipel.storage.database": "worlds.shared_statements",
    "archipel.storage.migrations": "worlds.new_databases",
    "archipel.server.rest.application": "worlds.shared_routes",
}
"""What is made once for many tests, where tests use it."""

# A program that was started in the background of a script ignores Ctrl-C, and so would every program that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A program is put together from its functions once, and not again for each line that a test types: 30 ms for a site's.
typer.main.get_command = typer.testing._get_command = cache(typer.main.get_command)


def _attach(self: _pytest.logging.catching_logs) -> logging.Handler:
    """What pytest does six times for each test, but for its walk over hundreds of loggers.

    It adds its handler to those that do not propagate. Here they are torch's, and what they say goes to stderr.
    """
    root = logging.getLogger()
    if self.level is not None:
        self.handler.setLevel(self.level)
        self.orig_level = root.level
        root.setLevel(min(self.orig_level, self.level))
    root.addHandler(self.handler)
    self.attached_loggers.append(root)
    return self.handler


_pytest.logging.catching_logs.__enter__ = _attach  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def file_mode_mask() -> Iterator[None]:
    """A command called within this process closes the mask of files for itself; the next test has the old one again."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Nothing that is made while tests are collected is garbage, and all of it stays to the end.

    Neither then nor later need the collector walk through it. What the tests make is looked through less often than
    usual: a fifth of their time went into that.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        for used, shared in _SHARED.items():
            if used in sys.modules:
                importlib.import_module(shared).share()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, so that no worker is left with one when the others have nothing to do."""
    starting = {item.path for item in items if item.get_closest_marker("processes") is not None}
    items.sort(key=lambda item: ("federation" not in item.path.parts, item.path not in starting))
