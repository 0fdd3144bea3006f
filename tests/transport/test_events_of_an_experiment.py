"""Events of an experiment: each body is read by its kind, and a newer server's kind is read as what it is."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from archipel.transport.rest import Event, SiteFailed, StateChanged, UnknownEvent

PLACE = {"experiment": "heart", "round": 3, "kind": "train", "about": "", "attempt": 1}


def event(kind: str, body: dict[str, object]) -> Event:
    return Event.model_validate({"seq": 7, "at": "2026-11-21T08:00:00+00:00", "kind": kind, "body": body})


def test_a_kind_that_a_newer_server_made_is_kept_with_all_it_says() -> None:
    body = {"site": "berlin", "hours": 3, "because": {"of": ["maintenance"]}}
    found = event("site-drained", body)
    assert type(found.body) is UnknownEvent
    assert found.body.model_dump(mode="json") == body
    assert Event.model_validate_json(found.model_dump_json()) == found


def test_a_known_kind_is_never_read_as_an_unknown_one() -> None:
    assert type(event("state", {"state": "paused"}).body) is StateChanged
    failure = {"code": "crashed", "sentence": "the worker died"}
    assert type(event("site-failed", {**PLACE, "site": "berlin", "failure": failure}).body) is SiteFailed
    for kind, body in (("state", {"state": "drained"}), ("site-failed", PLACE)):
        with pytest.raises(ValidationError):
            event(kind, body)
