"""Each remedy that names a command is a command that exists, and takes the remedy's arguments as they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from typer import Context
from typer.core import TyperGroup

import archipel
from archipel import vocabulary
from archipel.cli.main import app
from archipel.vocabulary import ArchipelError
from archipel.vocabulary.remedies import (
    AddDataset,
    AllowSandbox,
    Approve,
    CheckDataset,
    CheckJournal,
    CreateJoinToken,
    CreateSite,
    ExcludeSubjects,
    ExportJournal,
    FreeDiskSpace,
    FreezeAgain,
    GrantAccess,
    JoinFederation,
    ListAccessTokens,
    ListCertificates,
    ListCohorts,
    ListDatasets,
    ListErrors,
    ListExperiments,
    ListFormats,
    ListGpus,
    ListJoinTokens,
    ListOffers,
    ListSites,
    MountFolder,
    Nothing,
    Remedy,
    RemedyName,
    RemoveSite,
    RenewCertificate,
    ShowFailures,
    ShowOffer,
    StartAgent,
    WithdrawPatients,
)
from worlds.source_trees import tree_of

COMMANDS: list[tuple[Remedy, str, dict[str, object]]] = [
    (Approve(experiment="brains"), "approve", {"experiment": "brains"}),
    (CheckJournal(), "verify", {}),
    (
        WithdrawPatients(dataset="heads", subjects=("p-7", "--state", "-x y")),
        "withdraw",
        {"dataset": "heads", "subjects": ["p-7", "--state", "-x y"]},
    ),
    (
        ExcludeSubjects(dataset="heads", subjects=("sub-1", "--state", "-x y")),
        "exclude",
        {"name": "heads", "subjects": ["sub-1", "--state", "-x y"]},
    ),
    (FreezeAgain(dataset="--pseudonymise"), "freeze", {"dataset": "--pseudonymise"}),
    (RenewCertificate(), "renew", {}),
    (ShowOffer(experiment="--help"), "plans", {"experiment": "--help"}),
    (StartAgent(), "start", {}),
    (ListOffers(), "plans", {"experiment": None}),
    (ListDatasets(), "list", {}),
    (ListFormats(), "formats", {}),
    (ListGpus(), "list", {}),
    (CheckDataset(dataset="--help"), "check", {"name": "--help"}),
    (ListCohorts(), "list", {"dataset": None}),
    (ListErrors(), "list", {}),
    (ExportJournal(), "export", {"to": None}),
    (ListExperiments(), "list", {}),
    (ShowFailures(experiment="--url"), "failures", {"name": "--url"}),
    (ListSites(), "list", {"removed": False}),
    (RemoveSite(site="--yes"), "remove", {"site_name": "--yes", "yes": False}),
    (CreateJoinToken(site="-h"), "create", {"site_name": "-h"}),
    (ListJoinTokens(), "list", {}),
    (ListAccessTokens(), "list", {}),
    (ListCertificates(), "list", {}),
]
OUTSIDE: list[Remedy] = [
    AllowSandbox(),
    FreeDiskSpace(path="/data"),
    GrantAccess(path="/data"),
    MountFolder(dataset="heads", folder="/data"),
    Nothing(),
    AddDataset(dataset="heads"),
    CreateSite(),
    JoinFederation(),
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
    monkeypatch.setenv("ARCHIPEL_SERVER_STATE", "/server")
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


ELSEWHERE = {
    ("cli/site_records.py", "archipel server site head"),
}
"""Commands that a sentence names and the person who reads it cannot give: another machine's operator does."""


def commands_named(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Of each error raised here with a command of ours in its remedy: the line, the command, and whether it has one.

    A remedy in a variable is looked for among the texts that the module gives to that name.
    """
    texts: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            texts.setdefault(node.targets[0].id, []).append(words_of(node.value))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and is_error(node.func.id)
            and len(node.args) > 2
        ):
            remedy = node.args[2]
            said = texts.get(remedy.id, []) if isinstance(remedy, ast.Name) else [words_of(remedy)]
            named = [found.group() for text in said if (found := COMMAND.search(text))]
            if named:
                yield node.lineno, named[0], any(keyword.arg == "command" for keyword in node.keywords)


COMMAND = re.compile(r"archipel (?:site|server|experiment|run|simulate|predict|evaluate)(?: [a-z-]+)*")


def is_error(name: str) -> bool:
    kind = getattr(vocabulary, name, None) or {"TooLarge": ArchipelError, "Unreachable": ArchipelError}.get(name)
    return isinstance(kind, type) and issubclass(kind, ArchipelError)


def words_of(text: ast.expr) -> str:
    """The fixed words of a text, with a gap for what is filled in."""
    if isinstance(text, ast.Constant):
        return str(text.value)
    return " ".join(words_of(part) for part in ast.iter_child_nodes(text) if isinstance(part, ast.expr))


SOURCE = Path(str(archipel.__file__)).parent


def test_a_remedy_that_names_a_command_gives_it_to_programs_too() -> None:
    without, elsewhere, named = [], set(), 0
    for path in sorted(SOURCE.rglob("*.py")):
        place = str(path.relative_to(SOURCE))
        for line, command, has_one in commands_named(tree_of(path)):
            named += 1
            if (place, command) in ELSEWHERE:
                elsewhere.add((place, command))
            elif not has_one:
                without.append(f"{place}:{line}: {command}")
    assert not without
    assert elsewhere == ELSEWHERE and named > 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('raise BadInput("a", "b", "see archipel site plans")', [(1, "archipel site plans", False)]),
        ('raise BadInput("a", "b", f"see `archipel site plans {x}`", command=c)', [(1, "archipel site plans", True)]),
        ('r = "run archipel server site list"\nraise NotFound(t, c, r)', [(2, "archipel server site list", False)]),
        ('raise BadInput("a", "b", "fix it")', []),
        ('print("a", "b", "see archipel site plans")', []),
    ],
)
def test_such_a_sentence_is_found_where_it_stands(text: str, expected: list[tuple[int, str, bool]]) -> None:
    assert list(commands_named(ast.parse(text))) == expected
