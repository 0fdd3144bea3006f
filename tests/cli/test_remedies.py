"""Each remedy that names a command is a command that exists, and takes the remedy's arguments as they are."""

from __future__ import annotations

import pytest
import typer.main
from typer import Context
from typer.core import TyperGroup

from archipel.cli.main import app
from archipel.vocabulary.remedies import (
    AllowSandbox,
    Approve,
    CheckJournal,
    ExcludeSubjects,
    FreeDiskSpace,
    FreezeAgain,
    GrantAccess,
    MountFolder,
    Nothing,
    Remedy,
    RemedyName,
    RenewCertificate,
    ShowOffer,
    StartAgent,
)

COMMANDS: list[tuple[Remedy, str, dict[str, object]]] = [
    (Approve(experiment="brains"), "approve", {"experiment": "brains"}),
    (CheckJournal(), "verify", {}),
    (
        ExcludeSubjects(dataset="heads", subjects=("sub-1", "--state", "-x y")),
        "exclude",
        {"name": "heads", "subjects": ["sub-1", "--state", "-x y"]},
    ),
    (FreezeAgain(dataset="--pseudonymise"), "freeze", {"dataset": "--pseudonymise"}),
    (RenewCertificate(), "renew", {}),
    (ShowOffer(experiment="--help"), "plans", {"experiment": "--help"}),
    (StartAgent(), "start", {}),
]
OUTSIDE: list[Remedy] = [
    AllowSandbox(),
    FreeDiskSpace(path="/data"),
    GrantAccess(path="/data"),
    MountFolder(dataset="heads", folder="/data"),
    Nothing(),
]


def parsed(words: tuple[str, ...]) -> Context:
    """The context of the command that these words call, with its arguments parsed and nothing run."""
    found: Context | None = None
    command, name, rest = typer.main.get_command(app), "archipel", list(words)
    while True:
        found = command.make_context(name, rest, parent=found)
        if not isinstance(command, TyperGroup):
            return found
        said, inner, rest = command.resolve_command(found, [*found._protected_args, *found.args])
        assert said is not None and inner is not None
        command, name = inner, said


def test_every_remedy_is_tried_here() -> None:
    tried = [type(remedy) for remedy, _, _ in COMMANDS] + [type(remedy) for remedy in OUTSIDE]
    assert set(tried) == set(Remedy.__subclasses__()) and len(tried) == len(RemedyName)
    assert {kind.name for kind in tried} == set(RemedyName)


@pytest.mark.parametrize(("remedy", "command", "arguments"), COMMANDS, ids=lambda one: getattr(one, "name", ""))
def test_a_remedy_is_a_command_with_these_arguments(
    remedy: Remedy, command: str, arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIPEL_SITE_STATE", "/state")
    words = remedy.command_line()
    assert words is not None
    found = parsed(words)
    assert found.command.name == command
    given = {name: found.params[name] for name in arguments}
    assert given == arguments
    assert not found.args


@pytest.mark.parametrize("remedy", OUTSIDE, ids=lambda one: one.name)
def test_what_a_person_does_outside_archipel_names_no_command(remedy: Remedy) -> None:
    assert remedy.command_line() is None
    assert remedy.document() == {
        "name": remedy.name,
        "arguments": remedy.model_dump(mode="json"),
        "command_line": None,
    }
