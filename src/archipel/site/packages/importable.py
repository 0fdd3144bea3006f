"""A program that the interpreter of workers runs: where it would import packages from, and their versions.

It reads ``{name that is imported: name that pip knows}`` from standard input and writes ``{name: [version, places]}``,
None for a package that it cannot find. It imports none of them. Only Python's own library is used.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import lru_cache
from importlib import metadata


def main() -> None:
    """Answer for the names on standard input."""
    asked: dict[str, str] = json.load(sys.stdin)
    json.dump({name: _found(name, installed_as) for name, installed_as in asked.items()}, sys.stdout)


def _found(name: str, installed_as: str) -> tuple[str, list[str]] | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = list(spec.submodule_search_locations or ())
    if spec.has_location and spec.origin:
        places.append(spec.origin)
    return _version(name, installed_as), places


def _version(name: str, installed_as: str) -> str:
    try:
        return metadata.version(installed_as)
    except metadata.PackageNotFoundError:
        distributions = sorted(set(_distributions().get(name, ())))
        return metadata.version(distributions[0]) if distributions else ""


@lru_cache(maxsize=1)
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


if __name__ == "__main__":
    main()
