"""The command line parses and renders: what it shows of a site it has from the site's services."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import archipel.cli
from worlds.source_trees import tree_of

FREE = ("archipel.site.services", "archipel.site.state")
"""Whatever these offer: what a person can do at a site, and the opened folder and the person that it takes."""

ALLOWED = {
    ("archipel.site.agent", "run"): "the agent is this process from here on, and renders nothing",
    ("archipel.site.checks", "CheckResult"): "a record that a service tells of while it checks",
    ("archipel.site.checks", "CheckStep"): "the steps that an option may name",
    ("archipel.site.datasets", "DatasetProblems"): "an error whose list of problems is printed",
    ("archipel.site.datasets", "DetectedFormat"): "a record inside a service's answer",
    ("archipel.site.datasets", "HTML"): "the name of a report's file",
    ("archipel.site.datasets", "UnclearPatients"): "an error that holds the two answers to a question",
    ("archipel.site.gpus", "GpuRow"): "a record inside a service's answer",
    ("archipel.site.membership", "certificates"): "renew says until when the old certificate lasts",
    ("archipel.site.membership", "create_site"): "one call, before there is a folder that a service could be given",
    ("archipel.site.membership", "enrolment"): "one call, to which a service would add nothing",
    ("archipel.site.membership", "renewal"): "one call, to which a service would add nothing",
    ("archipel.site.withdrawn", "OPT_OUT"): "the name of a file",
    ("archipel.site.withdrawn", "line_ranges"): "numbers of lines as a person reads them",
}
"""A name from elsewhere in a site, and why the command line may have it."""


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The modules of a site that are imported, and which name of each; "" for a module that is imported whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            pairs = [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            pairs = [(alias.name, "") for alias in node.names]
        else:
            continue
        for module, name in pairs:
            if f"{module}.{name}.".startswith("archipel.site."):
                yield module, name


def is_free(module: str, name: str) -> bool:
    return any(f"{module}.{name}.".startswith(f"{one}.") for one in FREE)


def test_the_command_line_has_of_a_site_only_its_services_its_folder_and_what_is_listed() -> None:
    files = sorted(Path(archipel.cli.__file__).parent.rglob("*.py"))
    found = {pair for path in files for pair in imported(tree_of(path))}
    assert any(is_free(*pair) for pair in found)
    others = {pair for pair in found if not is_free(*pair)}
    assert others - ALLOWED.keys() == set(), "ask a service of the site instead"
    assert ALLOWED.keys() - others == set(), "nothing imports it any more: take it off the list"


def test_every_way_to_import_is_seen() -> None:
    ways = """
import archipel.site.cohorts
from archipel import site
from archipel.site import cohorts, services
from archipel.site.services import datasets
def later():
    from archipel.site.datasets.catalog import add
"""
    found = list(imported(ast.parse(ways)))
    assert [pair for pair in found if not is_free(*pair)] == [
        ("archipel.site.cohorts", ""),
        ("archipel", "site"),
        ("archipel.site", "cohorts"),
        ("archipel.site.datasets.catalog", "add"),
    ]
