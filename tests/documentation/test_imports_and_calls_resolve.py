"""What tests, benchmarks and examples import from the package is there, and takes what they call it with.

mypy reads only the benchmarks.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from statements import statements

from worlds.source_trees import tree_of

ROOT = Path(__file__).parents[2]
FOLDERS = ("tests", "benchmarks", "examples", "scripts")
PACKAGES = ("archipel", "worlds")


def imported(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """The line, module and name of each import from our packages, those within functions too; "" for a whole module."""
    for node in statements(tree):
        match node:
            case ast.Import():
                found = [(one.name, "") for one in node.names]
            case ast.ImportFrom(module=str() as module, level=0):
                found = [(module, one.name) for one in node.names]
            case _:
                continue
        yield from ((node.lineno, module, name) for module, name in found if module.partition(".")[0] in PACKAGES)


@cache
def resolves(module: str, name: str) -> bool:
    try:
        found = importlib.import_module(module)
        if name and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in PACKAGES:
            return False
        raise
    return True


def broken(tree: ast.AST) -> list[str]:
    return [
        f"line {line}: {module} {name}".rstrip() for line, module, name in imported(tree) if not resolves(module, name)
    ]


def bound(nodes: Sequence[ast.AST]) -> dict[str, Any]:
    """What names that are imported from our packages stand for, except names that something else has in the file."""
    found: dict[str, Any] = {}
    others: set[str] = set()
    for node in nodes:
        match node:
            case ast.ImportFrom(module=str() as module, level=0) if module.partition(".")[0] in PACKAGES:
                for one in node.names:
                    if resolves(module, one.name):
                        home = importlib.import_module(module)
                        found[one.asname or one.name] = getattr(home, one.name)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                others.add(node.name)
            case ast.arg():
                others.add(node.arg)
            case ast.Name(ctx=ast.Store()):
                others.add(node.id)
    return {name: value for name, value in found.items() if name not in others}


def misfits(tree: ast.AST) -> list[str]:
    """Calls of ``name(...)`` or ``name.name(...)`` whose arguments do not fit; with ``*`` or ``**`` nobody can say."""
    nodes = list(ast.walk(tree))
    names, found = bound(nodes), []
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in names:
                called = names[name]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if name in names:
                home = names[name]
                if not (inspect.ismodule(home) or inspect.isclass(home)):
                    continue
                if not hasattr(home, attribute):
                    found.append(f"line {node.lineno}: {name} has no {attribute}")
                    continue
                called = getattr(home, attribute)
            case _:
                continue
        starred = any(isinstance(one, ast.Starred) for one in node.args) or any(
            one.arg is None for one in node.keywords
        )
        try:
            signature = None if starred or not callable(called) else inspect.signature(called)
        except ValueError:
            continue  # a class of a compiled library that does not say what it takes
        try:
            if signature is not None:
                signature.bind(*node.args, **{str(one.arg): one.value for one in node.keywords})
        except TypeError as error:
            found.append(f"line {node.lineno}: {ast.unparse(node.func)}: {error}")
    return found


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.AST]:
    """Every file, read."""
    files = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    assert {path.relative_to(ROOT).parts[0] for path in files} >= {"tests", "benchmarks", "examples"}
    return {str(path.relative_to(ROOT)): tree_of(path) for path in files}


def test_every_import_from_the_package_resolves(trees: dict[str, ast.AST]) -> None:
    assert {path: lines for path, tree in trees.items() if (lines := broken(tree))} == {}


def test_every_call_into_the_package_fits_what_is_called(trees: dict[str, ast.AST]) -> None:
    assert {path: lines for path, tree in trees.items() if (lines := misfits(tree))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from archipel.plans import Plan, draft", []),
        ("from archipel import plans, connect", []),
        ("import archipel.tensors.sums as sums", []),
        ("from numpy import array", []),
        ("from archipel.plans import Plan, Gone", ["line 1: archipel.plans Gone"]),
        ("def late():\n    from archipel.gone import Plan", ["line 2: archipel.gone Plan"]),
        ("import archipel.plans.gone", ["line 1: archipel.plans.gone"]),
    ],
)
def test_a_name_that_is_gone_is_found(source: str, found: list[str]) -> None:
    assert broken(ast.parse(source)) == found


IMPORT = "from archipel.tensors import blob_hash, sums\nfrom archipel.plans import draft as draw, Plan\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("blob_hash(b'')", []),
        ("blob_hash(*both)", []),
        ("blob_hash()", ["line 3: blob_hash: missing a required argument: 'data'"]),
        ("blob_hash(b'', b'')", ["line 3: blob_hash: too many positional arguments"]),
        ("draw(plan)", ["line 3: draw: missing a required argument: 'experiment'"]),
        ("blob_hash(b'', gone=2)", ["line 3: blob_hash: got an unexpected keyword argument 'gone'"]),
        ("sums.gone(1)", ["line 3: sums has no gone"]),
        ("Plan.gone(1)", ["line 3: Plan has no gone"]),
        ("def f(blob_hash):\n    blob_hash()", []),
    ],
)
def test_a_call_that_does_not_fit_is_found(source: str, found: list[str]) -> None:
    assert misfits(ast.parse(IMPORT + source)) == found
