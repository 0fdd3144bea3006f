"""What libraries warn of and log: kept from the terminal, except while a researcher's own plan runs in this process."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def silence_libraries() -> None:
    """Keep from the terminal what libraries warn of or log: it is for who programs with them. What a person should know
    is a finding or an error of ours."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Without any handler, Python prints what is logged.
    logging.getLogger().addHandler(logging.NullHandler())
    # nibabel has a handler of its own.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL + 1)


@contextmanager
def plan_heard() -> Iterator[None]:
    """Warnings and logs are shown on standard error: the plan that runs in the block is tried by its author, and what
    torch says of a wrong shape is for them."""
    shown = logging.StreamHandler()
    logging.getLogger().addHandler(shown)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("default")
            yield
    finally:
        logging.getLogger().removeHandler(shown)
