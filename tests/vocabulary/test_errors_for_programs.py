"""What programs read of an error: its code, values by name, and a command of a fixed list; none of it leaves here."""

from __future__ import annotations

import ast
import copy
import importlib
import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import archipel
from archipel.cli.json_option import AsJson
from archipel.data import DataIssue
from archipel.server.rest.problems import error_response
from archipel.site.datasets.catalog import DatasetProblems
from archipel.tasks.failing import failure_of
from archipel.transport.messages import RefusedMessage
from archipel.transport.status import to_status
from archipel.vocabulary import ArchipelError, BadInput, ErrorCode, NotFound, StorageFull, Thing
from archipel.vocabulary.remedies import ExcludeSubjects, FreeDiskSpace, ListExperiments, Nothing
from worlds.source_trees import tree_of

SOURCE = Path(str(archipel.__file__)).parent


def raised() -> list[ArchipelError]:
    issues = (DataIssue(thing="sub-1", cause="has no label", remedy="add it", subject="sub-1"),)
    leave_out = ExcludeSubjects(dataset="brain", subjects=("sub-1", "-x"))
    return [
        ArchipelError("a", "b", "c"),
        BadInput(
            "a", "b", "c", code=ErrorCode.DATA_CHANGED, values={"place": "x", "count": 3, "share": 0.5, "on": True}
        ),
        StorageFull("/data", "the disk is full", "free space", command=FreeDiskSpace(path="/data")),
        NotFound(Thing("experiment", "brains"), "is not here", "list them", command=ListExperiments()),
        DatasetProblems("brain", issues, command=leave_out),
    ]


@pytest.mark.parametrize("error", raised(), ids=lambda error: type(error).__name__)
def test_an_error_is_the_same_in_another_process(error: ArchipelError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert again.document() == error.document()
    assert vars(again) == vars(error)


def test_who_knows_more_adds_to_an_error() -> None:
    error = BadInput("a.nii", "changed", "freeze", values={"place": "a.nii"})
    assert error.offering(Nothing(), dataset="brain") is error
    assert error.document()["values"] == {"place": "a.nii", "dataset": "brain"}
    assert error.document()["command"] == {"name": "nothing", "arguments": {}, "command_line": None}


def test_a_thing_is_its_words_and_its_names_are_values() -> None:
    error = BadInput(
        Thing.worded("model 2 of brains", model=2, experiment=Path("brains")), "a", "b", values={"limit": 3}
    )
    assert str(error) == "model 2 of brains: a; b" and type(error.thing) is str
    assert error.values == {"model": 2, "experiment": "brains", "limit": 3}
    assert BadInput(Thing("site", "berlin"), "a", "b", values={"site": "rome"}).values == {"site": "rome"}
    assert Thing.file(Path("/a/b")).values == {"file": "/a/b"} and Thing.folder("/a") == "/a"


def test_a_thing_is_its_words_in_another_process() -> None:
    words = pickle.loads(pickle.dumps(Thing("site", "berlin")))
    assert words == copy.deepcopy(Thing("site", "berlin")) == "site berlin" and type(words) is str


HOSTILE: dict[str, Any] = {
    "patient": "Ada Lovelace, born 1815",
    "long": "x" * 100_000,
    "nested": {"path": ["/data/secret"]},
    "cause": "another cause",
    "code": "internal",
}


def sent(error: ArchipelError) -> list[str | bytes]:
    """Everything that is made of an error for another machine."""
    refused = RefusedMessage(code=error.code, thing=error.thing, cause=error.cause, remedy=error.remedy)
    return [
        to_status(error)[1],
        bytes(error_response(error).body),
        failure_of(error).model_dump_json(),
        refused.model_dump_json(),
    ]


def test_neither_values_nor_a_command_cross_the_wire() -> None:
    """Messages to other machines are byte for byte those of an error without them."""
    plain = BadInput("sub-1", "has no label", "add it")
    full = BadInput(
        "sub-1", "has no label", "add it", values=HOSTILE, command=ExcludeSubjects(dataset="d", subjects=())
    )
    assert sent(full) == sent(plain)
    assert sent(BadInput(Thing.worded("sub-1", **HOSTILE), "has no label", "add it")) == sent(plain)


def test_a_message_has_no_field_for_them() -> None:
    words = json.loads(to_status(BadInput("a", "b", "c", values=HOSTILE))[1])
    assert set(words) == {"code", "thing", "cause", "remedy"}
    assert not {"values", "command"} & set(RefusedMessage.model_fields)


def values_given() -> Iterator[tuple[str, ast.expr]]:
    """Every ``values=`` of a call in src that is written as a dictionary, and where."""
    for file in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.keyword) and node.arg == "values" and isinstance(node.value, ast.Dict):
                for key in node.value.keys:
                    if key is not None:
                        yield f"{file.name}:{node.value.lineno}", key


def test_values_have_names_that_programs_can_use() -> None:
    found = list(values_given())
    assert len(found) >= 8
    for place, key in found:
        if isinstance(key, ast.Constant):
            assert isinstance(key.value, str) and key.value.isidentifier() and key.value.islower(), place


def test_with_json_the_command_line_says_an_error_to_programs_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = raised()[-1]

    program = typer.Typer()

    @program.command()
    def fails(as_json: AsJson = False) -> None:
        raise error

    # The package has a function of this name too.
    command_line = importlib.import_module("archipel.cli.main")
    monkeypatch.setattr(command_line, "app", program)
    monkeypatch.setattr(sys, "argv", ["archipel", "--json"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    written = capsys.readouterr()
    assert ended.value.code == 1 and "has 1 problem" in written.err
    assert json.loads(written.out) == {
        "error": {
            "code": "bad-data",
            "thing": "dataset brain",
            "cause": error.cause,
            "remedy": error.remedy,
            "values": {"dataset": "brain", "problems": 1},
            "command": {
                "name": "exclude-subjects",
                "arguments": {"dataset": "brain", "subjects": ["sub-1", "-x"]},
                "command_line": ["site", "dataset", "exclude", "--", "brain", "sub-1", "-x"],
            },
        }
    }
    monkeypatch.setattr(sys, "argv", ["archipel"])
    with pytest.raises(SystemExit):
        command_line.main()
    assert capsys.readouterr().out == ""
