"""Which site lacks a package that a plan imports: what sites said to earlier jobs, and what they say to a submitted job
before anybody decides.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from urllib.parse import urlencode

from archipel.plans.imports import PlanImports
from archipel.researcher.connection import Connection
from archipel.researcher.tables import Row
from archipel.transport.rest import ApprovalView, ExperimentView, SiteView
from archipel.vocabulary.packages import installed_as, missing, named, pip_install
from archipel.vocabulary.states import ApprovalState
from archipel.vocabulary.visible import escape_hidden

_FIRST_PAUSE_S = 0.25
"""It doubles each time: the document that is asked for has the whole job in it."""


def awaited(connection: Connection, experiment: str, within: float) -> tuple[ExperimentView, frozenset[str]]:
    """The experiment once every connected site has said what it has, or after ``within`` seconds; who is connected."""
    until, pause = time.monotonic() + within, _FIRST_PAUSE_S
    connected = frozenset(site.site for site in connection.ask_all(SiteView, "/v1/sites") if site.connected)
    while True:
        document = connection.ask(ExperimentView, "GET", f"/v1/experiments/{experiment}")
        silent = {answer.site for answer in document.approvals if document.job.plan.packages and _is_silent(answer)}
        left = until - time.monotonic()
        if not silent & connected or left <= 0:
            return document, connected
        time.sleep(min(pause, left))
        pause *= 2


def federation_sites(connection: Connection, packages: Collection[str]) -> list[SiteView]:
    """The federation's sites, with what each last said of these packages. A site answers about those that a job names,
    so none is asked here.
    """
    query = urlencode([("package", name) for name in packages])
    return connection.ask_all(SiteView, f"/v1/sites?{query}" if query else "/v1/sites")


def remembered(sites: Iterable[SiteView], imports: PlanImports) -> tuple[str, ...]:
    """Which of these sites lacked what when they last said; those that lack the same are named together."""
    lacking: dict[tuple[str, ...], list[str]] = {}
    for site in sites:
        lacking.setdefault(tuple(missing(site.packages)), []).append(site.site)
    return tuple(
        f"{_lacks(names, packages, imports.optional)} (as said to an earlier job; submit() asks again)"
        for packages, names in lacking.items()
        if packages
    )


def sentences(document: ExperimentView, connected: Collection[str], imports: PlanImports) -> tuple[str, ...]:
    """What a researcher should know: which site lacks what, which did not say, and what the plan's text does not show.

    Sites that lack the same are named together.
    """
    lacking: dict[tuple[str, ...], list[str]] = {}
    others: dict[str, list[str]] = {}
    for answer in document.approvals if document.job.plan.packages else ():
        if answer.packages is not None:
            lacking.setdefault(tuple(missing(answer.packages)), []).append(answer.site)
        elif answer.packages_withheld:
            others.setdefault("does not disclose which packages it has", []).append(answer.site)
        elif _is_silent(answer):
            why = "has not said yet" if answer.site in connected else "is not connected, and has not said"
            others.setdefault(f"{why} which packages it has", []).append(answer.site)
    found = [_lacks(sites, packages, imports.optional) for packages, sites in lacking.items() if packages]
    found += [f"{', '.join(sites)}: {why}" for why, sites in others.items()]
    if imports.dynamic:
        places = ", ".join(imports.dynamic)
        found.append(f"the plan may import others, under names that its text does not show ({places})")
    return tuple(found)


def _lacks(sites: list[str], packages: tuple[str, ...], optional: Collection[str]) -> str:
    needed = [name for name in packages if name not in optional]
    handled = [name for name in packages if name in optional]
    parts = []
    if needed:
        parts.append(f"lacks {named(needed)}; ask its people to run there: {pip_install(needed)}")
    if handled:
        parts.append(f"lacks {named(handled)}, but the plan also runs without")
    return f"{', '.join(sites)}: {'; '.join(parts)}"


def lacking(document: ExperimentView) -> dict[str, str]:
    """What each site that lacks a package of the job lacks, as it said before anybody decided there."""
    found = {answer.site: missing(answer.packages) for answer in document.approvals if answer.packages is not None}
    return {site: named(packages) for site, packages in found.items() if packages}


def package_rows(document: ExperimentView) -> list[Row]:
    """One row per site and package that the job names; without a version where the site has not said it."""
    rows: list[Row] = []
    for answer in document.approvals:
        for name in document.job.plan.packages:
            found = (answer.packages or {}).get(name)
            rows.append(
                {
                    "site": answer.site,
                    "package": name,
                    "installed_as": installed_as(name),
                    "state": _state(answer, name),
                    "version": escape_hidden(found) if found else None,
                }
            )
    return rows


def _state(answer: ApprovalView, package: str) -> str:
    if answer.packages is None:
        return "withheld" if answer.packages_withheld else "not said"
    return "missing" if answer.packages.get(package) is None else "present"


def _is_silent(answer: ApprovalView) -> bool:
    """Whether a site has said nothing of packages and may still do so: one that rejected the job does not."""
    may = answer.state in (ApprovalState.WAITING, ApprovalState.APPROVED)
    return may and answer.packages is None and not answer.packages_withheld
