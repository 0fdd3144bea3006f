"""A model card (Mitchell et al. 2019) that follows from the records: what it is, where it came from, its limits."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby

from archipel.researcher.ancestry import Ancestor, earlier_sites, in_words, is_all_known
from archipel.researcher.tables import AtSites, after_round
from archipel.transport.rest import ExperimentView, ModelView, RoundView
from archipel.vocabulary import Details, Job, MetricDetail, MetricSpec, TensorSchema, worst_site
from archipel.vocabulary.visible import escape_hidden, quote_name

_BESIDE = "came with it, in the folder beside this card whose name ends in `-plan`"
_BASELINES = {"federated": "federated, last round"}
_MARKS = re.compile(r"[\\`*_{}\[\]<>#|&~!]")


def model_card(
    job: Job,
    job_hash: str,
    model: ModelView,
    document: ExperimentView,
    rounds: Sequence[RoundView],
    software: Mapping[str, str],
    file_hash: str,
    ancestors: Sequence[Ancestor] = (),
    *,
    simulated: str = "",
) -> str:
    """The card in Markdown. ``model`` is the server's entry of the kept model; the next two its records.

    ``software`` are names and versions of what ran elsewhere; the versions here are added to it. ``file_hash`` is of
    the file that the card belongs to, which has the frozen part of the model as well, where there is one. ``ancestors``
    are the models before it, the nearest first. ``simulated`` says of a simulation which sites it had.
    """
    committed = [attempt for attempt in rounds if attempt.is_committed and attempt.round <= model.round]
    local = model.site
    at_sites = _at_each_site(model, document, rounds, local)
    initial = f" ({model.origin})" if model.is_initial else ""
    sections = [
        f"# Model card: {job.experiment}, {model.name}{initial}",
        _quoted("Title", job.title),
        _quoted("Purpose", job.description) or "**Purpose**: not stated by the researcher",
        _what_it_is(job, model, document, simulated),
        _lineage(job, job_hash, model, file_hash, ancestors, simulated),
        _contributions(job, model, committed, document),
        _hyper_parameters(job, committed),
        _measured(job, model, document, at_sites),
        _software(software),
        _limits(job, model, ancestors, by_site=any(at_sites.values.values())),
    ]
    return escape_hidden("\n\n".join(section for section in sections if section) + "\n", keep="\n")


def _quoted(what: str, text: str) -> str:
    """The researcher's words as they are: in lines that are indented, nothing is a heading, a link or markup."""
    lines = "\n".join(f"    {line}" for line in text.split("\n"))
    return f"**{what}**, in the researcher's words:\n\n{lines}" if text else ""


def _inline(text: str) -> str:
    """A text within a line or a cell, with nothing in it that Markdown or HTML would read."""
    return _MARKS.sub(r"\\\g<0>", quote_name(text))


def _what_it_is(job: Job, model: ModelView, document: ExperimentView, simulated: str) -> str:
    kind = model.origin if model.site or model.is_initial else f"{model.origin} of {job.terms.rounds}"
    labels = ", ".join(f"{value} {_inline(name)}" for value, name in sorted(job.needs.labels.items()))
    target = job.needs.target
    classes = ", ".join(f"{place} {_inline(name)}" for place, name in enumerate(target.categories)) if target else ""
    asked = "".join(
        (
            f", labels {labels}" if labels else "",
            f", target {target.name}" if target else "",
            f" ({classes})" if classes else "",
        )
    )
    asked_by = _inline(document.asked_by) if document.asked_by else "an unnamed token"
    lines = [
        f"- **Model**: {model.name} ({kind})",
        *_values(job),
        f"- **Plan**: {_plan(job)}",
        f"- **Data it needs**: {job.needs.kind}{asked}",
        f"- **Simulated**: {_inline(simulated)}; no hospital took part"
        if simulated
        else f"- **Experiment**: {job.experiment}, asked by {asked_by}",
        f"- **When** (UTC): {_when(document)}",
    ]
    if document.ended_early:
        lines.append(f"- **Ended early**: {_inline(document.ended_early)}")
    return "\n".join(lines)


def _values(job: Job) -> list[str]:
    def counted(*parts: TensorSchema) -> str:
        count, tensors = sum(part.elements for part in parts), sum(len(part.tensors) for part in parts)
        return f"{count:,} in {tensors} tensors, {sum(part.nbytes for part in parts):,} bytes"

    others = [part.tensors for part in (job.frozen, job.local) if part is not None]
    lines = [f"- **Values**: {counted(job.tensors, *others)}"]
    if others:
        lines.append(f"- **{_sent(job).capitalize()}**: {counted(job.tensors)}; only these left the sites")
    if job.frozen is not None:
        lines.append(f"- **Frozen part**: {counted(job.frozen.tensors)}; chosen by the researcher, changed by no round")
    if job.local is not None:
        lines.append(
            f"- **Local part**: {counted(job.local.tensors)}; trained at each site and kept there. **This file has "
            "only the initial values of it.** What is measured is the model with each site's own local part; a new "
            "site needs one of its own first"
        )
    return lines


def _sent(job: Job) -> str:
    """What the part is called that the sites train and send."""
    return "trained part" if job.local is None else "sent part"


def _plan(job: Job) -> str:
    entry, *others = job.plan.paths
    if not others:
        return f"`{entry}`, class `{job.plan.class_name}`; it is needed to use the model, and {_BESIDE}"
    listed = ", ".join(f"`{path}`" for path in others)
    return f"`{entry}`, class `{job.plan.class_name}`, with {listed}; they are needed to use the model, and {_BESIDE}"


def _when(document: ExperimentView) -> str:
    told = [("created", document.created), ("started", document.started), ("ended", document.ended)]
    return ", ".join(f"{what} {at[:16].replace('T', ' ')}" for what, at in told if at)


def _lineage(
    job: Job, job_hash: str, model: ModelView, file_hash: str, ancestors: Sequence[Ancestor], simulated: str
) -> str:
    rows = [
        ("job", job_hash),
        *((f"plan, {path}", job.plan.files[path]) for path in job.plan.paths),
        *_models(job, model, file_hash),
    ]
    if not simulated:
        rows += [("server key", job.server_key)]
        rows += [(f"identity of {entry.site}", entry.identity_key) for entry in job.roster]
    before = "".join(f"- {sentence}\n" for sentence in in_words(ancestors))
    if before:
        before = f"{before}\nNothing of an optimiser or a strategy is taken over from there: only the model is.\n\n"
    signed = (
        "Nobody signed the job: it was simulated."
        if simulated
        else "Every site signed the job's hash together with the hash of its own cohort; the signatures are in the "
        "journals of the server and of each site."
    )
    table = "\n".join(f"| {what} | `{value}` |" for what, value in rows)
    return f"## Lineage\n\n{before}{signed}\n\n| what | hash or key |\n|---|---|\n{table}"


def _models(job: Job, model: ModelView, file_hash: str) -> list[tuple[str, str]]:
    if job.frozen is None and job.local is None:
        return [("initial model", job.initial_model), ("this model", model.hash)]
    sent, together = _sent(job), "both parts" if job.frozen is None or job.local is None else "all parts"
    rows = [(f"initial model, its {sent}", job.initial_model), (f"this model, its {sent}", model.hash)]
    if job.frozen is not None:
        rows.append(("this model, its frozen part", job.frozen.blob))
    if job.local is not None:
        rows.append(("this model, initial values of its local part", job.local.blob))
    return [*rows, (f"this model's file, {together}", file_hash)]


def _contributions(job: Job, model: ModelView, committed: Sequence[RoundView], document: ExperimentView) -> str:
    if model.is_initial:
        done = "No round made a model that measured better." if model.name == "best" and document.round else ""
        return f"## Training\n\nNone: this is the model that the experiment began with. {done}".rstrip()
    terms = (
        f"Strategy {job.strategy.name}, quorum {job.terms.quorum} of {len(job.roster)} sites, seed {job.seed}, "
        f"optimiser state {job.optimiser_state.value}."
    )
    if model.site:
        start = "from the model that the experiment started from, " if job.lineage is not None else ""
        alone = f"Trained at {model.site} alone, {start}with as many passes as the federated model had rounds."
        return f"## Training\n\n{alone} {terms}"
    rows = []
    people = {answer.site: answer.subjects for answer in document.approvals}
    for site in job.sites:
        there = [attempt.sites[site] for attempt in committed if site in attempt.contributors]
        counted = there[-1].samples if there else 0
        samples = "only within a sum" if counted is None else counted
        rows.append(f"| {site} | {people.get(site) or ''} | {len(there)} of {len(committed)} | {samples} |")
    lacking = [attempt for attempt in committed if len(attempt.contributors) < len(job.sites)]
    count = "1 round" if len(lacking) == 1 else f"{len(lacking)} rounds"
    note = f"\n\n{count} lacked at least one site." if lacking else ""
    return (
        f"## Training\n\n{terms}\n\n| site | subjects in its cohort | rounds it contributed to | samples in the last "
        "of them |\n|---|---|---|---|\n" + "\n".join(rows) + note
    )


def _hyper_parameters(job: Job, committed: Sequence[RoundView]) -> str:
    """Every hyper-parameter with its value, and with the rounds of each value where it was changed."""
    rows = []
    for name in sorted(job.arguments):
        runs = [
            (value, [attempt.round for attempt in attempts])
            for value, attempts in groupby(committed, key=lambda attempt: attempt.arguments.get(name))
        ]
        spans = [f"{_inline(str(value))} (rounds {there[0]}-{there[-1]})" for value, there in runs]
        only = _inline(str(runs[0][0] if runs else job.arguments[name]))
        rows.append(f"| {name} | {', '.join(spans) if len(runs) > 1 else only} |")
    return "## Hyper-parameters\n\n| name | value |\n|---|---|\n" + "\n".join(rows) if rows else ""


def _software(elsewhere: Mapping[str, str]) -> str:
    here = {"python": platform.python_version()}
    for package in ("archipel", "numpy", "torch"):
        try:
            here[package] = version(package)
        except PackageNotFoundError:
            continue
    words = ", ".join(f"{name} {installed}" for name, installed in sorted(here.items()))
    others = ", ".join(f"{name} archipel {installed}" for name, installed in elsewhere.items())
    return (
        f"## Software\n\nWhere this card was written: {words}. Elsewhere: {others}; the versions at the sites "
        f"are not recorded."
    )


PerSite = Mapping[str, Mapping[str, float]]


def _at_each_site(
    model: ModelView, document: ExperimentView, rounds: Sequence[RoundView], local: str | None
) -> AtSites:
    """What each site measured of this model, where the server knows it: not of values that leave within sums only."""
    if local:
        own = document.baselines.local.get(local)
        return AtSites(own.per_site, own.per_site_details) if own is not None else AtSites()
    committed = [attempt for attempt in rounds if attempt.is_committed]
    if not model.round:
        return AtSites.before(committed[0]) if committed else AtSites()
    made = [attempt for attempt in committed if attempt.round == model.round]
    return after_round(made[-1], rounds, document.baselines) if made else AtSites()


def _measured(job: Job, model: ModelView, document: ExperimentView, at_sites: AtSites) -> str:
    federated = document.baselines.federated
    count = federated.subjects if federated is not None else None
    fraction = f"{job.validation_fraction:.0%} of each site's subjects, chosen by hash of the subject's id"
    fraction = f"about {fraction}" + (f": {count} samples in all" if count else "")
    sums = model.validation
    if not sums:
        return f"## Measured\n\nThis model was not validated at the sites (held out: {fraction})."
    declared = {metric.name: metric for metric in job.validation}
    lines = [
        f"| {name} | {value:.4f} | {_about(declared.get(name))} | {_worst(declared.get(name), at_sites.values)} |"
        for name, value in sorted(sums.items())
    ]
    text = (
        f"## Measured\n\nMeasured at the sites on subjects that they held out of training ({fraction}), and reported "
        "as sums.\n\n"
        "| metric | over all sites | | at the worst site |\n|---|---|---|---|\n" + "\n".join(lines)
    )
    text += _spread_table(declared, model.details) + _pooled_table(model.details)
    text += _site_table(sorted(sums), at_sites)
    if model.name == "best" and not model.is_initial:
        text += "\n\nThis round was chosen by its validation result, so this result is somewhat too optimistic."
    rows = [
        f"| {_BASELINES.get(name, name)} | "
        + " | ".join(_cell(measured.validation.get(metric)) for metric in sorted(sums))
        + " |"
        for name, measured in document.baselines.by_model().items()
    ]
    if rows:
        head = "| model | " + " | ".join(sorted(sums)) + " |\n|---|" + "---|" * len(sums)
        text += f"\n\n### Compared with the baselines\n\n{head}\n" + "\n".join(rows)
    return text


def _about(metric: MetricSpec | None) -> str:
    return f"{metric.average_in_words}, {metric.better} is better" if metric is not None else ""


def _worst(metric: MetricSpec | None, per_site: PerSite) -> str:
    worst = worst_site(metric, per_site) if metric is not None else None
    return f"{worst[1]:.4f} ({worst[0]})" if worst is not None else ""


def _spread_table(declared: Mapping[str, MetricSpec], details: Details) -> str:
    """How much the metrics differ, where it is known."""
    rows = [
        f"| {name} | {spread.mean:.4f} | {spread.deviation:.4f} | {spread.interval_in_words} | "
        f"{spread.over(declared.get(name))} |"
        for name, detail in sorted(details.items())
        if (spread := detail.spread) is not None
    ]
    if not rows:
        return ""
    return (
        "\n\n### How much the values differ\n\n"
        "| metric | mean | standard deviation | 95 % interval of the mean | over |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows) + "\n\nThe interval assumes that the measured values "
        "are independent: where one patient has several, it is too narrow. Sites that measured few patients are not in "
        "it."
    )


def _pooled_table(details: Details) -> str:
    """The AUCs of the sites' cases together, where they are known."""
    rows = [
        f"| {name} | {pooled.in_words} | {pooled.bins} | {pooled.over} |"
        for name, detail in sorted(details.items())
        if (pooled := detail.pooled_auc) is not None
    ]
    if not rows:
        return ""
    return (
        "\n\n### AUC, pooled over sites\n\n"
        "| metric | AUC (bounds) | bins | over |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nIt compares the cases of all sites with each other, from histograms of their scores. "
        "With exact scores it is certainly within the bounds, which say nothing about chance. The mean above is a "
        "mean of the sites' own AUCs. Sites with few patients or few cases of a class are not in it."
    )


def _site_table(metrics: Sequence[str], at_sites: AtSites) -> str:
    measured = {site: values for site, values in sorted(at_sites.values.items()) if values}
    if not measured:
        return ""
    rows = [
        f"| {site} | "
        + " | ".join(
            _with_deviation(values.get(metric), at_sites.details.get(site, {}).get(metric)) for metric in metrics
        )
        + " |"
        for site, values in measured.items()
    ]
    head = f"| site | {' | '.join(metrics)} |\n|---|" + "---|" * len(metrics)
    return f"\n\n### At each site\n\n{head}\n" + "\n".join(rows)


def _with_deviation(value: float | None, detail: MetricDetail | None) -> str:
    spread = detail.spread if detail is not None else None
    return _cell(value) + ("" if spread is None else f" (SD {spread.deviation:.4f})")


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _limits(job: Job, model: ModelView, ancestors: Sequence[Ancestor], *, by_site: bool) -> str:
    medical = "A research model, not a medical device: it must not guide the care of a patient."
    if model.is_untrained:
        return f"## Limits of use\n\n- {medical}\n- It was not trained: what it predicts says nothing about an image."
    seen = [] if model.is_initial else [model.site] if model.site else list(job.sites)
    sites = ", ".join(sorted({*seen, *earlier_sites(ancestors)}))
    saw = [f"data of {sites}"] if sites else []
    if not is_all_known(ancestors):
        saw.append("what the model that it started from was trained on, which is not known here")
    data = f"data of {sites} only" if sites and is_all_known(ancestors) else " and ".join(saw) or "no data"
    tool = " (`archipel evaluate`)" if job.validation else ""
    lines = [
        medical,
        f"It saw {data}. On other scanners, sequences, ages or diseases it may fail without any "
        f"warning; measure it on local data first{tool}.",
        "A validation mean hides the sites and the subjects on which the model fails; "
        + ("see each site above, and check single subjects too." if by_site else "check single subjects too."),
        "The weights follow from patients' data. No formal privacy guarantee (differential privacy) was applied: "
        "treat the file as confidentially as the sites' agreement requires.",
    ]
    return "## Limits of use\n\n" + "\n".join(f"- {line}" for line in lines)
