"""The options of the commands that use a downloaded model on local data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from archipel.cli.plan_option import Entry

if TYPE_CHECKING:
    from archipel.inference.models import UsedArgument
    from archipel.vocabulary import Value

Model = Annotated[
    list[Path],
    typer.Option("--model", help="A .safetensors file, or a folder with one; several are an ensemble."),
]
OfPlan = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        help="The plan, a Python file or a folder (by default NAME-plan beside the model NAME.safetensors). "
        "The plan is run: use one that you trust.",
    ),
]
PlanClass = Annotated[
    str | None,
    typer.Option("--class", help="The plan class, where the file has several; the model card names it."),
]
Layout = Annotated[str | None, typer.Option("--format", help="The format of the data (by default detected).")]
FormatOptions = Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, an option of the format.")]
MappingFile = Annotated[
    Path | None,
    typer.Option("--mapping", help="A TOML file with the data's mapping of labels, modalities and columns."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE, a hyper-parameter (by default as the downloaded model was trained)."),
]


@dataclass(frozen=True)
class ModelOnData:
    """Which model, with which plan, on data of which form: the options of ``archipel predict`` and ``evaluate``."""

    model: Model
    plan: OfPlan = None
    entry: Entry = None
    class_name: PlanClass = None
    layout: Layout = None
    option: FormatOptions = None
    mapping: MappingFile = None
    set_: Settings = None

    def arguments(self) -> ModelArguments:
        """The same as arguments of ``archipel.predict`` and ``archipel.evaluate``. Raises BadInput."""
        from archipel.cli.scores import arguments
        from archipel.cli.site_dataset import read_options

        return {
            "plan": self.plan,
            "entry": self.entry,
            "plan_class": self.class_name,
            "layout": self.layout,
            "options": read_options(self.option or []),
            "mapping": self.mapping,
            "arguments": arguments(self.set_),
        }


class ModelArguments(TypedDict):
    """Arguments of ``archipel.predict`` and ``archipel.evaluate``."""

    plan: Path | None
    entry: str | None
    plan_class: str | None
    layout: str | None
    options: Mapping[str, str]
    mapping: Path | None
    arguments: Mapping[str, Value]


_SOURCES = {"given": "--set", "experiment": "as the model was trained", "plan": "the plan's default"}


def say_arguments(used: Mapping[str, UsedArgument]) -> None:
    """Say which hyper-parameters were used and where they are from; on standard error, beside the results."""
    from archipel.vocabulary.visible import escape_hidden

    if used:
        words = ", ".join(f"{name}={one.value} ({_SOURCES[one.source]})" for name, one in used.items())
        typer.echo(escape_hidden(f"hyper-parameters: {words}"), err=True)


def limit_threads() -> None:
    """As many threads as a hospital's worker has, so that numbers are the same; call it before numpy is loaded."""
    import os

    from archipel.vocabulary import WorkerLimits
    from archipel.vocabulary.threads import thread_variables

    os.environ.update(thread_variables(WorkerLimits().threads))
