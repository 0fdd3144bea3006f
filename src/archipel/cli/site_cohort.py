"""``archipel site cohort``: freeze versions of a dataset, compare them, and withdraw patients."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.dataset_display import describe_extent, listing_problems, mapping_lines, options
from archipel.cli.json_option import AsJson
from archipel.cli.site_dataset import Dataset
from archipel.cli.site_terminal import State, console, opened, person, print_json, print_table
from archipel.vocabulary import BadInput, Watch
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.visible import escape_hidden_lines

if TYPE_CHECKING:
    from archipel.data import Preprocessing

cohort_app = typer.Typer(
    name="cohort", help="Cohorts (frozen versions of datasets) and withdrawal.", no_args_is_help=True
)
Fraction = Annotated[
    float | None,
    typer.Option(
        "--validation-fraction",
        help="The fraction of subjects kept for validation (by default as in the last version, at first 0.2).",
    ),
]
OnlyFrom = Annotated[str, typer.Option("--dataset", help="Only from this dataset (by default from every dataset).")]


@cohort_app.command("freeze")
def cohort_freeze(
    dataset: Dataset,
    state: State,
    name: Annotated[str, typer.Option("--name", help="A name for this version.")] = "",
    fraction: Fraction = None,
    pseudonymise: Annotated[
        bool | None,
        typer.Option(
            "--pseudonymise/--no-pseudonymise",
            help="Give plans pseudonyms instead of ids (by default as in the last version).",
        ),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(
            "--spacing", help="Resample volumes to X,Y,Z millimetres, or no (by default as in the last version)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Freeze the dataset's present content as a version; if nothing has changed, the last version stays."""
    from archipel.site.services import cohorts, datasets

    screen, recipe = console(), _recipe(spacing)
    with opened(state) as site, listing_problems(screen):
        extent = describe_extent(datasets.extent(site, dataset))
        with screen.progress(f"reading {extent} of dataset {dataset}") as show:
            version = cohorts.freeze_version(
                site, dataset, by=person(), name=name,
                fraction=fraction, pseudonymise=pseudonymise, recipe=recipe, watch=Watch(show),
            )  # fmt: skip
    if as_json:
        print_json(version.model_dump(mode="json"))
        return
    if not version.is_new:
        screen.print(f"version {version.version} exists already with the same content; no new version was made")
    called = f" {version.name}" if version.name else ""
    split = f"{version.training} train, {version.validation} validate"
    people = pluralise(version.remaining, "subject")
    screen.print(f"dataset {dataset} version {version.version}{called}: {people} ({split}), {version.hash}")
    for warning in version.warnings:
        screen.print(f"warning: {warning}")


def _recipe(spacing: str | None) -> Preprocessing | None:
    from pydantic import ValidationError

    from archipel.data import Preprocessing

    if spacing is None:
        return None
    if spacing == "no":
        return Preprocessing()
    try:
        return Preprocessing.model_validate({"spacing_mm": spacing.split(",")})
    except ValidationError as error:
        raise BadInput(
            f"spacing {spacing}", "is not three sizes of 0.05 to 100 mm", "give for example --spacing 1,1,1"
        ) from error


@cohort_app.command("list")
def cohort_list(
    state: State,
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="Only cohorts of this dataset.")] = None,
    as_json: AsJson = False,
) -> None:
    """List every frozen version."""
    from archipel.site.services import cohort_documents

    with opened(state) as site:
        rows = [one.model_dump(mode="json") for one in cohort_documents.rows(site, dataset)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(
            ["dataset", "version", "name", "remaining", "training", "validation", "pseudonyms", "frozen_at"], rows
        )
    else:
        console().print("no cohort has been frozen yet; freeze one with archipel site cohort freeze DATASET")


@cohort_app.command("show")
def cohort_show(
    dataset: Dataset,
    state: State,
    number: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="The version (by default the newest).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a version: its subjects, who trains and who validates, pseudonyms, and settings. This stays here."""
    from archipel.site.services import cohort_documents

    with opened(state) as site:
        cohort = cohort_documents.document(site, dataset, number)
    if as_json:
        print_json(cohort.model_dump(mode="json"))
        return
    print_table(["subject", "pseudonym", "side", "samples"], [dict(member) for member in cohort.members])
    screen = console()
    called = f" {cohort.name}" if cohort.name else ""
    screen.print(f"dataset {dataset} version {cohort.version}{called}, frozen {cohort.frozen_at}, {cohort.hash}")
    screen.print(f"{cohort.remaining} subjects, {cohort.subjects - cohort.remaining} withdrawn since")
    lines = [f"format {cohort.format}" + (f", options {options(cohort.options)}" if cohort.options else "")]
    lines += mapping_lines(cohort.mapping)
    if cohort.recipe.spacing_mm:
        spacing = " x ".join(f"{size:g}" for size in cohort.recipe.spacing_mm)
        lines.append(f"preprocessing: volumes resampled to {spacing} mm")
    for line in lines:
        screen.print(escape_hidden_lines(line))


@cohort_app.command("diff")
def cohort_diff(
    dataset: Dataset,
    before: Annotated[int, typer.Argument(metavar="VERSION")],
    state: State,
    after: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="The other version (by default the dataset as it is now).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions, by the name of each subject. This stays here."""
    from archipel.site.services import cohorts

    screen = console()
    waiting = screen.progress(f"reading dataset {dataset}")
    with opened(state) as site, listing_problems(screen), waiting as show:
        difference = cohorts.compare(site, dataset, before, after, watch=Watch(show))
    if as_json:
        print_json(difference.model_dump(mode="json"))
        return
    for what in ("added", "removed", "changed", "settings"):
        for line in getattr(difference, what):
            screen.print(f"{what if what != 'settings' else 'changed'}: {escape_hidden_lines(line)}")
    if difference.nothing:
        screen.print("nothing differs")


@cohort_app.command("withdraw")
def cohort_withdraw(
    state: State,
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="SUBJECT...", help="The subject ids, as the dataset names them.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", help="An opt-out list: one subject per line.")] = None,
    dataset: OnlyFrom = "",
    reason: Annotated[
        str, typer.Option("--reason", help="The reason; it is kept at this site and is not in the journal.")
    ] = "",
) -> None:
    """Withdraw patients from every dataset, cohort and round from now on; approvals stay valid."""
    from archipel.site.services import withdrawals

    listed = withdrawals.read_list(file) if file is not None else ()
    screen = console()
    with opened(state) as site, screen.progress("withdrawing") as show:
        done = withdrawals.withdraw(
            site, subjects or [], by=person(), listed=listed, dataset=dataset, reason=reason, watch=Watch(show)
        )
    for unknown_subject in done.mistyped:
        near = " or ".join(map(shlex.quote, unknown_subject.suggestions))
        near = f"; did you mean {near}?" if near else ""
        where = f"dataset {dataset}" if dataset else "any dataset here"
        screen.print(escape_hidden_lines(f"{unknown_subject.subject} matches no subject in {where}{near}"))
    for other in done.also_there:
        screen.print(escape_hidden_lines(f"{other.subject} {other}"))
    if done.search_was_stopped:
        screen.print("the search for other ids of these patients was stopped; give the command again to search")
    if not done.patients and not done.mistyped:
        screen.print("they are withdrawn already")
        return
    unknown = done.unknown_listed + len(done.mistyped)
    if done.unknown_listed:
        who = "them" if unknown == done.asked else f"{done.unknown_listed} of them"
        screen.print(f"no dataset here contains {who}; a dataset that contains them later leaves them out")
    for name in done.datasets:
        screen.print(f"dataset {name} leaves them out")
    for cohort in done.cohorts:
        screen.print(f"dataset {cohort.dataset} version {cohort.version} has {cohort.remaining} subjects left")
    for damaged in done.unreadable:
        screen.print(
            f"dataset {damaged.dataset} version {damaged.version} was changed by hand and cannot be read: no task runs "
            "on it; see archipel site journal verify"
        )
    if not done.mistyped:
        screen.print(f"{done.patients} withdrawn and excluded from the next task on; existing approvals stay valid")
        return
    here = done.asked - unknown
    screen.print(
        f"{here} of {done.asked} {'is a patient' if here == 1 else 'are patients'} here, withdrawn from the next task "
        "on; the others are noted, and a dataset that contains them later leaves them out"
    )
    raise typer.Exit(1)


@cohort_app.command("reinstate")
def cohort_reinstate(
    subject: Annotated[str, typer.Argument(help="The subject who was withdrawn by mistake.")],
    state: State,
    dataset: OnlyFrom = "",
) -> None:
    """Undo a mistaken withdrawal, for versions frozen from now on; earlier ones stay without the patient."""
    from archipel.site.services import withdrawals

    with opened(state) as site:
        withdrawals.reinstate(site, subject, by=person(), dataset=dataset)
    console().print("reinstated; freeze the dataset again and approve the new version")
