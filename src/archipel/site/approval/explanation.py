"""A job in words for the people who must agree to it: who asks, what runs, on what, what leaves, and for how long.

Everything a researcher or the server wrote is another party's text. It stands on lines of its own that begin with a
bar, so that it cannot pass for an answer, and characters that could hide or rearrange what is shown are made visible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from archipel.data import SampleCounts
from archipel.data.volumes import ON_TOP, names_in
from archipel.privacy import Measured, declared_metrics, reported_bytes
from archipel.rounds import most_attempts, most_measurements
from archipel.site.approval.gpu_in_words import on_a_gpu
from archipel.site.approval.model_in_words import leaving_model, size_in_words, trained_model
from archipel.site.state import SandboxRule, SiteSettings
from archipel.vocabulary import BadInput, HyperParameter, Job, MetricSpec, OptimiserState, Release, StepTerms
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.visible import BAR, escape_hidden_lines, quote_lines, quote_name

_DECIDE = ("classes", "mode", "segments", "size", "structures", "window")
"""Options that decide what a value of a label or a picture means."""
_LONGEST = 200


def explain_offer(
    job: Job,
    settings: SiteSettings,
    federation: str,
    dataset: str,
    subjects: int,
    asked_by: str = "",
    held_out: int | None = None,
    options: Mapping[str, str] | None = None,
    samples: SampleCounts | None = None,
) -> list[tuple[str, str]]:
    """Questions a person would ask about the job, each with its answer in plain words.

    ``dataset`` and ``subjects`` say what it would run on here, ``asked_by`` the access token that the server named,
    ``held_out`` how many of the subjects only measure the model, where that is settled, ``options`` how the site reads
    the dataset; ``samples`` are those to train and to validate on, or all of them on both sides while that is not
    settled.
    """
    on_gpu = [] if job.gpu is None else [("On a GPU?", on_a_gpu(job.gpu, settings))]
    return [
        ("Who asks?", _asks(job, settings, federation, asked_by)),
        ("What for?", _purpose(job)),
        ("What runs?", _model(job)),
        ("On which data?", _data(job, settings, dataset, subjects, held_out, options or {})),
        ("What leaves this site?", _leaves(job, samples, settings.policy.minimum_cell)),
        ("What stays here?", _stays(job)),
        ("For how long?", _rounds(job)),
        ("What may the researcher change later?", _changes(job)),
        ("With which limits?", _limits(job, settings)),
        *on_gpu,
    ]


def _asks(job: Job, settings: SiteSettings, federation: str, asked_by: str) -> str:
    others = [name for name in job.sites if name != settings.site]
    company = f"together with {', '.join(others)}" if others else "as the only site"
    who = ["The server does not say who asks."]
    if asked_by:
        who = ["Asked by, as the server says:", quote_lines(asked_by)]
    return _in_lines([*who, "Federation:", quote_lines(federation), f"This site would take part {company}."])


def _purpose(job: Job) -> str:
    written = [quote_lines(text) for text in (job.title, job.description) if text]
    if not written:
        return "The researcher wrote nothing about it."
    return _in_lines(["In the researcher's words:", *written])


def _in_lines(parts: Iterable[str]) -> str:
    """Sentences one after the other, and what is quoted between them on lines of its own."""
    text, ends_quoted = "", False
    for part in parts:
        is_quoted = part.startswith(BAR)
        between = "" if not text else "\n" if is_quoted or ends_quoted else " "
        text, ends_quoted = f"{text}{between}{part}", is_quoted
    return text


def _model(job: Job) -> str:
    entry, *others = job.plan.paths
    files = f"{entry} (its whole text is below)"
    if others:
        files = f"{entry}, which uses {', '.join(others)} (the whole text of each is below),"
    trains = f"The Python class {job.plan.class_name} from {files} trains"
    first, *further = trained_model(job)
    return _in_lines([f"{trains} {first}", *further])


def _data(
    job: Job, settings: SiteSettings, dataset: str, subjects: int, held_out: int | None, options: Mapping[str, str]
) -> str:
    labels = ", ".join(f"{value} = {quote_name(name)}" for value, name in sorted(job.needs.labels.items()))
    people = pluralise(subjects, "subject")
    words = [f"Dataset {dataset}, which holds {people} (the plan needs {job.needs.minimum_subjects})."]
    if labels:
        words += ["Labels:", quote_lines(labels)]
    words += _target(job)
    if job.needs.values:
        words += ["Values:", quote_lines("\n".join(f"{name}: {asked}" for name, asked in job.needs.values.items()))]
    words += reading_of(options)
    about = f"about {job.validation_fraction:.0%}"
    if held_out is None:
        words.append(
            f"{about.capitalize()} of the subjects are only used to measure the model, never to train it; approve says "
            "how many before it asks."
        )
    else:
        words.append(
            f"{held_out} of the {people} (asked for: {about}) {'is' if held_out == 1 else 'are'} only used to measure "
            "the model, never to train it."
        )
    if job.validation and held_out is not None:
        words += [f"WARNING: {warning}." for warning in few_measure(held_out, settings.policy.minimum_cell)]
    return _in_lines([*words, "The files are read, never written."])


def _target(job: Job) -> list[str]:
    """What the plan predicts for a subject: its classes with the numbers that it gets for them, or a number."""
    target = job.needs.target
    if target is None:
        return []
    if target.is_category:
        classes = ", ".join(f"{place} = {quote_name(one)}" for place, one in enumerate(target.categories))
        return [f"Classes ({target.name}):", quote_lines(classes)]
    unit = f" in {quote_name(target.unit)}" if target.unit else ""
    return ["Target:", quote_lines(f"{target.name}{unit}")]


def reading_of(options: Mapping[str, str]) -> list[str]:
    """What a person chose about how the dataset is read, as far as it decides what labels and pictures mean.

    >>> reading_of({"on_top": "tumour,liver", "table": "ages.csv"})
    ['Where structures overlap, tumour keeps the voxels, then liver.']
    """
    words = []
    if top := names_in(options.get(ON_TOP, "")):
        keeps = ", then ".join((f"{top[0]} keeps the voxels", *top[1:]))
        words.append(f"Where structures overlap, {escape_hidden_lines(keeps)}.")
    named = {name: text for name, text in options.items() if name in _DECIDE and text}
    for name, text in sorted(named.items()):
        short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        words.append(f"The dataset is read with {name}={escape_hidden_lines(short)}.")
    return words


def few_measure(held_out: int, smallest_cell: int) -> list[str]:
    """A warning if a model is measured on fewer subjects than the policy's smallest cell.

    >>> few_measure(5, 5), few_measure(0, 5)
    ([], [])
    """
    if not 0 < held_out < smallest_cell:
        return []
    who = "only 1 subject measures" if held_out == 1 else f"only {held_out} subjects measure"
    return [f"{who} the model, so a metric that leaves is close to one patient's own value"]


def _parameters(step: StepTerms) -> str:
    values = ", ".join(f"{name}={quote_name(str(value))}" for name, value in sorted(step.parameters.items()))
    return f"({values})" if values else ""


def _leaves(job: Job, samples: SampleCounts | None, smallest_cell: int) -> str:
    alone = job.privacy.release is Release.INDIVIDUALLY
    how = (
        "the server sees this site's own model"
        if alone
        else "the server adds it, and the counts and metrics below, to those of the other sites and keeps only the sum "
        "over sites; they are not masked yet, so a server that breaks this rule could read this site's"
    )
    words = [
        f"After every round {leaving_model(job)}; {how}. Its weights can carry "
        "anything that fits into them, whatever the plan says that it does.",
        *_reported(job, samples, smallest_cell),
        "How many samples it was trained on, which this site counts itself, and the whole seconds it took."
        if alone
        else "How many samples it was trained on, which this site counts itself, only within the sum; the whole "
        "seconds it took, individually.",
        f"From training: {_metrics(job.metrics)}.",
        f"From measuring: {_metrics(job.validation)}.",
        *_spreads(job, smallest_cell),
        "If it fails: a code, a kind of error, a line number of the plan and a sentence the agent wrote.",
    ]
    if job.privacy.steps:
        steps = ", then ".join(f"{one.name} {_parameters(one)}".strip() for one in job.privacy.steps)
        words += ["Before a model leaves, this site changes what was trained by:", quote_lines(steps)]
        if said := _said_by_steps(job):
            words.append(f"What these steps report about themselves leaves with the metrics: {', '.join(said)}.")
    if job.baselines.local:
        words.append("Also a second model, trained on this site's data alone, as a comparison.")
    if job.baselines.local and job.validation and len(job.sites) > 1:
        together = ", alone and together with theirs" if job.baselines.ensemble else ""
        words.append(f"That second model is also sent to the other sites, which measure it on their data{together}.")
    words.append(
        "A model can remember traces of what it was trained on; anyone who receives it could try to find out whether a "
        "known patient was among them."
    )
    return _in_lines(words)


def _spreads(job: Job, smallest_cell: int) -> list[str]:
    """Of which metrics more than a mean leaves."""
    names = [metric.name for metric in job.validation if metric.spread]
    binned = [f"{metric.name} ({metric.bins} bins)" for metric in job.validation if metric.bins is not None]
    words = []
    if binned:
        words.append(
            f"Of {', '.join(binned)} also how many positive and negative cases have a score in which bins, in groups "
            f"of at least {smallest_cell} cases, if the model is measured on at least {smallest_cell} patients here."
        )
    if not names:
        return words
    return [
        *words,
        f"Of {', '.join(names)} also how much the values differ (a sum of squares), if the model is measured on at "
        f"least {smallest_cell} patients here.",
    ]


def _reported(job: Job, samples: SampleCounts | None, smallest_cell: int) -> list[str]:
    """How many bytes can leave beside the weights, where the samples and the privacy steps are known."""
    if samples is None:
        return []
    try:
        most = reported_bytes(job, Measured(*samples, smallest_cell))
    except BadInput:
        # The reasons against the job say which privacy step is not known here.
        return []
    attempts = pluralise(most_attempts(job), "attempt")
    return [
        f"Beside the weights, all that follows can carry at most {most:,} bytes of information per attempt; this site "
        f"makes at most {attempts}."
    ]


def _said_by_steps(job: Job) -> list[str]:
    """The metrics of the privacy steps, where these are known here."""
    try:
        return sorted(declared_metrics(job) - {metric.name for metric in job.metrics})
    except BadInput:
        return []


def _stays(job: Job) -> str:
    words = "Images, labels, file names, patient identifiers, the list of subjects, and everything the plan prints."
    if job.optimiser_state is OptimiserState.CONTINUE_LOCAL:
        words += " The optimiser's state is kept at this site between rounds."
    if job.frozen is not None:
        words += " The frozen part of the model is never sent back: an update has no place for it."
    if job.local is not None:
        words += (
            " The local part of the model, which is trained here, is kept at this site until the experiment ends: an "
            "update has no place for it. A patient who withdraws is in none of its later rounds; what it learned of "
            "them before stays in it."
        )
    return words


def _rounds(job: Job) -> str:
    terms = job.terms
    again = f"up to {pluralise(terms.retries, 'time')}" if terms.retries else "only when the researcher resumes"
    return (
        f"{pluralise(terms.rounds, 'round')} of at most {duration(terms.deadline_s)} each. A round counts when "
        f"{terms.quorum} of {len(job.roster)} sites deliver; one that does not is tried again {again}. This site makes "
        f"at most {pluralise(terms.attempts, 'attempt')} at each round, measurement and baseline, "
        f"{most_attempts(job):,} in all. {_early_end(job)} You can revoke at any moment; the work stops at once."
    )


def _early_end(job: Job) -> str:
    """What an early end, a step and a pause ask this site for; they need no other approval."""
    rule = job.terms.patience
    by_itself = f", or by itself after {rule.in_words}" if rule is not None else ""
    asked = ["the measurement of the last round's model"] if job.validation else []
    asked += ["the baselines, with as many passes as there were rounds"] if job.baselines.local else []
    words = f"It may end before the last round when a person finishes it{by_itself}; "
    words += f"then this site is asked for nothing {'but ' + ' and '.join(asked) if asked else 'more'}."
    if most := most_measurements(job):
        words += (
            " Between rounds, after a pause or at an early end, this site measures the model at most "
            f"{pluralise(most, 'time')}."
        )
    return words


def _changes(job: Job) -> str:
    if not job.parameters:
        return "Nothing. Any other job asks you again."
    found = "; ".join(_bounds(parameter, job) for parameter in job.parameters)
    allowed = "Between rounds, only these values and only inside these bounds:"
    return _in_lines([allowed, quote_lines(found), "Anything else asks you again."])


def _bounds(parameter: HyperParameter, job: Job) -> str:
    now = job.arguments[parameter.name]
    match parameter.kind:
        case "bool":
            return f"{parameter.name} (now {now}): yes or no"
        case "choice":
            choices = ", ".join(map(quote_name, parameter.choices))
            return f"{parameter.name} (now {quote_name(str(now))}): {choices}"
        case _:
            return f"{parameter.name} (now {now}): {parameter.minimum:g} to {parameter.maximum:g}"


def _limits(job: Job, settings: SiteSettings) -> str:
    limits = job.limits
    sandbox = (
        "It runs in a sandbox without network that sees this dataset and nothing else of this machine's data."
        if settings.sandbox is SandboxRule.REQUIRED
        else "WARNING: this site is configured to run it WITHOUT a sandbox when no sandbox is available; then "
        "it can read everything that this account can read, and it can use the network."
    )
    return (
        f"{size_in_words(limits.memory_mb << 20)} of memory, {pluralise(limits.processes, 'process', 'processes')}, "
        f"{pluralise(limits.threads, 'thread')}, "
        f"{size_in_words(limits.tmp_mb << 20)} of temporary files; per pass {duration(limits.cpu_s)} of processor "
        f"time and {duration(limits.wall_s)} altogether. {sandbox}"
    )


def _metrics(metrics: Sequence[MetricSpec]) -> str:
    """Metrics with what they count; a float32 total and a whole weight leave for each."""
    if not metrics:
        return "no metric"
    names = [
        metric.name
        if metric.largest_weight is None
        else f"{metric.name} (over at most {metric.largest_weight:,} {metric.counts}s)"
        for metric in metrics
    ]
    return f"{', '.join(names)}, as totals with the number of values that were added"


def duration(seconds: float) -> str:
    """A length of time in the unit that people would use."""
    for length, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
