"""An experiment's history in words."""

from __future__ import annotations

import pytest

from archipel.researcher.event_lines import event_line
from archipel.transport.rest import Event

STAGE = {"experiment": "e", "round": 2, "kind": "train"}
ENDED = {**STAGE, "state": "committed", "contributors": ["a", "b"], "seconds": 12.34, "metrics": {"loss": 0.5}}
HASH = "sha256:" + "ab" * 32
FAILURE = {"code": "plan-error", "sentence": "the plan failed", "exception": "KeyError"}


@pytest.mark.parametrize(
    ("kind", "body", "line"),
    [
        ("submitted", {"job_hash": HASH}, f"submitted: job {HASH}"),
        ("state", {"state": "running"}, "running"),
        ("state", {"state": "paused", "reason": "a\nfinished"}, 'paused: "a\\nfinished"'),
        (
            "arguments",
            {"arguments": {"rate": 0.5, "kind": "a, rate=9"}},
            'hyper-parameters from the next round on: rate=0.5, kind="a, rate=9"',
        ),
        ("interrupted", {"reason": "disk full"}, 'the server cannot continue now and tries again: "disk full"'),
        (
            "sites-awaited",
            {"until": {"a": "2026-11-21T19:48:32+00:00"}, "away": ["b"]},
            "a is awaited until 2026-11-21T19:48:32+00:00; b is away and not awaited",
        ),
        ("sites-awaited", {}, "no site is awaited"),
        (
            "round-opened",
            {**STAGE, "attempt": 3, "model": HASH, "arguments": {"steps": 5}},
            "round 2 (attempt 3) opened from model sha256:abababababab: steps=5",
        ),
        ("task-accepted", {**STAGE, "site": "a"}, "round 2: a works on it"),
        ("update-received", {**STAGE, "site": "a", "samples": 7}, "round 2: a delivered, 7 samples"),
        ("update-received", {**STAGE, "site": "a", "samples": None}, "round 2: a delivered"),
        (
            "update-received",
            {**STAGE, "kind": "evaluate", "about": "ensemble", "site": "a", "samples": None},
            "evaluate ensemble, round 2: a delivered",
        ),
        (
            "site-failed",
            {**STAGE, "site": "a", "failure": FAILURE},
            'round 2: a failed: "the plan failed [KeyError]"',
        ),
        (
            "error-released",
            {**STAGE, "site": "a", "detail": "Traceback\nKeyError: 1\n"},
            'round 2: a released its error text: "KeyError: 1"',
        ),
        ("round-committed", ENDED, "round 2 counts after 12.3 s, delivered by a and b, loss 0.5"),
        (
            "round-failed",
            {**ENDED, "state": "failed", "contributors": [], "others": {"c": "lost"}, "metrics": {}},
            "round 2 does not count after 12.3 s, delivered by no site, c lost",
        ),
        ("of-a-newer-server", {"reason": "a\nb", "count": 3}, 'of-a-newer-server: reason="a\\nb", count=3'),
        ("of-a-newer-server", {}, "of-a-newer-server"),
    ],
)
def test_an_event_is_one_line_that_no_text_in_it_can_break(kind: str, body: dict[str, object], line: str) -> None:
    assert event_line(Event.model_validate({"seq": 1, "at": "", "kind": kind, "body": body})) == line
