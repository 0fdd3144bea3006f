"""Experiment: the handle by which a researcher submits a job, steers it, watches it and takes its models home.

The experiment itself lives at the server. A handle stores nothing else, so closing a laptop stops nothing, and
``federation.experiment(name)`` gives the handle again from anywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from archipel.governance import job_hash
from archipel.plans.imports import PlanImports, imports_of
from archipel.plans.job_builder import Draft
from archipel.researcher import packages, plots, tables
from archipel.researcher.ancestry import ancestors
from archipel.researcher.connection import Connection
from archipel.researcher.display import Display, choose_screen
from archipel.researcher.experiment_result import experiment_result
from archipel.researcher.job_blobs import frozen_part, local_part, plan_of
from archipel.researcher.model_card import model_card
from archipel.researcher.model_files import check_bytes, place_for, trained_with, write_model
from archipel.researcher.progress import Progress, draft_html
from archipel.researcher.report import write_page
from archipel.researcher.stop_reasons import unfinished, without_quorum
from archipel.researcher.watching import all_events, watch
from archipel.tensors import blob_hash, joined
from archipel.transport.rest import (
    Arguments,
    Event,
    ExperimentView,
    FederationView,
    ModelView,
    RoundView,
    Submission,
)
from archipel.vocabulary import ArchipelError, Conflict, ErrorCode, Job, NotFound, Thing, Value, check_arguments
from archipel.vocabulary.states import ApprovalState, ControlVerb, ExperimentState

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_GOES_ON = (ExperimentState.RUNNING, ExperimentState.WAITING)


class Experiment:
    """One experiment. ``job`` is what every site of it approves, ``job_hash`` what they sign.

    ``left_out`` are, for one that was just created, the sites that do not take part, each with the reason;
    ``differing`` a sentence for each input whose numbers are not the same at all sites. ``lacking`` are
    sentences about packages that sites lack: of one that was just created, those that they lacked when they last
    answered another job, and of one that was just submitted, what they say now.

    >>> import archipel
    >>> federation = archipel.connect()
    >>> experiment = federation.create("examples/tiny_numpy.py", name="tiny", rounds=3)
    >>> experiment.status
    'draft'
    >>> print(experiment.submit().status)
    waiting
    >>> federation.close()
    """

    def __init__(
        self,
        connection: Connection,
        job: Job,
        drafted: Draft | None = None,
        left_out: Mapping[str, str] | None = None,
        differing: Sequence[str] = (),
        lacking: Sequence[str] = (),
    ) -> None:
        self._connection, self._draft = connection, drafted
        self.job, self.left_out, self.differing = job, dict(left_out or {}), tuple(differing)
        self.lacking = tuple(lacking)
        self._imports: PlanImports | None = None
        self.job_hash = job_hash(job)
        self.screen: Callable[[], Display] = choose_screen

    @classmethod
    def known(cls, connection: Connection, name: str) -> Experiment:
        """The handle of a submitted experiment.

        Raises NotFound, and ArchipelError (code trust) when the server's job and its hash do not belong together.
        """
        document = connection.ask(ExperimentView, "GET", f"/v1/experiments/{name}")
        found = cls(connection, document.job)
        found._check_hash(document)
        return found

    @property
    def name(self) -> str:
        """The experiment's name at the server."""
        return self.job.experiment

    # Before it runs

    def submit(self, *, packages_within: float = 10.0) -> Experiment:
        """Send the plan and the initial model, then the job; every site is asked for its approval.

        Then the connected sites say, at most ``packages_within`` seconds later, which of the packages that the plan
        imports they have. A warning names each site that lacks one, and those that did not say; ``lacking`` keeps
        these sentences. Submitting the same job again changes nothing. Raises what the server refuses it with.
        """
        if self._draft is not None:
            for blob, content in self._draft.blobs.items():
                self._connection.store(blob, content)
        self._check_hash(self._connection.ask(ExperimentView, "POST", "/v1/experiments", Submission(job=self.job)))
        if self._draft is not None:
            self._imports = imports_of(self._draft.plan.files.texts)
        self._draft = None
        self.lacking = self._lacking(packages_within)
        for sentence in self.lacking:
            warnings.warn(sentence, stacklevel=2)
        return self

    def _lacking(self, within: float) -> tuple[str, ...]:
        # Of a plan that is not at hand, each package that it imports counts as needed.
        imports = self._imports or PlanImports(needed=self.job.plan.packages)
        document, connected = packages.awaited(self._connection, self.name, within)
        return packages.sentences(document, connected, imports)

    def packages(self) -> DataFrame:
        """One row per site and package that the plan imports: whether the site has it, and which version.

        ``state`` is present, missing, withheld (the site does not disclose it) or not said.
        """
        columns = ["site", "package", "installed_as", "state", "version"]
        return tables.to_table(packages.package_rows(self.document()), columns=columns)

    def approvals(self) -> DataFrame:
        """One row per site: its answer and how many subjects its cohort has."""
        columns = ["site", "state", "subjects", "at"]
        return tables.to_table([answer.model_dump() for answer in self.document().approvals], columns=columns)

    def _wait_for_approvals(self, screen: Display) -> None:
        """Wait until every site has answered.

        Raises Refused as soon as so many sites rejected it that the quorum can no longer be reached.
        """

        def settled(document: ExperimentView) -> bool:
            states = [answer.state for answer in document.approvals]
            approved, waiting = states.count(ApprovalState.APPROVED), states.count(ApprovalState.WAITING)
            return not waiting or approved + waiting < self.job.terms.quorum

        document = watch(self._connection, self.name, settled, screen)
        approved = sum(answer.state is ApprovalState.APPROVED for answer in document.approvals)
        if document.state is ExperimentState.WAITING and approved < self.job.terms.quorum:
            raise without_quorum(document, self.job.terms.quorum)

    # While it runs

    def run(self) -> str:
        """Submit if that was not done, wait for the sites' answers, start or resume, and watch until it is finished.

        Ctrl-C (or the notebook's stop button) stops the watching only: the experiment continues at the server. Raises
        ArchipelError when it ends or pauses before its last round, with the reason.
        """
        if self._draft is not None:
            self.submit()
        with self.screen() as screen:
            if self.status == ExperimentState.WAITING:
                self._wait_for_approvals(screen)
            state = self.status
            if state in (ExperimentState.WAITING, ExperimentState.PAUSED):
                self._control(ControlVerb.RESUME if state == ExperimentState.PAUSED else ControlVerb.START)
            document = watch(self._connection, self.name, _has_stopped, screen)
        if document.state is not ExperimentState.FINISHED:
            raise unfinished(document, self.rounds()[-1:])
        return ExperimentState.FINISHED

    def start(self) -> str:
        """Start it and return at once. Raises Conflict while the quorum has not approved."""
        return self._control(ControlVerb.START)

    def step(self) -> DataFrame:
        """Run one round, measure its model, then pause; the round's rows of ``history``."""
        number = self.document().round + 1
        self._run_step()
        found = self.history
        rows: DataFrame = found[found["round"] == number].reset_index(drop=True)
        return rows

    def step_once(self) -> RoundView:
        """The same without pandas: the round's record. Raises ArchipelError, with the reason, if it did not count."""
        number = self.document().round + 1
        document = self._run_step()
        rounds = self.rounds()
        done = [attempt for attempt in rounds if attempt.round == number and attempt.is_committed]
        if not done:
            raise unfinished(document, rounds[-1:])
        return done[-1]

    def pause(self) -> str:
        """Pause after the round that is open."""
        return self._control(ControlVerb.PAUSE)

    def resume(self) -> str:
        """Continue where it paused, and return at once."""
        return self._control(ControlVerb.RESUME)

    def finish(self) -> str:
        """End it early with all that a finished one has, and return at once; nothing more is trained but baselines.

        A round that is open is completed first. Then the last model is measured and the baselines that were asked for
        are trained, with as many passes as there were rounds. Raises Conflict before the first round.
        """
        return self._control(ControlVerb.FINISH)

    def cancel(self) -> str:
        """End it permanently; the models of its finished rounds stay."""
        return self._control(ControlVerb.CANCEL)

    def watch(self) -> str:
        """Watch a running experiment until it pauses or ends; its state then."""
        _ = self._path
        with self.screen() as screen:
            return watch(self._connection, self.name, _has_stopped, screen).state

    def set(self, /, **values: Value) -> dict[str, Value]:
        """Change hyper-parameters for the rounds to come, inside the bounds that the sites approved.

        Returns every hyper-parameter's value. Raises BadInput, before anything is sent, for an unknown name or a value
        outside its bounds.
        """
        path = f"{self._path}/arguments"
        check_arguments(self.job.parameters, values)
        return self._connection.ask(ExperimentView, "PATCH", path, Arguments(arguments=values)).arguments

    # Its results

    def document(self) -> ExperimentView:
        """The experiment's document: state, reason, round, arguments, approvals, baselines."""
        return self._connection.ask(ExperimentView, "GET", self._path)

    @property
    def status(self) -> str:
        """draft, waiting, running, paused, finished or cancelled."""
        return "draft" if self._draft is not None else self.document().state

    def rounds(self) -> list[RoundView]:
        """The rounds' records from the server, oldest first."""
        return self._connection.ask_all(RoundView, f"{self._path}/rounds")

    def events(self) -> list[Event]:
        """Everything that happened, oldest first."""
        return list(all_events(self._connection, self._path))

    @property
    def history(self) -> DataFrame:
        """One row for each round and site, and one for all of them (``all_sites``)."""
        return tables.history(self.rounds(), self.document().baselines)

    @property
    def failures(self) -> DataFrame:
        """One row for each failure of a site, in the words of its agent.

        ``detail`` is the error's full text where a person at the site released it (``archipel site errors release``).
        ``lacks`` names the packages of the plan that the site said it lacks, where the plan failed to import one.
        """
        return tables.failures(self.events(), packages.lacking(self.document()))

    @property
    def baselines(self) -> DataFrame:
        """The federated model beside each site's own and their ensemble, on the same held-out subjects of every site.

        One row per model and metric: ``all_sites`` is the mean over all sites together, and
        ``averaged_by`` what it is a mean of; ``worst_site`` and ``worst_value`` say where the model is worst and its
        value there; then one column per site. Of metrics with ``spread`` also the standard deviation and the 95 %
        interval of the mean, and over how many samples and sites these are.
        """
        return tables.baselines(self.document().baselines, self.job.validation)

    def plot(self) -> Figure:
        """Loss and validation over the rounds, each site and all together, with the baselines as lines."""
        document = self.document()
        validation = [metric.name for metric in self.job.validation]
        return plots.curves(tables.history(self.rounds(), document.baselines), validation, document.baselines)

    def report(self, path: str | Path = ".") -> Path:
        """Write the report: one HTML file that loads nothing from anywhere; returns its path.

        It shows the metric that chooses the best model: over the rounds, of every model at every site, and at the worst
        site. ``path`` ends in .html, or is a folder. Raises Conflict before the first round is finished.
        """
        given = Path(path)
        target = given if given.suffix == ".html" else given / f"{self.name}.html"
        return write_page(experiment_result(self.document(), self.rounds()), target)

    def models(self) -> DataFrame:
        """The kept models: ``last``, ``best``, and ``local:<site>`` where that baseline was asked for.

        ``origin`` says what made each: as long as no round made a better one, ``best`` is the untrained initial model,
        or the model that the experiment started from.
        """
        rows: list[tables.Row] = [
            {
                "name": kept.name,
                "origin": kept.origin,
                "round": kept.round,
                "hash": kept.hash,
                **(kept.validation or {}),
                **tables.detail_columns(kept.details),
            }
            for kept in self._models()
        ]
        return tables.to_table(rows)

    def download(self, path: str | Path, which: str = "last") -> Path:
        """Write a model as safetensors, and beside it its model card (Markdown) and its plan, in a folder that ends in
        ``-plan``; returns the model's path.

        A model of which a part is frozen is written whole. ``which`` is last, best or local:<site>. ``path`` ends in
        .safetensors, or is a folder. Raises NotFound, and ArchipelError (code trust) when the bytes are not those that
        the server named, or the plan is not the job's. A ``best`` of round 0 is written as
        ``<experiment>-best-untrained.safetensors`` into a folder, and as ``<experiment>-best-initial.safetensors`` when
        the experiment started from a model.
        """
        kept = {model.name: model for model in self._models()}
        if which not in kept:
            raise NotFound(
                Thing.worded(f"model {which} of {self.name}", model=which, experiment=self.name),
                "is not kept",
                f"there are: {', '.join(sorted(kept))}",
                values={"kept": ", ".join(sorted(kept))},
            )
        said = "-untrained" if kept[which].is_untrained else "-initial" if kept[which].is_initial else ""
        target = place_for(Path(path), self.name, f"{which}{said}")
        data = self._connection.download(f"{self._path}/models/{which}")
        check_bytes(Thing("model", target.name), data, kept[which].hash)
        software = {"server": self._connection.ask(FederationView, "GET", "/v1/federation").version}
        data = self.whole(data)
        records = kept[which], self.document(), self.rounds(), software
        card = model_card(self.job, self.job_hash, *records, blob_hash(data), ancestors(self._connection, self.job))
        plan = plan_of(self._connection, self._path, self.job).files
        write_model(target, data, card=card, plan=plan, trained=trained_with(self.job, kept[which], records[2]))
        return target

    def whole(self, trained: bytes) -> bytes:
        """The tensor file of a whole model: what was trained and sent, with what the job keeps frozen, and the initial
        values of what is local to each site.

        Raises ArchipelError (code trust) for a part that is not the one that the sites approved.
        """
        asked = self._connection, self._path, self.job
        return joined(trained, frozen_part(*asked), local_part(*asked))

    def __repr__(self) -> str:
        asked = ", ".join(f"{entry.site} ({entry.dataset})" for entry in self.job.roster)
        left_out = f"; left out: {', '.join(self.left_out)}" if self.left_out else ""
        return f"<Experiment {self.name} ({self.status}) at {asked}{left_out}; job {self.job_hash[:19]}>"

    def _repr_html_(self) -> str:
        if self._draft is not None:
            return draft_html(self.job, self.left_out)
        return Progress(self.name, self.document(), tuple(self.rounds())).html()

    @property
    def _path(self) -> str:
        if self._draft is not None:
            raise Conflict(
                Thing("experiment", self.name), "is a draft and was not submitted", "submit() it first, or run() it"
            )
        return f"/v1/experiments/{self.name}"

    def _models(self) -> list[ModelView]:
        return self._connection.ask_all(ModelView, f"{self._path}/models")

    def _control(self, verb: ControlVerb) -> str:
        return self._connection.ask(ExperimentView, "POST", f"{self._path}/{verb}").state

    def _run_step(self) -> ExperimentView:
        self._control(ControlVerb.STEP)
        with self.screen() as screen:
            return watch(self._connection, self.name, _has_stopped, screen)

    def _check_hash(self, document: ExperimentView) -> None:
        if document.job_hash != self.job_hash:
            raise ArchipelError(
                Thing("experiment", self.name),
                "the server has a different job under this name",
                "choose another name, or ask the server's operator",
                code=ErrorCode.TRUST,
            )


def _has_stopped(document: ExperimentView) -> bool:
    return document.state not in _GOES_ON
