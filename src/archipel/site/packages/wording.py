"""A plan's packages in words, for the people who decide about it."""

from __future__ import annotations

from archipel.site.packages.interpreter import PlanPackages, install_command
from archipel.vocabulary import Job
from archipel.vocabulary.packages import installed_as, named

QUESTION = "Which packages does it import?"


def answer(job: Job, packages: PlanPackages | None, discloses: bool) -> str:
    """What the plan imports, what of it is missing here, and what the server learns of it.

    ``packages`` is None while the plan is not fetched; ``discloses`` is whether the site's policy allows that.
    """
    if packages is None:
        return "Its files have not been fetched yet; the running agent fetches them."
    here = [_with_version(name, version) for name, version in packages.here.items() if version is not None]
    words = [f"This site has: {', '.join(sorted(here))}." if here else ""]
    words += [f"WARNING: {warning}." for warning in warnings(packages)]
    if packages.missing_optional:
        words.append(f"Missing here, but the plan also runs without: {named(packages.missing_optional)}.")
    if others := len(packages.imports.packages) - len(packages.here):
        words.append(f"WARNING: it imports {others} more; whether they are here was not checked.")
    if not packages.imports.packages:
        words.append("None except Python's standard library and archipel.")
    if packages.imports.dynamic:
        places = ", ".join(packages.imports.dynamic)
        words.append(f"It may import others, under names that its text does not show ({places}).")
    if job.plan.packages:
        leaves = "discloses to the server which of the packages that the job names are here, and their versions"
        stays = "does not disclose to the server which of them are here (disclose_packages = false)"
        words.append(f"This site {leaves if discloses else stays}.")
    return " ".join(filter(None, words))


def warnings(packages: PlanPackages | None) -> list[str]:
    """One sentence about the packages that the plan needs and a worker here does not have, if there are any."""
    if packages is None or not packages.missing:
        return []
    them, where = ("it", "that") if len(packages.missing) == 1 else ("them", "these")
    return [
        f"this site lacks {named(packages.missing)}, so the plan fails where it imports {them}; if you trust {where}, "
        f"install {them} first: {install_command(packages.missing)}"
    ]


def _with_version(name: str, version: str) -> str:
    return f"{installed_as(name)} {version}".strip()
