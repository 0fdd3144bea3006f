"""What another party wrote is counted before it is built: a flood of faults is refused at its first one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archipel.vocabulary import Job, Update
from archipel.vocabulary.documents import MOST_PARTS, MOST_PLACES, parsed, places

FLOOD = 100_000
UPDATE = {
    "key": {"experiment": "first", "round": 1},
    "site": "berlin",
    "task_hash": "sha256:" + "0" * 64,
    "samples": 1,
}


class Building:
    """Builds, and remembers how often it was asked."""

    def __init__(self, build: Callable[[Any], Any]) -> None:
        self.build, self.asked = build, 0

    def __call__(self, value: Any) -> Any:
        self.asked += 1
        return self.build(value)


def as_it_is(value: Any) -> Any:
    return value


def faults(build: Callable[[Any], Any], body: bytes) -> int:
    """How many faults were written down before the document was refused."""
    try:
        parsed(build, body, len(body))
    except ValidationError as refused:
        return refused.error_count()
    except ValueError:
        return 0
    pytest.fail("was not refused")


def repeated(before: str, one: str, after: str, count: int = FLOOD) -> bytes:
    return (before + ",".join(one.replace("#", str(number)) for number in range(count)) + after).encode()


def test_a_document_is_refused_by_its_length_before_it_is_read() -> None:
    building = Building(as_it_is)
    with pytest.raises(ValueError, match="has 11 bytes; at most 10 are accepted"):
        parsed(building, b"[0,0,0,0,0]", 10)
    assert building.asked == 0
    assert parsed(building, b"[0,0,0,0,0]", 11) == [0] * 5


def test_a_document_of_too_many_parts_is_not_even_read() -> None:
    body = repeated("[", "0", "]", MOST_PARTS + 1)
    building = Building(as_it_is)
    with pytest.raises(ValueError, match=f"at most {MOST_PARTS} are accepted"):
        parsed(building, body, len(body))
    assert building.asked == 0


@pytest.mark.parametrize(
    "parts",
    [
        ("{", '"k#":0', "}"),
        ('{"metrics":{', '"k#":{}', "}}"),
        ('{"metrics":{"loss":{', '"k#":0', "}}}"),
        ('{"metrics":{', '"loss":{}', "}}"),
        ('{"metrics":{', '"k#":{"total":0,"weight":1}', "}}"),
    ],
    ids=["unknown keys", "wrong entries", "unknown keys within", "one key again and again", "right"],
)
def test_an_object_with_a_hundred_thousand_entries_is_refused_without_a_list_of_faults(
    parts: tuple[str, str, str],
) -> None:
    assert faults(Update.model_validate, repeated(*parts)) < 10


def test_lists_in_a_hundred_thousand_lists_are_refused_without_a_list_of_faults() -> None:
    assert faults(Update.model_validate, b'{"metrics":' + b"[" * FLOOD) < 10


@pytest.mark.parametrize("field", ["roster", "metrics", "validation", "parameters"])
@pytest.mark.parametrize("one", ["{}", "[]", "0", '{"k#":0}'])
def test_a_list_with_a_hundred_thousand_wrong_items_is_refused_at_its_first(field: str, one: str) -> None:
    body = repeated('{"' + field + '":[', one, "]}")
    assert 0 < faults(Job.model_validate, body) < 30


def test_a_job_of_very_many_tensors_is_read_in_full() -> None:
    specs = [{"name": f"layer.{number:06}.weight", "dtype": "float32", "shape": [3, 3, 3]} for number in range(20_000)]
    job = json.dumps({"tensors": {"tensors": specs}}).encode()
    found = parsed(as_it_is, job, len(job))
    assert found == json.loads(job)


def test_an_update_with_as_many_metrics_as_there_may_be_is_read() -> None:
    sums = {f"m{number}": {"total": 1.5, "weight": 2.0} for number in range(1000)}
    body = json.dumps({**UPDATE, "metrics": sums, "validation": sums}).encode()
    assert places(json.loads(body)) < MOST_PLACES
    assert len(parsed(Update.model_validate, body, len(body)).validation) == 1000


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(documents)
def test_what_is_within_the_bounds_is_read_as_it_was_written(value: Any) -> None:
    body = json.dumps(value).encode()
    assert parsed(as_it_is, body, len(body)) == value


@given(documents)
def test_no_document_has_more_places_than_parts_can_make(value: Any) -> None:
    body = json.dumps(value).encode()
    parts = body.count(b",") + body.count(b"{") + body.count(b"[")
    assert places(value) <= 3 * parts + 1
