"""Name patterns: what a person's regular expression finds in file names, tried by a process of its own.

Python's matching cannot be stopped from within, and a short pattern can take centuries on a name of 40 letters.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from archipel.data.limits import DATA_LIMITS
from archipel.vocabulary import BadInput

LONGEST = 200
_PROGRAM = Path(__file__).with_name("pattern_finder.py")


def found_in(names: Sequence[str], pattern: str, seconds: int = DATA_LIMITS.pattern_s) -> dict[str, str]:
    """The first group, or all that matches where there is none, for each name; "" where nothing does.

    Raises BadInput for a text that is not a pattern, is too long, or takes more than ``seconds`` of processor time.
    """
    thing, remedy = f"option subject={pattern}", "give a regular expression, for example ^[^_]+"
    if len(pattern) > LONGEST:
        raise BadInput(f"{thing[:60]}...", f"is longer than {LONGEST} letters", remedy)
    # Isolated and without site-packages: it starts fast, and the environment cannot add other code.
    command = [sys.executable, "-I", "-S", str(_PROGRAM), str(seconds)]
    asked = json.dumps({"pattern": pattern, "names": list(names)}).encode()
    run = subprocess.run(command, input=asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    if answers and answers[0]:
        raise BadInput(thing, answers[0], remedy)
    matches = answers[1:]
    if len(matches) < len(names) or not answers:
        where = f"for {names[len(matches)]}" if answers else "to be understood"
        simpler = "give a simpler pattern, without a repeat inside a repeat, for example ^[^_]+"
        raise BadInput(thing, f"needs more than {seconds} s {where}", simpler)
    return dict(zip(names, matches, strict=True))
