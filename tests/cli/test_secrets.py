"""Secrets come from a file, the environment, a prompt or standard input, and no command takes one as an argument."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from test_help import every_command
from typer.main import get_command
from typer.testing import CliRunner, Result

from archipel.cli import secrets
from archipel.cli.connecting import Proxy, Token
from archipel.cli.main import SUB_COMMANDS
from archipel.cli.site import app as site_app
from archipel.site.membership import create_site, enrolment
from archipel.vocabulary import ArchipelError

app = typer.Typer()


@app.command()
def shown(token: Token = None, proxy: Proxy = None) -> None:
    print(token, proxy)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "JOIN_TOKEN", "PROXY", "PROXY_PASSWORD"):
        monkeypatch.delenv(f"ARCHIPEL_{name}", raising=False)
        monkeypatch.delenv(f"ARCHIPEL_{name}_FILE", raising=False)


def said(*words: str, **environment: str) -> str:
    done = CliRunner().invoke(app, list(words), env=environment)
    assert done.exit_code == 0, done.exception
    return done.stdout.strip()


def failed(done: Result) -> ArchipelError:
    assert isinstance(done.exception, ArchipelError), done.output
    return done.exception


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("kept\n")
    return str(tmp_path / "secret")


def test_an_access_token_comes_from_a_file_or_the_environment(secret_file: str) -> None:
    assert said("--token-file", secret_file, ARCHIPEL_TOKEN="other") == "kept None"
    assert said(ARCHIPEL_TOKEN_FILE=secret_file) == "kept None"
    assert said(ARCHIPEL_TOKEN="set") == "set None"
    assert said() == "None None"


def test_a_file_without_a_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, cause in (("missing", "cannot be read"), ("empty", "has no secret"), ("binary", "cannot be read")):
        error = failed(CliRunner().invoke(app, ["--token-file", str(tmp_path / name)]))
        assert cause in error.cause and str(tmp_path / name) in error.thing


@pytest.mark.parametrize("address", ["http://proxy:3128", "http://ada:word@proxy:3128"])
def test_a_proxy_comes_from_the_environment_as_it_is(address: str) -> None:
    assert said(ARCHIPEL_PROXY=address) == f"None {address}"


def test_a_password_on_the_command_line_is_refused_and_not_shown() -> None:
    done = CliRunner().invoke(app, ["--proxy", "http://ada:hunter2@proxy:3128"])
    error = failed(done)
    assert "http://ada@proxy:3128" in error.remedy
    assert "hunter2" not in f"{error}{error.values}"


def test_the_password_of_a_proxy_is_added_from_file_or_environment(secret_file: str) -> None:
    words = ("--proxy", "http://ada@proxy:3128")
    assert said(*words, ARCHIPEL_PROXY_PASSWORD="a/b@c:d") == "None http://ada:a%2Fb%40c%3Ad@proxy:3128"
    assert said(*words, ARCHIPEL_PROXY_PASSWORD_FILE=secret_file) == "None http://ada:kept@proxy:3128"
    assert said(*words) == "None http://ada@proxy:3128"


def test_a_person_is_asked_without_an_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[str] = []

    def prompt(question: str, *, hide_input: bool, err: bool) -> str:
        assert hide_input and err
        questions.append(question)
        return "typed "

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(secrets.typer, "prompt", prompt)
    monkeypatch.setattr(secrets.sys, "stdin", Terminal())
    assert secrets.asked("ARCHIPEL_TOKEN", "Access token") == "typed"
    assert secrets.join_token(None, []) == "typed"
    assert questions == ["Access token", "Join token"]


@pytest.fixture
def joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``archipel site join`` of a new site, with what it is given; the tokens with which it would join."""
    create_site(tmp_path / "site", "charite").close()
    used: list[str] = []

    def join(site: Any, token: str, proxy: str | None) -> Any:
        used.append(token)
        raise ArchipelError("server", "is not there", "none needed")

    monkeypatch.setattr(enrolment, "join", join)

    def run(*words: str, given: str | None = None, **environment: str) -> tuple[list[str], Result]:
        state = ["--state", str(tmp_path / "site")]
        return used, CliRunner().invoke(site_app, ["join", *words, *state], input=given, env=environment)

    return run


def test_a_join_token_comes_from_a_file_the_environment_or_standard_input(joins: Any, secret_file: str) -> None:
    joins("--token-file", secret_file)
    joins(ARCHIPEL_JOIN_TOKEN="set")
    joins(ARCHIPEL_JOIN_TOKEN_FILE=secret_file)
    joins("--token-file", "-", given="first\nsecond\n")
    used, _ = joins(given="piped\n")
    assert used == ["kept", "set", "kept", "first", "piped"]


def test_a_join_token_as_an_argument_is_refused_and_not_repeated(joins: Any) -> None:
    used, done = joins("archipel1.secret")
    error = failed(done)
    assert "as an argument" in error.cause and "archipel site join" in error.remedy
    assert "archipel1" not in f"{error}{error.values}{done.output}" and used == []


def test_no_token_at_all_is_said(joins: Any) -> None:
    used, done = joins(given="")
    assert "has no secret in it" in failed(done).cause and used == []


@pytest.mark.parametrize("name", SUB_COMMANDS)
def test_no_command_takes_a_secret_as_an_argument(name: str) -> None:
    takes_ids = {("server", "join-token", "revoke"), ("server", "token", "revoke")}
    for words, command in every_command(get_command(importlib.import_module(f"archipel.cli.{name}").app), (name,)):
        for parameter in getattr(command, "params", []):
            texts = f"{parameter.name} {' '.join(parameter.opts)}"
            if re.search(r"token|password|secret", texts, re.IGNORECASE) and words not in takes_ids:
                assert "--token-file" in parameter.opts, (words, texts)
