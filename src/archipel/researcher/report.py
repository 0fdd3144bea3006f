"""``demo-results/``: summary.json, curves.png and a report in one self-contained HTML file that prints well.

The report says what was measured and how: on how many held-out subjects, with which seed, which round's model.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from archipel.researcher.outcome import DemoResult, ModelKind, ModelScore
from archipel.researcher.report_figures import FOUND, TRUE, curves_png, slices_png
from archipel.storage import disk_errors_named

_COUNTS = dict(enumerate(("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine"), start=1))
_ORDER = {kind: place for place, kind in enumerate(ModelKind)}


def write_report(result: DemoResult, folder: Path) -> list[Path]:
    """Write summary.json, curves.png and report.html into ``folder`` (made if it is not there); their paths."""
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


def report_html(result: DemoResult, curves: bytes) -> str:
    """The report; ``curves`` is the PNG to embed. It loads nothing from anywhere."""
    template = files("archipel.researcher").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(result.title),
        sentence=_sentence(result),
        numbers=_numbers(result),
        curves=_embedded(curves),
        curves_caption=_curves_caption(result),
        table=_table(result),
        slices=_slices(result),
        method=_method(result),
        limits="".join(f"<li>{escape(limit)}</li>" for limit in _limits(result)),
        footer=_footer(result),
    )


def _sentence(result: DemoResult) -> str:
    federated, pooled, local = (
        result.score(ModelKind.FEDERATED),
        result.score(ModelKind.POOLED),
        result.score(ModelKind.LOCAL),
    )
    count = _COUNTS.get(len(result.sites), str(len(result.sites)))
    hospitals = f"{count} {'' if result.deployed else 'simulated '}{'hospital' if count == 'One' else 'hospitals'}"
    stayed = "no image left its site" if result.deployed else "each site's part read its own images only"
    text = f"{hospitals} trained one model in {result.rounds} rounds; {stayed}."
    if federated:
        text += f" On {result.held_out} held-out subjects it reaches a mean Dice of {federated.dice:.3f}"
        if pooled and result.ratio is not None:
            text += f", {result.ratio:.1%} of what training on all images in one place reaches ({pooled.dice:.3f})"
        text += f"; the best hospital alone reaches {local.dice:.3f}." if local else "."
    return escape(text)


def _numbers(result: DemoResult) -> str:
    federated, pooled, local = (
        result.score(ModelKind.FEDERATED),
        result.score(ModelKind.POOLED),
        result.score(ModelKind.LOCAL),
    )
    ensemble = result.score(ModelKind.ENSEMBLE)
    boxes = [
        ("main", f"{federated.dice:.3f}", "federated Dice") if federated else None,
        ("", f"{pooled.dice:.3f}", "pooled: all images in one place") if pooled else None,
        ("", f"{result.ratio:.1%}", "federated / pooled") if result.ratio is not None else None,
        ("", f"{local.dice:.3f}", f"best hospital alone: {local.name}") if local else None,
        ("", f"{ensemble.dice:.3f}", "ensemble of the local models") if ensemble else None,
        ("", _duration(result.seconds["total"]), "in all, on this machine") if "total" in result.seconds else None,
    ]
    return "".join(
        f'<div class="{box[0]}"><b>{escape(box[1])}</b><span>{escape(box[2])}</span></div>' for box in boxes if box
    )


def _curves_caption(result: DemoResult) -> str:
    text = (
        "The model of each round was measured at the start of the next one, at the sites. "
        "Dotted lines are models that were trained once, without rounds."
    )
    if ModelKind.POOLED in result.curves:
        text += " The dashed curve is the same plan on all images in one place, with as many passes."
    return escape(text)


def _table(result: DemoResult) -> str:
    structures = list(dict.fromkeys(name for score in result.scores for name in score.per_structure))
    sites = [site.name for site in result.sites]
    heads = ["model", "all subjects", *(f"at {site}" for site in sites), *structures]
    values = [value for score in result.scores for value in (score.dice, *score.per_site.values())]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)

    def cell(value: float | None, own: bool = False) -> str:
        if value is None:
            return "<td>–</td>"
        share = (value - low) / (high - low) if high > low else 1.0
        return (
            f'<td class="{"own" if own else ""}" style="background:rgba(15,118,110,{0.03 + 0.22 * share:.3f})">'
            f"{value:.3f}</td>"
        )

    rows = []
    for score in sorted(result.scores, key=lambda reached: (_ORDER[reached.kind], reached.name)):
        cells = cell(score.dice) + "".join(
            cell(score.per_site.get(site), own=score.kind is ModelKind.LOCAL and score.name == site) for site in sites
        )
        cells += "".join(f"<td>{_shown(score.per_structure.get(name))}</td>" for name in structures)
        emphasis = "main" if score.kind is ModelKind.FEDERATED else ""
        rows.append(f'<tr class="{emphasis}"><td>{escape(_model_name(score))}</td>{cells}</tr>')
    head = "".join(f"<th>{escape(heading)}</th>" for heading in heads)
    return f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _model_name(score: ModelScore) -> str:
    return f"{score.name} alone" if score.kind is ModelKind.LOCAL else score.kind


def _slices(result: DemoResult) -> str:
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


def _method(result: DemoResult) -> str:
    how = (
        "a server, and each site a process of its own; mutual TLS between them, training in a sandbox"
        if result.deployed
        else "a simulation: server and sites in one process, the same round loop and the same numbers as deployed"
    )
    sites = "; ".join(
        f"{site.name} {site.training} training, {site.held_out} held out"
        + (f", {site.seconds:.2g} s per round" if site.seconds is not None else "")
        for site in result.sites
    )
    rows = [
        ("Data", result.data),
        ("Subjects", sites),
        ("Held out", f"{result.held_out} subjects, chosen by hash of their id; no model trained on one of them"),
        ("How it ran", how),
        ("Federated", f"FedAvg, {result.rounds} rounds of {_epochs(result.epochs_per_round)} at each site; "
         "the model of the last round, not of the best one"),
        ("Baselines", f"the same plan, seed and number of epochs ({result.rounds * result.epochs_per_round})"),
        ("Seed", f"{result.seed}; one run, so differences of a few thousandths mean nothing"),
        ("Plan", f"{result.plan}"),
        ("Plan hash", result.plan_hash),
        ("Job hash", result.job_hash),
        ("Seconds", ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items())),
    ]  # fmt: skip
    return "".join(f"<dt>{escape(name)}</dt><dd>{_code(value)}</dd>" for name, value in rows if value)


def _code(value: str) -> str:
    return f"<code>{escape(value)}</code>" if value.startswith(("sha256:", "blake3:")) else escape(value)


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def _limits(result: DemoResult) -> Iterable[str]:
    yield "One seed and a small network on crops: it shows that the system works, not how well the task can be done."
    yield "No formal privacy: the server sees each site's own weights in this demonstration."
    if result.deployed:
        yield "All processes ran on one machine over the loopback device; times say nothing about a wide-area network."
    else:
        yield "Nothing went over a network and there was no sandbox: it says nothing about security or network times."
    yield "A research model, not a medical device."
    yield from result.notes


def _footer(result: DemoResult) -> str:
    versions = " · ".join(f"{name} {version}" for name, version in result.versions.items())
    return escape(f"Model: {result.model}; numbers: summary.json" + (f" · {versions}" if versions else ""))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
