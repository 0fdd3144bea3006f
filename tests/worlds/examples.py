"""How many examples a property is tried with."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

USUAL = 100
"""What Hypothesis tries of a property that says nothing, and what the numbers of tests are meant for."""


def examples(count: int, **others: Any) -> settings:
    """So many examples; ``make test-fast`` tries a quarter of them, at least five.

    Hypothesis lets the number that a test states go before the one of the profile, so the share is taken here.
    """
    return settings(max_examples=max(min(count, 5), count * settings.default.max_examples // USUAL), **others)
