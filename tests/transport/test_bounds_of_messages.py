"""Every message has bounds: on its bytes, on every list and every mapping in it, and on what refusing it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from archipel.transport.enrolment import AuthorityReply, EnrolmentReply, EnrolmentRequest
from archipel.transport.messages import (
    MAX_DISCLOSED_BYTES,
    MOST_DATASETS,
    DatasetsMessage,
    DatasetSummary,
    FetchStart,
    FromServer,
    FromSite,
    Offset,
    RenewReply,
    RenewRequest,
    UploadStart,
    disclosed_bytes,
    from_server,
    from_site,
)
from archipel.transport.reading import LONGEST_FROM_SERVER, LONGEST_FROM_SITE, LONGEST_START, read
from archipel.transport.rest import Arguments, JoinTokenOrder, Revocation, Submission
from archipel.vocabulary import BadInput
from archipel.vocabulary.bounds import LONGEST_JOB

KINDS: list[Any] = [
    FromSite, FromServer, UploadStart, FetchStart, Offset, RenewRequest, RenewReply, EnrolmentRequest, EnrolmentReply,
    AuthorityReply, Submission, Arguments, JoinTokenOrder, Revocation,
]  # fmt: skip


def without_bounds(schema: Any, path: str = "") -> Iterator[str]:
    """Where a schema holds as much as somebody likes, or a list that goes on after its first fault."""
    match schema:
        case {"type": "tuple" | "list" | "set" | "dict" as kind}:
            if schema.get("max_length") is None or (kind != "dict" and not schema.get("fail_fast")):
                yield f"{path} ({kind})"
    if isinstance(schema, dict):
        for name, part in schema.items():
            yield from without_bounds(part, f"{path}.{name}" if name not in ("schema", "fields") else path)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from without_bounds(part, path)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_list_and_mapping_of_a_message_has_a_bound(kind: Any) -> None:
    assert list(without_bounds(TypeAdapter(kind).core_schema)) == []


def test_a_list_without_bound_would_be_found() -> None:
    found = list(without_bounds(TypeAdapter(dict[str, tuple[int, ...]]).core_schema))
    assert len(found) == 2


def flood(before: str, one: str, after: str, count: int = 100_000) -> bytes:
    return (before + ",".join([one] * count) + after).encode()


@pytest.mark.parametrize(
    ("build", "longest", "body"),
    [
        (from_site.validate_python, LONGEST_FROM_SITE, flood('{"type":"datasets","datasets":[', "{}", "]}")),
        (from_site.validate_python, LONGEST_FROM_SITE, flood('{"type":"hello","datasets":[', '{"columns":[{}]}', "]}")),
        (from_server.validate_python, LONGEST_FROM_SERVER, flood('{"type":"job","job":{"roster":[', "{}", "]}}")),
        (from_server.validate_python, LONGEST_FROM_SERVER, flood('{"type":"task","task":{"passes":[', "{}", "]}}")),
        (UploadStart.model_validate, LONGEST_START, flood('{"update":{"metrics":{', '"a":{}', "}}}", 60_000)),
    ],
    ids=["datasets", "columns", "roster", "passes", "metrics"],
)
def test_a_flood_of_faults_is_refused_in_one_short_sentence(
    build: Callable[[Any], Any], longest: int, body: bytes
) -> None:
    assert len(body) <= longest
    with pytest.raises(BadInput, match="message: is not one of this protocol") as caught:
        read(build, body, longest)
    assert len(str(caught.value)) < 300
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("longest", [LONGEST_START, LONGEST_FROM_SITE, LONGEST_FROM_SERVER])
def test_a_message_that_is_too_long_is_not_looked_at(longest: int) -> None:
    with pytest.raises(BadInput, match=f"{longest + 1} bytes; at most {longest} are accepted"):
        read(lambda _: pytest.fail("was looked at"), b"x" * (longest + 1), longest)


def test_the_longest_job_fits_into_a_message() -> None:
    assert LONGEST_JOB < LONGEST_FROM_SERVER


def named(number: int, columns: int = 0) -> DatasetSummary:
    words = tuple({"name": f"column {one:05}", "unit": "mmol/l"} for one in range(columns))
    return DatasetSummary.model_validate({"name": f"d{number}", "kind": "table", "subjects": 9, "columns": words})


def test_a_site_tells_of_so_many_datasets_and_words_and_no_more() -> None:
    some = tuple(named(number, 20) for number in range(MOST_DATASETS))
    assert DatasetsMessage(datasets=some).datasets == some
    with pytest.raises(ValueError, match=f"at most {MOST_DATASETS} items"):
        DatasetsMessage(datasets=(*some, named(100)))
    wordy = tuple(named(number, 200) for number in range(MOST_DATASETS))
    assert sum(map(disclosed_bytes, wordy)) > MAX_DISCLOSED_BYTES
    with pytest.raises(ValueError, match=f"more than {MAX_DISCLOSED_BYTES} bytes are disclosed"):
        DatasetsMessage(datasets=wordy)
