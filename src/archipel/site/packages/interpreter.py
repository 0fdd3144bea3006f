"""What a worker of this site could import: asked of its interpreter, and of what its sandbox shows."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from archipel.plans.imports import PlanImports, imports_of
from archipel.site.approval import Offer, offers
from archipel.site.sandbox import is_visible
from archipel.site.state import StateFolder
from archipel.vocabulary import ArchipelError, ErrorCode
from archipel.vocabulary.bounds import LONGEST_PACKAGE, MOST_PACKAGES
from archipel.vocabulary.packages import installed_as

_PROGRAM = Path(__file__).with_name("importable.py")
_LONGEST_S = 60.0
_VERSION = re.compile(rf"[A-Za-z0-9._+!-]{{0,{LONGEST_PACKAGE}}}")


@dataclass(frozen=True)
class PlanPackages:
    """A plan's imports, and what a worker has of them: versions, None for what is not there.

    Of a plan that imports more than a job may name, only the first are looked for.
    """

    imports: PlanImports
    here: Mapping[str, str | None]

    @property
    def missing(self) -> list[str]:
        """Those that are not here and that the plan needs, in order."""
        return [name for name in self.imports.needed if name in self.here and self.here[name] is None]

    @property
    def missing_optional(self) -> list[str]:
        """Those that are not here and that the plan handles, in order."""
        return [name for name in self.imports.optional if name in self.here and self.here[name] is None]


def packages_of(site: StateFolder, offer: Offer) -> PlanPackages | None:
    """The packages of an offer's plan; None while its files are not fetched.

    Raises ArchipelError when the interpreter does not answer, and as ``offers.plan_files`` does.
    """
    files = offers.plan_files(site.blobs, offer.job)
    if files is None:
        return None
    imports = imports_of(files.texts)
    looked_for = (name for name in imports.packages if len(name) <= LONGEST_PACKAGE)
    return PlanPackages(imports, installed([name for name, _ in zip(looked_for, range(MOST_PACKAGES), strict=False)]))


def installed(packages: Iterable[str]) -> dict[str, str | None]:
    """The version of each package that a worker could import, empty for one without a version; None for the others.

    A package counts when the interpreter of workers finds it in a place that the sandbox shows. Raises ArchipelError
    when that interpreter does not answer.
    """
    names = tuple(sorted(set(packages)))
    if not names:
        return {}
    return dict(_asked(names, _when_changed()))


def install_command(packages: Iterable[str]) -> str:
    """The command that installs packages for the workers of this site, by the names under which they are imported."""
    names = " ".join(sorted(map(installed_as, packages)))
    if importlib.util.find_spec("pip") is not None:
        return f"{sys.executable} -m pip install {names}"
    return f"uv pip install --python {sys.executable} {names}"


@lru_cache(maxsize=64)
def _asked(names: tuple[str, ...], changed: tuple[int, ...]) -> tuple[tuple[str, str | None], ...]:
    asked = json.dumps({name: installed_as(name) for name in names})
    # Isolated, as workers are: neither the working folder nor the environment nor a user's own folder adds packages.
    program = [sys.executable, "-I", "-B", str(_PROGRAM)]
    try:
        run = subprocess.run(program, input=asked, capture_output=True, timeout=_LONGEST_S, text=True, check=True)
        found: dict[str, tuple[str, list[str]]] = json.loads(run.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ArchipelError(
            sys.executable, f"did not say which packages it has ({type(error).__name__})",
            "run it by hand, and install archipel again if it does not start", code=ErrorCode.SANDBOX,
        ) from error  # fmt: skip
    return tuple((name, _version(found.get(name))) for name in names)


def _version(found: tuple[str, list[str]] | None) -> str | None:
    if found is None:
        return None
    version, places = found
    if places and not any(is_visible(Path(place)) for place in places):
        return None
    return version if _VERSION.fullmatch(version) else ""


def _when_changed() -> tuple[int, ...]:
    """When packages were last added or removed, by the folders that hold them."""
    folders = (Path(folder) for folder in sys.path)
    return tuple(folder.stat().st_mtime_ns for folder in folders if folder.is_dir())
