"""Errors cross the network as themselves; messages are those of the protocol or nothing."""

from __future__ import annotations

import json

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from archipel.transport import Heartbeat, TaskFailedMessage
from archipel.transport.messages import from_server, from_site
from archipel.transport.status import from_status, to_status
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Conflict,
    ErrorCode,
    Failure,
    NotFound,
    NotPermitted,
    Refused,
    StorageFull,
    TaskKey,
)


def raised(status: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@given(st.sampled_from(sorted(ErrorCode)), st.text(), st.text(), st.text())
def test_every_error_arrives_as_it_left(code: ErrorCode, thing: str, cause: str, remedy: str) -> None:
    sent = ArchipelError(thing, cause, remedy, code=code)
    status, details = to_status(sent)
    assert status is not grpc.StatusCode.OK and details.isascii()
    found = from_status(raised(status, details))
    assert (found.code, found.thing, found.cause, found.remedy) == (code, thing, cause, remedy)


@pytest.mark.parametrize("kind", [BadInput, Conflict, NotFound, NotPermitted, Refused, StorageFull])
def test_an_error_keeps_its_class(kind: type[ArchipelError]) -> None:
    assert type(from_status(raised(*to_status(kind("a", "b", "c"))))) is kind


@pytest.mark.parametrize(
    "details",
    [
        None,
        "",
        "Socket closed",
        "[]",
        "{}",
        "3",
        '{"code": "no-such-code", "thing": "", "cause": "", "remedy": ""}',
        '{"code": "lost", "thing": "", "cause": [1], "remedy": ""}',
        "[" * 100_000,
    ],
)
def test_what_is_no_error_of_ours_is_a_lost_connection_that_names_it(details: str | None) -> None:
    found = from_status(raised(grpc.StatusCode.UNAVAILABLE, details))
    assert found.code is ErrorCode.LOST and f"unavailable: {details}" in str(found)


@pytest.mark.parametrize(
    "reason", ["CERTIFICATE_VERIFY_FAILED: self signed certificate", "CERTIFICATE_VERIFY_FAILED: unable to get issuer"]
)
def test_a_server_that_the_ca_does_not_vouch_for_is_said_in_words(reason: str) -> None:
    details = f"failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:8444: Ssl failed: {reason}"
    found = from_status(raised(grpc.StatusCode.UNAVAILABLE, details))
    assert found.code is ErrorCode.LOST
    assert "certificate" in found.thing and "ca.pem" in found.cause and "join again" in found.remedy


KEY = TaskKey(experiment="heart", round=1)


def test_messages_are_told_apart_by_their_type() -> None:
    message = TaskFailedMessage(key=KEY, failure=Failure(code=ErrorCode.PLAN_ERROR, sentence="the plan raised"))
    assert from_site.validate_json(message.model_dump_json()) == message
    for protocol in (from_site, from_server):
        assert protocol.validate_json(Heartbeat().model_dump_json()) == Heartbeat()


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "no-such-type"},
        {"type": "heartbeat", "extra": 1},
        {"type": "task-accepted"},
        {"type": "task-accepted", "key": {**KEY.model_dump(mode="json"), "extra": 1}},
        {"type": "task-accepted", "key": {**KEY.model_dump(mode="json"), "round": -1}},
        {"type": "hello", "site": "../b", "version": "0", "time": "", "head": {}},
        [],
        None,
    ],
)
def test_unknown_types_and_fields_are_refused_in_both_directions(message: object) -> None:
    for protocol in (from_site, from_server):
        with pytest.raises(ValidationError):
            protocol.validate_json(json.dumps(message))


def test_a_side_does_not_say_what_is_the_others_to_say() -> None:
    welcome = {"type": "welcome", "federation": "north", "time": "", "heartbeat_s": 1.0}
    assert from_server.validate_python(welcome)
    with pytest.raises(ValidationError):
        from_site.validate_python(welcome)
    accepted = {"type": "task-accepted", "key": KEY.model_dump(mode="json")}
    assert from_site.validate_python(accepted)
    with pytest.raises(ValidationError):
        from_server.validate_python(accepted)
