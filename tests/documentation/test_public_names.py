"""What a package of ``data/``, ``server/`` or ``site/`` offers is in its ``__all__``; others import only that."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from statements import statements

from archipel.lazy import lazy_names
from worlds.source_trees import tree_of

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE if path.is_relative_to(SOURCE) else ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


INNER = [path for part in ("data", "server", "site") for path in SOURCE.glob(f"archipel/{part}/*/__init__.py")]
PACKAGES = sorted(["archipel.data", "archipel.server", *map(module_of, INNER)])
USERS = [path for part in ("src", "benchmarks", "scripts", "examples") for path in sorted((ROOT / part).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


@cache
def package_of(module: str) -> str | None:
    """The innermost of the packages that a module is in."""
    around = [package for package in PACKAGES if f"{module}.".startswith(f"{package}.")]
    return max(around, key=len, default=None)


def names_of(package: str) -> list[str]:
    return list(importlib.import_module(package).__all__)


def imports_from_outside(module: str, tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """``(package, module, name)`` of each name that a module imports of a package that it is not in.

    The name is empty where a whole module is imported by its path.
    """
    for node in statements(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            # A package may be imported from the package around it.
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            pairs = [(node.module, a.name) for a, path in zip(node.names, whole, strict=True) if path not in PACKAGES]
        elif isinstance(node, ast.Import):
            pairs = [(alias.name, "") for alias in node.names if alias.name not in PACKAGES]
        else:
            continue
        for source, name in pairs:
            package = package_of(source)
            if package and not f"{module}.".startswith(f"{package}."):
                yield package, source, name


@cache
def imports_of(path: Path) -> tuple[tuple[str, str, str], ...]:
    """``imports_from_outside`` of the module in this file."""
    return tuple(imports_from_outside(module_of(path), tree_of(path)))


def inner_imports(module: str, imports: Iterable[tuple[str, str, str]]) -> list[str]:
    return [
        f"{module}: {source} {name}".rstrip()
        for package, source, name in imports
        if source != package or name not in names_of(package)
    ]


def test_the_packages_are_found() -> None:
    assert {"archipel.data.cohorts", "archipel.server.membership", "archipel.site.services"} <= set(PACKAGES)
    assert len(PACKAGES) > 20


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is_and_what_it_offers(package: str) -> None:
    page = importlib.import_module(package)
    assert page.__doc__
    assert len(page.__all__) == len(set(page.__all__)) > 0
    for name in page.__all__:
        assert getattr(page, name) is not None
        assert not name.startswith("_")


@pytest.mark.parametrize("package", ["archipel", *PACKAGES])
def test_type_checkers_read_what_is_loaded(package: str) -> None:
    page = importlib.import_module(package)
    tree = tree_of(Path(str(page.__file__)))
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    read: set[str] = set()
    for node in (inner for block in blocks for inner in block.body):
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            if node.module == package:
                expected = importlib.import_module(f"{package}.{alias.name}")
            else:
                expected = getattr(importlib.import_module(str(node.module)), alias.name)
            assert getattr(page, alias.name) is expected
            read.add(alias.name)
    assert read <= set(page.__all__)
    assert read == (set(page.__dir__()) if blocks else set())


def test_every_public_name_is_used_outside_of_its_package_or_documented() -> None:
    used = {
        (package, name) for path in [*USERS, *TESTS] for package, source, name in imports_of(path) if source == package
    }
    pages = " ".join(path.read_text("utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
    documented = {words.rpartition(".")[2] for words in re.findall(r"`([\w.]+)`", pages)}
    unused = [
        f"{package}.{name}"
        for package in PACKAGES
        for name in names_of(package)
        if (package, name) not in used and name not in documented
    ]
    assert not unused, ", ".join(unused)


def test_no_module_imports_from_an_inner_module_of_another_package() -> None:
    assert [found for path in USERS for found in inner_imports(module_of(path), imports_of(path))] == []


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("archipel.cli.x", "from archipel.site.datasets.catalog import Dataset", 1),
        ("archipel.cli.x", "import archipel.site.datasets.catalog", 1),
        ("archipel.cli.x", "from archipel.site.datasets import file_index", 1),
        ("archipel.cli.x", "from archipel.site.datasets import Dataset, catalog", 0),
        ("archipel.cli.x", "from archipel.site import datasets", 0),
        ("archipel.site.approval.x", "from archipel.site.datasets.catalog import Dataset", 1),
        ("archipel.site.datasets.x", "from archipel.site.datasets.catalog import Dataset", 0),
        ("archipel.site.datasets.x", "from archipel.data.cohorts.cohort import Cohort", 1),
        ("archipel.data.quality.x", "from archipel.data.files import Folder", 0),
        ("archipel.cli.x", "from archipel.data.files import Folder", 1),
    ],
)
def test_the_check_sees_an_inner_import(module: str, line: str, found: int) -> None:
    assert len(inner_imports(module, imports_from_outside(module, ast.parse(line)))) == found


@pytest.mark.processes
def test_a_lazy_name_loads_its_own_module_only() -> None:
    code = (
        "import sys, archipel.site.agent, archipel.site.approval, archipel.site.datasets, archipel.server.membership\n"
        "from archipel.site.datasets import HTML\n"
        "print(sorted(m for m in sys.modules if m.startswith(('archipel.site.agent.', 'archipel.server.membership.'))))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("start", "unwanted"),
    [
        ("archipel.site.worker.__main__", ["sqlalchemy", "alembic", "torch", "typer", "grpc", "nibabel", "pandas"]),
        ("archipel.cli.site", ["sqlalchemy", "alembic", "torch", "grpc", "numpy", "nibabel", "fastapi"]),
    ],
)
def test_what_starts_often_loads_little(start: str, unwanted: list[str]) -> None:
    code = f"import sys, {start}; print([name for name in {unwanted!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_a_lazy_name_that_a_module_has_too_is_refused() -> None:
    with pytest.raises(ValueError, match="catalog names a module and something in it; rename one of the two"):
        lazy_names("archipel.site.datasets", {"catalog": ["catalog"]})
    with pytest.raises(ValueError, match="members names a module"):
        lazy_names("archipel.site.datasets", {"catalog": ["members"]}, modules=["members"])


def test_an_unknown_lazy_name_is_an_attribute_error() -> None:
    load, public = lazy_names("archipel.site.datasets", {"catalog": ["Dataset"]}, modules=["members"])
    assert public() == ["Dataset", "members"]
    with pytest.raises(AttributeError, match=r"module 'archipel\.site\.datasets' has no attribute 'Nobody'"):
        load("Nobody")
