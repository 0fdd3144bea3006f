"""Federation: who belongs to it, what data there is (counts and schema), and experiments in it."""

from __future__ import annotations

import inspect
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from archipel.plans import Plan, load
from archipel.plans.drafting import draft
from archipel.researcher.connection import Connection
from archipel.researcher.experiment import Experiment
from archipel.researcher.frames import frame
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Baselines,
    DataNeeds,
    ErrorCode,
    RosterEntry,
    RoundTerms,
    Value,
    WorkerLimits,
)

if TYPE_CHECKING:
    from pandas import DataFrame

PlanFile = str | Path | type[Plan]


def connect(
    url: str | None = None, *, token: str | None = None, ca: str | Path | None = None, proxy: str | None = None
) -> Federation:
    """Connect to a federation's server.

    ``token`` is an access token from the server's operator; ``ca`` the federation's CA certificate file or its
    ``sha256:`` fingerprint. What is not given is taken from the environment: ARCHIPEL_SERVER, ARCHIPEL_TOKEN,
    ARCHIPEL_CA, so that no token need stand in a notebook. Raises BadInput for what is missing, ArchipelError for a
    server that is not reached, not trusted, or does not know the token.
    """
    found: dict[str, str] = {}
    for argument, variable, given in (
        ("url", "ARCHIPEL_SERVER", url),
        ("token", "ARCHIPEL_TOKEN", token),
        ("ca", "ARCHIPEL_CA", ca),
    ):
        value = str(given) if given is not None else os.environ.get(variable, "")
        if not value:
            raise BadInput(f"connect: {argument}", "is missing", f"give it or set {variable}; the operator knows it")
        found[argument] = value
    connection = Connection(found["url"], found["token"], found["ca"], proxy)
    try:
        return Federation(connection)
    except ArchipelError:
        connection.close()
        raise


class Federation:
    """A federation as a researcher sees it; as a context manager it closes its connection at the end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        about = connection.ask("GET", "/v1/federation")
        self.name: str = about["name"]
        self.server_key: str = about["server_key"]
        self.version: str = about["version"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Federation {self.name} at {self._connection.url}>"

    def _repr_html_(self) -> str:
        table: str = self.datasets().to_html(index=False, border=0)
        return f"<p><b>{self.name}</b></p>{table}"

    def sites(self) -> DataFrame:
        """One row a site: whether it is connected, when it was last seen, how many datasets and subjects it has."""
        rows = [
            {
                "site": site["site"],
                "connected": site["connected"],
                "last_seen": site["last_seen"],
                "datasets": len(site["datasets"]),
                "subjects": _sum([one["subjects"] for one in site["datasets"]]),
            }
            for site in self._sites()
        ]
        return frame(rows, columns=["site", "connected", "last_seen", "datasets", "subjects"])

    def datasets(self) -> DataFrame:
        """One row a dataset of a site: its kind, how many subjects, and which words its site made public.

        A count is ``<5`` where the site tells no smaller one. Counts and schema, never rows.
        """
        rows = [
            {
                "site": site["site"],
                "dataset": one["name"],
                "kind": one["kind"],
                "subjects": one["subjects"],
                "labels": ", ".join(f"{value} {name}" for value, name in one["labels"].items()),
                "modalities": ", ".join(one["modalities"]),
                "columns": ", ".join(map(_column, one["columns"])),
                "connected": site["connected"],
            }
            for site in self._sites()
            for one in site["datasets"]
        ]
        return frame(
            rows, columns=["site", "dataset", "kind", "subjects", "labels", "modalities", "columns", "connected"]
        )

    def create(
        self,
        plan: PlanFile,
        *,
        sites: Sequence[str] | Mapping[str, str] | None = None,
        rounds: int = 10,
        arguments: Mapping[str, Value] | None = None,
        name: str | None = None,
        title: str = "",
        description: str = "",
        plan_class: str | None = None,
        quorum: int | None = None,
        deadline: float = 3600.0,
        grace: float = 300.0,
        retries: int = 2,
        baselines: Baselines | bool = False,
        validation_fraction: float = 0.2,
        seed: int = 0,
        limits: WorkerLimits | None = None,
    ) -> Experiment:
        """Write the job of a new experiment; nothing is sent before ``submit``.

        ``plan`` is a plan's file, or its class from an imported file. ``sites`` are names, or a mapping from name to
        dataset; None means every site with one fitting dataset. ``quorum`` (default: all of them) sites must deliver
        in each round; ``deadline`` and ``grace`` are seconds. ``baselines=True`` also trains each site alone and
        measures the ensemble of those models. The initial model is made here, from ``seed``.

        Raises BadInput for a plan, site, dataset or argument that does not fit.
        """
        file, class_name = _plan_file(plan, plan_class)
        roster = self._roster(load(file, class_name).needs, sites)
        drafted = draft(
            file,
            experiment=name or f"{_slug(file.stem)}-{secrets.token_hex(3)}",
            roster=roster,
            server_key=self.server_key,
            seed=seed,
            class_name=class_name,
            arguments=arguments,
            title=title,
            description=description,
            terms=_terms(rounds, len(roster) if quorum is None else quorum, deadline, grace, retries),
            baselines=Baselines(local=baselines, ensemble=baselines) if isinstance(baselines, bool) else baselines,
            validation_fraction=validation_fraction,
            limits=limits or WorkerLimits(),
        )
        return Experiment(self._connection, drafted.job, drafted)

    def experiment(self, name: str) -> Experiment:
        """An experiment that was submitted before. Raises NotFound."""
        return Experiment.known(self._connection, name)

    def experiments(self) -> DataFrame:
        """One row an experiment, newest first."""
        keys = ("experiment", "state", "round", "rounds", "reason", "created", "started", "ended")
        rows = [{key: one.get(key) for key in keys} for one in self._connection.ask("GET", "/v1/experiments")]
        return frame(rows, columns=list(keys))

    def close(self) -> None:
        """End the connection; experiments go on."""
        self._connection.close()

    def _sites(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._connection.ask("GET", "/v1/sites")
        return found

    def _roster(self, needs: DataNeeds, wanted: Sequence[str] | Mapping[str, str] | None) -> tuple[RosterEntry, ...]:
        known = {site["site"]: site for site in self._sites()}
        if wanted is None:
            fitting = {
                name: [one["name"] for one in site["datasets"] if not _objection(one, needs) and _tells(one, needs)]
                for name, site in known.items()
            }
            chosen = {name: datasets[0] for name, datasets in fitting.items() if len(datasets) == 1}
        elif isinstance(wanted, Mapping):
            chosen = dict(wanted)
        else:
            chosen = {name: _only_dataset(known[name], needs) for name in wanted if name in known}
        for name in wanted or ():
            if name not in known:
                raise BadInput(f"site {name}", "is not in this federation", f"choose from {_listed(known)}")
        for name, dataset in chosen.items():
            _check_dataset(known[name], dataset, needs)
        if not chosen:
            raise BadInput("sites", f"none has exactly one dataset of kind {needs.kind} that fits", "name them")
        return tuple(
            RosterEntry(site=name, identity_key=known[name]["identity_key"], dataset=dataset)
            for name, dataset in sorted(chosen.items())
        )


def _plan_file(plan: PlanFile, class_name: str | None) -> tuple[Path, str | None]:
    if not isinstance(plan, type):
        return Path(plan), class_name
    source = inspect.getsourcefile(plan) if plan.__module__ != "__main__" else None
    if source is None:
        raise BadInput(
            f"plan {plan.__name__}",
            "was not imported from a file",
            "write it to a file (in a notebook: %%writefile plan.py) and give that file",
            code=ErrorCode.BAD_PLAN,
        )
    return Path(source), class_name or plan.__name__


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50] or "experiment"


def _terms(rounds: int, quorum: int, deadline: float, grace: float, retries: int) -> RoundTerms:
    for name, value, least in (("rounds", rounds, 1), ("quorum", quorum, 1), ("retries", retries, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(f"{name}={value!r}", "is not a whole number that makes sense", f"give at least {least}")
    if not (deadline > 0 and grace >= 0):
        raise BadInput(f"deadline={deadline!r}, grace={grace!r}", "are not lengths of time", "give seconds")
    return RoundTerms(rounds=rounds, quorum=quorum, deadline_s=deadline, grace_s=grace, retries=retries)


def _fitting(site: Mapping[str, Any], needs: DataNeeds) -> list[str]:
    """The datasets that nothing speaks against; of these, where there are some, those that tell of all columns."""
    found = [one for one in site["datasets"] if not _objection(one, needs)]
    return [one["name"] for one in found if _tells(one, needs)] or [one["name"] for one in found]


def _objection(dataset: Mapping[str, Any], needs: DataNeeds) -> str:
    """Why a dataset does not fit, or nothing."""
    if dataset["kind"] != needs.kind:
        return f"is of kind {dataset['kind']}, the plan needs {needs.kind}"
    if _most(dataset["subjects"]) < needs.minimum_subjects:
        return f"has {dataset['subjects']} subjects, the plan needs {needs.minimum_subjects}"
    # A site that named no labels is judged by its own policy and by the worker.
    labels = dataset["labels"]
    differing = [value for value in needs.labels if labels and labels.get(value) != needs.labels[value]]
    return f"has labels {labels}, the plan needs {needs.labels}" if differing else ""


def _tells(dataset: Mapping[str, Any], needs: DataNeeds) -> bool:
    """Whether a dataset has the plan's columns as far as its site tells; one that tells of none may have them."""
    told = {one["name"] for one in dataset.get("columns", ())}
    return not told or {one.name for one in needs.all_columns} <= told


def _most(told: int | str) -> int:
    """The most subjects that a count may stand for: ``<5`` is at most 4."""
    return told if isinstance(told, int) else int(told[1:]) - 1


def _sum(told: Sequence[int | str]) -> int | str:
    """Counts together; one that is not told in full makes the sum a lower bound, ``>=40``."""
    known = sum(one for one in told if isinstance(one, int))
    return known if all(isinstance(one, int) for one in told) else (f">={known}" if known else str(told[0]))


def _column(column: Mapping[str, Any]) -> str:
    unit = f" [{column['unit']}]" if column["unit"] else ""
    return f"{column['name']}{unit}" + (f" ({' | '.join(column['categories'])})" if column["categories"] else "")


def _only_dataset(site: Mapping[str, Any], needs: DataNeeds) -> str:
    names = [one["name"] for one in site["datasets"]]
    fitting = _fitting(site, needs)
    if len(fitting) == 1:
        return fitting[0]
    if len(names) == 1:
        _check_dataset(site, names[0], needs)
    several = f"has {len(fitting)} datasets that fit ({', '.join(fitting)})" if fitting else "has no dataset that fits"
    raise BadInput(
        f"site {site['site']}",
        several,
        f'choose with sites={{"{site["site"]}": "<dataset>"}}' if fitting else f"its datasets are: {_listed(names)}",
    )


def _check_dataset(site: Mapping[str, Any], name: str, needs: DataNeeds) -> None:
    for dataset in site["datasets"]:
        if dataset["name"] == name:
            objection = _objection(dataset, needs)
            if objection:
                raise BadInput(f"dataset {name} of {site['site']}", objection, "choose another one or leave it out")
            return
    names = [one["name"] for one in site["datasets"]]
    raise BadInput(f"dataset {name}", f"is not at {site['site']}", f"its datasets are: {_listed(names)}")


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
