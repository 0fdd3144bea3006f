"""Figures for a monitoring system, in the text format that Prometheus reads (version 0.0.4).

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from archipel.server.experiments import Figure, figures
from archipel.server.rest.context import context_of
from archipel.server.rest.permission import Reader

router = APIRouter(prefix="/v1", tags=["health"])


class Figures(PlainTextResponse):
    """An answer in that format."""

    media_type = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics", summary="Figures for Prometheus", response_class=Figures)
def metrics(request: Request, _token: Reader) -> Figures:
    """Sites that are connected, experiments by state, and of each experiment its rounds, seconds and sites' tasks.

    Experiments that ended more than a day ago are counted by their state only.
    """
    context = context_of(request)
    federation = context.federation
    sites = [site.site for site in federation.registry.sites()]
    found = figures.figures(federation.database, sites, context.connected(), context.now())
    return Figures(exposed(found))


def exposed(found: Iterable[Figure]) -> str:
    r"""The figures as text, one line each.

    >>> print(exposed([Figure("rounds_total", "Rounds.", True, ("experiment",), [(("a\"b",), 3)])]), end="")
    # HELP rounds_total Rounds.
    # TYPE rounds_total counter
    rounds_total{experiment="a\"b"} 3
    """
    lines = []
    for figure in found:
        lines += [
            f"# HELP {figure.name} {figure.meaning}",
            f"# TYPE {figure.name} {'counter' if figure.is_counter else 'gauge'}",
        ]
        for values, number in figure.values:
            labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(figure.labels, values, strict=True))
            lines.append(f"{figure.name}{{{labels}}} {number:.17g}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
