"""Federation: who belongs to it, what data there is (counts and schema), and experiments in it."""

from __future__ import annotations

import inspect
import os
import re
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from archipel.plans import Plan, StartingModel, load_to_train, package
from archipel.plans.imports import imports_of
from archipel.plans.job_builder import NO_ENSEMBLE, draft
from archipel.researcher import packages
from archipel.researcher.checked_terms import checked
from archipel.researcher.connection import Connection
from archipel.researcher.experiment import Experiment
from archipel.researcher.site_selection import Wanted, choose
from archipel.researcher.starting_from import StartFrom, starting_model
from archipel.researcher.tables import to_table
from archipel.rounds import check_releases
from archipel.strategies import check_strategy
from archipel.transport.messages import DisclosedColumn
from archipel.transport.rest import ExperimentSummary, FederationView, SiteView
from archipel.vocabulary import (
    ArchipelError,
    BadInput,
    Baselines,
    ErrorCode,
    GpuTerms,
    Patience,
    PrivacyTerms,
    RoundTerms,
    StrategyTerms,
    Thing,
    Value,
    WorkerLimits,
)
from archipel.vocabulary.visible import escape_hidden, escape_markup, quote_name

if TYPE_CHECKING:
    from pandas import DataFrame

_EXPERIMENT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PlanPlace = str | Path | type[Plan]


def connect(
    url: str | None = None, *, token: str | None = None, ca: str | Path | None = None, proxy: str | None = None
) -> Federation:
    """Connect to a federation's server.

    ``token`` is an access token from the server's operator; ``ca`` the federation's CA certificate file or its
    ``sha256:`` fingerprint. What is not given is taken from the environment: ARCHIPEL_SERVER, ARCHIPEL_TOKEN,
    ARCHIPEL_CA, so that a notebook needs no token in it. Raises BadInput for what is missing, ArchipelError for a
    server that is not reached, not trusted, or does not know the token.

    >>> with connect() as federation:  # ARCHIPEL_SERVER, ARCHIPEL_TOKEN and ARCHIPEL_CA are set
    ...     federation.name
    'north sea'
    """
    settings: dict[str, str] = {}
    for argument, variable, given in (
        ("url", "ARCHIPEL_SERVER", url),
        ("token", "ARCHIPEL_TOKEN", token),
        ("ca", "ARCHIPEL_CA", ca),
    ):
        value = str(given) if given is not None else os.environ.get(variable, "")
        if not value:
            raise BadInput(
                Thing.worded(f"connect: {argument}", argument=argument),
                "is missing",
                f"give it or set {variable}; the operator knows it",
            )
        settings[argument] = value
    connection = Connection(settings["url"], settings["token"], settings["ca"], proxy)
    try:
        return Federation(connection)
    except ArchipelError:
        connection.close()
        raise


class Federation:
    """A federation as a researcher sees it; as a context manager it closes its connection at the end.

    >>> with connect() as federation:
    ...     datasets = federation.datasets()
    >>> datasets[["site", "dataset", "subjects"]].values.tolist()
    [['site-a', 'table', 20], ['site-b', 'table', 21], ['site-c', 'table', 22]]
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        about = connection.ask(FederationView, "GET", "/v1/federation")
        self.name, self.server_key, self.version = about.name, about.server_key, about.version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Federation {escape_hidden(self.name)} at {self._connection.url}>"

    def _repr_html_(self) -> str:
        table: str = self.datasets().to_html(index=False, border=0)
        return f"<p><b>{escape_markup(self.name)}</b></p>{table}"

    def sites(self) -> DataFrame:
        """One row per site: whether it is connected, when it was last seen, how many datasets it discloses."""
        rows = [
            {
                "site": site.site,
                "connected": site.connected,
                "last_seen": site.last_seen,
                "datasets": len(site.datasets),
            }
            for site in self._sites()
        ]
        return to_table(rows, columns=["site", "connected", "last_seen", "datasets"])

    def datasets(self) -> DataFrame:
        """One row per dataset of a site: its kind, how many subjects, and the texts that its site made public.

        A count is ``<5`` if the site discloses no smaller one. Counts and schema, never rows.
        """
        rows = [
            {
                "site": site.site,
                "dataset": dataset.name,
                "kind": quote_name(dataset.kind),
                "subjects": dataset.subjects,
                "labels": ", ".join(
                    f"{quote_name(value)} {quote_name(name)}" for value, name in dataset.labels.items()
                ),
                "modalities": ", ".join(dataset.modalities),
                "columns": ", ".join(map(_column, dataset.columns)),
                "values": ", ".join(f"{name}: {values}" for name, values in dataset.values.items()),
                "connected": site.connected,
            }
            for site in self._sites()
            for dataset in site.datasets
        ]
        return to_table(
            rows,
            columns=["site", "dataset", "kind", "subjects", "labels", "modalities", "columns", "values", "connected"],
        )

    def create(
        self,
        plan: PlanPlace,
        *,
        sites: Wanted = None,
        rounds: int = 10,
        start_from: StartFrom | None = None,
        arguments: Mapping[str, Value] | None = None,
        name: str | None = None,
        title: str = "",
        description: str = "",
        plan_class: str | None = None,
        plan_entry: str | None = None,
        quorum: int | None = None,
        deadline: float = 3600.0,
        grace: float = 300.0,
        retries: int = 2,
        resumes: int = 10,
        patience: Patience | None = None,
        measurements: int = 10,
        baselines: Baselines | bool = False,
        validation_fraction: float = 0.2,
        seed: int = 0,
        limits: WorkerLimits | None = None,
        gpu: GpuTerms | None = None,
        strategy: StrategyTerms | None = None,
        privacy: PrivacyTerms | None = None,
    ) -> Experiment:
        """Write the job of a new experiment; nothing is sent before ``submit``.

        A warning names each site that lacked a package of the plan when it last answered a job that names it;
        ``submit`` asks the sites, which answer about the packages of a job only.

        ``plan`` is a plan's file, or its class from an imported file, or a folder of files that import each other.
        ``plan_entry`` is then the one that holds the class (default: ``plan.py``).

        ``sites`` are names, or a mapping from name to dataset (None there: the one that fits); None means every site
        with one fitting dataset, and a warning names each that is left out and why. ``quorum`` (default: all of them)
        sites must deliver in each round;
        ``deadline`` and ``grace`` are seconds. A round that fails is tried again ``retries`` times, and then the
        experiment pauses; a round is tried at most (1 + ``retries``) x (1 + ``resumes``) times in all, which sites see
        before they approve. ``patience`` (default: none) ends the experiment early when a validation metric stops
        gaining: ``Patience(metric="dice", rounds=5, smallest_gain=0.01)``. Between rounds, after a step or a pause or
        at an early end, the model is measured at most ``measurements`` times. ``baselines=True`` also trains each site
        alone and, unless a part of the model is local, measures the ensemble of those models. ``strategy`` (default:
        federated averaging) names how updates become the next model, with its parameters. ``privacy`` (default: each
        site's update individually, unchanged) says how updates leave a site: ``PrivacyTerms(release="sum")`` lets only
        terms of a sum over sites leave. ``gpu`` (default: the CPU) asks for a GPU at each site:
        ``GpuTerms(memory_mb=12288)``; with ``required=False`` a site without one computes on its CPU. The initial model
        is made here, from ``seed``.

        ``start_from`` continues from a model instead: a safetensors file with the tensors of the plan's model, or the
        last or best model of another experiment (``"heart-1"``, ``"heart-1:best"``, or its handle), at any time after
        its first round. Rounds are counted from 1 again, and a round draws the random numbers of its number and the
        ``seed``, so give another one. No state of an optimiser or a strategy is taken over.

        Raises BadInput for a plan, site, dataset or argument that does not fit.
        """
        path, class_name = plan_path(plan, plan_class)
        packaged = package(path, class_name, plan_entry)
        loaded = load_to_train(packaged)
        _check_name(name)
        known = packages.federation_sites(self._connection, packaged.reference.packages)
        roster, left_out, differing = choose(known, loaded.needs, sites)
        asked = {entry.site for entry in roster}
        lacking = packages.remembered((site for site in known if site.site in asked), imports_of(packaged.files.texts))
        if left_out:
            words = "; ".join(f"{site} ({reason})" for site, reason in left_out.items())
            warnings.warn(f"left out: {words}", stacklevel=2)
        for sentence in (*differing, *lacking):
            warnings.warn(sentence, stacklevel=2)
        drafted = draft(
            path,
            experiment=name or f"{_slug(path.resolve().stem)}-{secrets.token_hex(3)}",
            roster=roster,
            server_key=self.server_key,
            seed=seed,
            class_name=class_name,
            entry=plan_entry,
            arguments=arguments,
            start_from=None if start_from is None else self.starting_model(start_from),
            title=title,
            description=description,
            terms=_terms(
                rounds,
                len(roster) if quorum is None else quorum,
                deadline,
                grace,
                retries,
                resumes,
                measurements,
                patience,
            ),
            baselines=baselines,
            validation_fraction=validation_fraction,
            limits=limits or WorkerLimits(),
            gpu=gpu,
            strategy=strategy or StrategyTerms(),
            privacy=privacy or PrivacyTerms(),
        )
        check_strategy(drafted.job)
        check_releases(drafted.job)
        if baselines is True and not drafted.job.baselines.ensemble:
            warnings.warn(NO_ENSEMBLE, stacklevel=2)
        return Experiment(self._connection, drafted.job, drafted, left_out, differing, lacking)

    def starting_model(self, start_from: StartFrom) -> StartingModel:
        """The model that ``create(start_from=...)`` would start from, for ``archipel.plans.draft`` and a simulation.

        Raises BadInput, NotFound and NotPermitted as ``create`` does.
        """
        return starting_model(self._connection, start_from)

    def experiment(self, name: str) -> Experiment:
        """An experiment that was submitted before. Raises NotFound."""
        return Experiment.known(self._connection, name)

    def experiments(self) -> DataFrame:
        """One row per experiment, newest first."""
        keys = ("experiment", "state", "round", "rounds", "reason", "created", "started", "ended")
        rows = [summary.model_dump(mode="json", include=set(keys)) for summary in self.summaries()]
        return to_table(rows, columns=list(keys))

    def summaries(self) -> list[ExperimentSummary]:
        """A summary of every experiment, newest first."""
        return self._connection.ask_all(ExperimentSummary, "/v1/experiments")

    def close(self) -> None:
        """End the connection; experiments continue."""
        self._connection.close()

    def _sites(self) -> list[SiteView]:
        return self._connection.ask_all(SiteView, "/v1/sites")


def plan_path(plan: PlanPlace, class_name: str | None) -> tuple[Path, str | None]:
    """The file or folder of a plan, and its class where that is known. Raises BadInput for one from no file."""
    if not isinstance(plan, type):
        return Path(plan), class_name
    source = inspect.getsourcefile(plan) if plan.__module__ != "__main__" else None
    if source is None:
        raise BadInput(
            Thing("plan", plan.__name__),
            "was not imported from a file",
            "write it to a file (in a notebook: %%writefile plan.py) and give that file",
            code=ErrorCode.BAD_PLAN,
        )
    return Path(source), class_name or plan.__name__


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50] or "experiment"


def _check_name(name: str | None) -> None:
    if name is not None and not _EXPERIMENT.fullmatch(name):
        raise BadInput(
            Thing.worded(f"name {name!r}", name=name),
            "is not a name an experiment may have",
            f"use lower-case letters, digits and hyphens, at most 63, such as {_slug(name)}",
        )


def _terms(
    rounds: int,
    quorum: int,
    deadline: float,
    grace: float,
    retries: int,
    resumes: int,
    measurements: int,
    patience: Patience | None,
) -> RoundTerms:
    counts = (
        ("rounds", rounds, 1),
        ("quorum", quorum, 1),
        ("retries", retries, 0),
        ("resumes", resumes, 0),
        ("measurements", measurements, 1),
    )
    for name, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise BadInput(
                Thing.worded(f"{name}={value!r}", **{name: value}),
                "is not a valid whole number",
                f"give at least {least}",
                values={"least": least},
            )
    if not (deadline > 0 and grace >= 0):
        raise BadInput(
            Thing.worded(f"deadline={deadline!r}, grace={grace!r}", deadline=deadline, grace=grace),
            "are not valid numbers of seconds",
            "give a deadline above 0 and a grace period of 0 or more",
        )
    given = {"rounds": rounds, "quorum": quorum, "retries": retries, "resumes": resumes, "measurements": measurements}
    return checked(RoundTerms, given | {"deadline_s": deadline, "grace_s": grace, "patience": patience})


def _column(column: DisclosedColumn) -> str:
    unit = f" [{quote_name(column.unit)}]" if column.unit else ""
    categories = " | ".join(map(quote_name, column.categories))
    return f"{quote_name(column.name)}{unit}" + (f" ({categories})" if categories else "")
