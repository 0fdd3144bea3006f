"""A program that tries a pattern on names: it reads both as JSON and prints a line of JSON for each name.

The first line is what is wrong with the pattern, "" when nothing is. It runs in a process of its own whose processor
time is limited, and imports nothing of Archipel, so that it starts fast.
"""

from __future__ import annotations

import json
import re
import resource
import sys


def main(seconds: int) -> None:
    """Print what the pattern finds; the process is ended after so much processor time."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked = json.load(sys.stdin.buffer)
    try:
        pattern = re.compile(asked["pattern"])
    except (re.error, OverflowError, RecursionError) as error:
        _say(str(error) or type(error).__name__)
        return
    _say("")
    for name in asked["names"]:
        match = pattern.search(name)
        _say((match[1 if pattern.groups else 0] or "") if match else "")


def _say(text: str) -> None:
    sys.stdout.write(json.dumps(text) + "\n")
    # The caller must know which name was the last one when the time is up.
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
