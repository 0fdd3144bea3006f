"""The report of an experiment: one self-contained HTML file that prints well; of a demonstration also its numbers.

The report says what was measured and how: on how many held-out subjects, with which seed, which round's model.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from html import escape as escape_html
from importlib.resources import files
from pathlib import Path
from string import Template

from archipel.researcher.outcome import ExperimentResult, ModelKind, ModelScore, SiteFacts
from archipel.researcher.report_figures import FOUND, TRUE, curves_png, slices_png
from archipel.storage import disk_errors_named
from archipel.vocabulary import worst_site
from archipel.vocabulary.metrics import SAMPLE
from archipel.vocabulary.visible import escape_hidden

_COUNTS = dict(enumerate(("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"), start=1))
_ORDER = {kind: place for place, kind in enumerate(ModelKind)}


def write_report(result: ExperimentResult, folder: Path) -> list[Path]:
    """Write a demonstration's summary.json, curves.png and report.html into ``folder`` (made if it is not there);
    their paths."""
    curves = curves_png(result)
    written = {
        "summary.json": (json.dumps(result.summary(), indent=2, ensure_ascii=False) + "\n").encode(),
        "curves.png": curves,
        "report.html": report_html(result, curves).encode(),
    }
    with disk_errors_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in written.items():
            (folder / name).write_bytes(data)
    return [folder / name for name in written]


def write_page(result: ExperimentResult, path: Path) -> Path:
    """Write the report alone, with its pictures inside. Raises ArchipelError when it cannot be written."""
    page = report_html(result, curves_png(result))
    with disk_errors_named(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    return path


def escape(text: str) -> str:
    """Text of other parties for HTML, with invisible characters written out."""
    return escape_html(escape_hidden(text))


def report_html(result: ExperimentResult, curves: bytes) -> str:
    """The report; ``curves`` is the PNG to embed. It loads nothing from anywhere."""
    template = files("archipel.researcher").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(result.title),
        sentence=_sentence(result),
        numbers=_numbers(result),
        metric=escape(result.metric_name),
        curves=_embedded(curves),
        curves_caption=_curves_caption(result),
        table_caption=_table_caption(result),
        table=_table(result),
        slices=_slices(result),
        method=_method(result),
        limits="".join(f"<li>{escape(limit)}</li>" for limit in _limits(result)),
        footer=_footer(result),
    )


def _sentence(result: ExperimentResult) -> str:
    federated, pooled, local = (
        result.score(ModelKind.FEDERATED),
        result.score(ModelKind.POOLED),
        result.score(ModelKind.LOCAL),
    )
    # Of an experiment, the sites that contributed; in the demo all do.
    trained = [site for site in result.sites if result.is_demonstration or site.seconds is not None] or result.sites
    sites = _COUNTS.get(len(trained), str(len(trained)))
    hospitals = f"{sites} {'' if result.deployed else 'simulated '}{'hospital' if sites == 'One' else 'hospitals'}"
    what = "image" if result.is_demonstration else "sample"
    stayed = f"no {what} left its site" if result.deployed else f"each site's part read its own {what}s only"
    text = f"{hospitals} trained one model in {_rounds(result.rounds)}; {stayed}."
    if federated:
        counted = _counted(result)
        count = f"{result.held_out} held-out {counted}" if result.held_out else f"the held-out {counted}"
        text += f" On {count} it reaches a mean {result.metric_name} of {federated.value:.3f}"
        if pooled and result.ratio is not None:
            text += f", {result.ratio:.1%} of what training on all images in one place reaches ({pooled.value:.3f})"
        text += f"; the best hospital alone reaches {local.value:.3f}." if local else "."
    return escape(text)


def _numbers(result: ExperimentResult) -> str:
    federated, pooled, local = (
        result.score(ModelKind.FEDERATED),
        result.score(ModelKind.POOLED),
        result.score(ModelKind.LOCAL),
    )
    ensemble = result.score(ModelKind.ENSEMBLE)
    worst = _worst(result, federated) if federated else None
    time_of = "in all, on this machine" if result.is_demonstration else "in its finished rounds"
    boxes = [
        ("main", f"{federated.value:.3f}", f"federated {result.metric_name}") if federated else None,
        ("", f"{worst[1]:.3f}", f"at its worst site: {worst[0]}") if worst else None,
        ("", f"{pooled.value:.3f}", "pooled: all images in one place") if pooled else None,
        ("", f"{result.ratio:.1%}", "federated / pooled") if result.ratio is not None else None,
        ("", f"{local.value:.3f}", f"best hospital alone: {local.name}") if local else None,
        ("", f"{ensemble.value:.3f}", "ensemble of the local models") if ensemble else None,
        ("", _duration(result.seconds["total"]), time_of) if "total" in result.seconds else None,
    ]
    return "".join(
        f'<div class="{box[0]}"><b>{escape(box[1])}</b><span>{escape(box[2])}</span></div>' for box in boxes if box
    )


def _curves_caption(result: ExperimentResult) -> str:
    text = (
        "The model of each round was measured at the start of the next one, at the sites. "
        "Dotted lines are models that were trained once, without rounds."
    )
    if result.intervals:
        text += " Bars are 95 % intervals of the mean, over the sites at which enough patients measure."
    if ModelKind.POOLED in result.curves:
        text += " The dashed curve is the same plan on all images in one place, with as many passes."
    return escape(text)


def _worst(result: ExperimentResult, score: ModelScore) -> tuple[str, float] | None:
    return worst_site(result.metric, {site: {result.metric.name: value} for site, value in score.per_site.items()})


def _table_caption(result: ExperimentResult) -> str:
    what = "Mean Dice of the whole structure" if result.is_demonstration else f"Mean {result.metric_name}"
    means = "" if _is_of_samples(result) else f" The mean over all sites is {result.metric.average_in_words}."
    return escape(
        f"{what} on each site's held-out subjects, which no model was trained on; {result.metric.better} is better."
        f"{means}{_about_intervals(result)}{_about_pooled(result)} "
        "A dashed frame marks a local model at its own hospital; the darker the cell, the better."
    )


def _is_of_samples(result: ExperimentResult) -> bool:
    """Whether the mean over all sites is that of all samples, whichever site they are of."""
    return result.metric.counts == SAMPLE and result.metric.bins is None


def _about_pooled(result: ExperimentResult) -> str:
    over = {score.pooled_auc.over for score in result.scores if score.pooled_auc is not None}
    if not over:
        return ""
    return (
        " The pooled AUC compares the cases of all sites with each other, from histograms of their scores. With exact "
        f"scores it is certainly within the bounds, which say nothing about chance; over {'; '.join(sorted(over))}."
    )


def _about_intervals(result: ExperimentResult) -> str:
    over = {score.spread.over(result.metric) for score in result.scores if score.spread is not None}
    if not over:
        return ""
    return (
        f" 95 % intervals of the mean (Student's t) assume that the {result.metric.counts}s are independent, so they "
        f"are too narrow where one patient has several; over {'; '.join(sorted(over))}."
    )


def _table(result: ExperimentResult) -> str:
    structures = list(dict.fromkeys(name for score in result.scores for name in score.per_structure))
    sites = [site.name for site in result.sites]
    together = f"all {_counted(result)}" if _is_of_samples(result) else "all sites"
    has_spread = any(score.spread is not None for score in result.scores)
    interval = [f"95 % interval, by {result.metric.counts}", "standard deviation"] if has_spread else []
    pooled = next((score.pooled_auc.title for score in result.scores if score.pooled_auc is not None), None)
    beside = [*interval, *([pooled] if pooled else [])]
    heads = ["model", together, *beside, *(f"at {site}" for site in sites), "worst site", *structures]
    values = [value for score in result.scores for value in (score.value, *score.per_site.values())]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)

    def cell(value: float | None, own: bool = False) -> str:
        if value is None:
            return "<td>–</td>"
        share = (value - low) / (high - low) if high > low else 1.0
        if result.metric.better == "lower" and high > low:
            share = 1 - share
        return (
            f'<td class="{"own" if own else ""}" style="background:rgba(15,118,110,{0.03 + 0.22 * share:.3f})">'
            f"{value:.3f}</td>"
        )

    rows = []
    for score in sorted(result.scores, key=lambda reached: (_ORDER[reached.kind], reached.name)):
        cells = cell(score.value) + (_interval(result, score) if has_spread else "")
        if pooled:
            cells += f"<td>{escape(score.pooled_auc.in_words) if score.pooled_auc else '–'}</td>"
        cells += "".join(
            cell(score.per_site.get(site), own=score.kind is ModelKind.LOCAL and score.name == site) for site in sites
        )
        worst = _worst(result, score)
        cells += f"<td>{escape(f'{worst[0]} {worst[1]:.3f}') if worst else '–'}</td>"
        cells += "".join(f"<td>{_shown(score.per_structure.get(name))}</td>" for name in structures)
        emphasis = "main" if score.kind is ModelKind.FEDERATED else ""
        rows.append(f'<tr class="{emphasis}"><td>{escape(_model_name(score))}</td>{cells}</tr>')
    head = "".join(f"<th>{escape(heading)}</th>" for heading in heads)
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _interval(result: ExperimentResult, score: ModelScore) -> str:
    spread = score.spread
    if spread is None:
        return "<td>–</td><td>–</td>"
    over = escape(spread.over(result.metric))
    return f'<td title="{over}">{spread.low:.3f} to {spread.high:.3f}</td><td>{spread.deviation:.3f}</td>'


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _model_name(score: ModelScore) -> str:
    return f"{score.name} alone" if score.kind is ModelKind.LOCAL else score.kind


def _slices(result: ExperimentResult) -> str:
    if not result.slices:
        return ""
    picture = _embedded(slices_png(result.slices, dict(result.label_names)))
    parts = " and ".join(result.label_names.values())
    return (
        "<h2>Held-out subjects, seen</h2>"
        '<p class="caption">One sagittal slice of a held-out subject of each site, the one that cuts most of the true '
        f"structure{f' ({escape(parts)})' if parts else ''}; Dice is that of the whole volume.</p>"
        f'<div class="legend"><span><i style="border-color:{TRUE}"></i>true label</span>'
        f'<span><i style="border-color:{FOUND};border-top-style:dashed"></i>federated model</span></div>'
        f'<figure class="dark"><img alt="Slices with true and predicted contour" src="{picture}"></figure>'
    )


def _method(result: ExperimentResult) -> str:
    how = (
        "a server, and each site a process of its own; mutual TLS between them, training in a sandbox"
        if result.deployed
        else "a simulation: server and sites in one process, the same round loop and the same numbers as deployed"
    )
    sites = "; ".join(_of_a_site(site) for site in result.sites)
    passes = (
        f"FedAvg, {result.rounds} rounds of {_epochs(result.epochs_per_round)} at each site; the model of the last "
        "round, not of the best one"
        if result.is_demonstration
        else f"{result.strategy}, {_rounds(result.rounds)}"
    )
    baselines = (
        f"the same plan, seed and number of epochs ({result.rounds * result.epochs_per_round})"
        if result.is_demonstration
        else "the same plan and seed, as many passes as there were rounds"
    )
    rows = [
        ("Data", result.data),
        (_counted(result).capitalize(), sites),
        ("Held out", _held_out(result)),
        ("How it ran", how),
        ("Federated", passes),
        ("Baselines", baselines if len(result.scores) > 1 else ""),
        ("Seed", f"{result.seed}; one run, so differences of a few thousandths mean nothing"),
        ("Plan", f"{result.plan}"),
        ("Plan hash", result.plan_hash),
        ("Job hash", result.job_hash),
        ("Seconds", ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items())),
    ]  # fmt: skip
    return "".join(f"<dt>{escape(name)}</dt><dd>{_code(value)}</dd>" for name, value in rows if value)


def _counted(result: ExperimentResult) -> str:
    """What is counted: sites report samples, of which a subject may have several; the demo has one for each subject."""
    return "subjects" if result.is_demonstration else "samples"


def _held_out(result: ExperimentResult) -> str:
    whose = "chosen" if result.is_demonstration else "of subjects chosen"
    return f"{result.held_out or ''} {_counted(result)}, {whose} by hash of their id; no model trained on one of them"


def _of_a_site(site: SiteFacts) -> str:
    parts = [f"{site.training} training" if site.training is not None else ""]
    parts += [f"{site.held_out} held out" if site.held_out is not None else ""]
    parts += [f"{site.seconds:.2g} s per round" if site.seconds is not None else ""]
    return f"{site.name} {', '.join(part for part in parts if part)}".rstrip()


def _code(value: str) -> str:
    return f"<code>{escape(value)}</code>" if value.startswith(("sha256:", "blake3:")) else escape(value)


def _rounds(count: int) -> str:
    return f"{count} round" if count == 1 else f"{count} rounds"


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _limits(result: ExperimentResult) -> Iterable[str]:
    if not result.is_demonstration:
        yield "One seed: differences that another seed would turn around mean nothing."
        yield "A mean hides the subjects on which the model fails; check single subjects too."
        yield f"It was measured at {', '.join(site.name for site in result.sites)} only; elsewhere it may fail."
        yield "The weights follow from patients' data. No formal privacy guarantee was applied."
        yield "A research model, not a medical device."
        yield from result.notes
        return
    yield "One seed and a small network on crops: it shows that the system works, not how well the task can be done."
    yield "No formal privacy: the server sees each site's own weights in this demonstration."
    if result.deployed:
        yield "All processes ran on one machine over the loopback device; times say nothing about a wide-area network."
    else:
        yield "Nothing went over a network and there was no sandbox: it says nothing about security or network times."
    yield "A research model, not a medical device."
    yield from result.notes


def _footer(result: ExperimentResult) -> str:
    versions = " · ".join(f"{name} {version}" for name, version in result.versions.items())
    where = f"Model: {result.model}; numbers: summary.json" if result.is_demonstration else "Written by Archipel"
    return escape(where + (f" · {versions}" if versions else ""))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
