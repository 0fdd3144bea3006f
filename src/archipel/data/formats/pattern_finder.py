"""A program that tries patterns on names: it reads a line of JSON with the patterns, then one with each name, and
prints a line of JSON for each.

The first line that it prints is what is wrong with a pattern, "" when nothing is; then what each pattern finds in each
name. It runs in a process of its own whose processor time is limited, and imports nothing of Archipel, so that it
starts fast.
"""

from __future__ import annotations

import json
import re
import resource
import sys


def main(seconds: int) -> None:
    """Print what the patterns find; the process is ended after so much processor time."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = iter(sys.stdin.buffer.readline, b"")
    patterns = []
    for text in json.loads(next(asked)):
        try:
            patterns.append(re.compile(text))
        except (re.error, OverflowError, RecursionError) as error:
            _say([text, str(error) or type(error).__name__])
            return
    _say([])
    for line in asked:
        name = json.loads(line)
        _say([_found(pattern, name) for pattern in patterns])


def _found(pattern: re.Pattern[str], name: str) -> str:
    """The first group, or all that matches where there is none; "" where nothing does."""
    match = pattern.search(name)
    return (match[1 if pattern.groups else 0] or "") if match else ""


def _say(found: list[str]) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    # The caller must know which name was the last one when the time is up.
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
