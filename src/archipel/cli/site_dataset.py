"""``archipel site dataset``: a folder of data becomes an entry of the catalog, is checked, mapped, and shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli import dataset_display
from archipel.cli.dataset_display import describe_extent, listing_problems, print_datasets, print_detected, print_needs
from archipel.cli.json_option import AsJson
from archipel.cli.site_terminal import Screen, State, console, opened, person, print_json
from archipel.vocabulary import BadInput, Watch
from archipel.vocabulary.counting import pluralise
from archipel.vocabulary.remedies import ListFormats
from archipel.vocabulary.visible import escape_hidden_lines

if TYPE_CHECKING:
    from archipel.data import DataMapping
    from archipel.site.services import AddedDataset

dataset_app = typer.Typer(name="dataset", help="The site's datasets.", no_args_is_help=True)
Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="The dataset's name, as `dataset list` shows it.")]
MappingFile = Annotated[Path | None, typer.Option("--mapping", help="A TOML file with the dataset's mapping.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", help="VALUE=NAME, the name of a label, for example 1=anterior.")
]


@dataset_app.command("add")
def dataset_add(
    name: Annotated[str, typer.Argument(help="The name under which researchers ask for it.")],
    path: Annotated[Path, typer.Argument(help="The dataset's folder.")],
    state: State,
    layout: Annotated[
        str | None,
        typer.Option("--format", help="The format of the files (by default detected)."),
    ] = None,
    known: Annotated[
        str | None,
        typer.Option("--layout", help="A known layout, or a TOML file that describes one (format layout)."),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", metavar="TEMPLATE", help="Where images are: {subject}/{subject}_{modality}.nii.gz."),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="TEMPLATE", help="Where label volumes are: labels/{subject}.nii.gz."),
    ] = None,
    mapping: MappingFile = None,
    option: Annotated[list[str] | None, typer.Option("--option", help="NAME=VALUE, an option of the format.")] = None,
    label: Labels = None,
    leave_out_faulty: Annotated[
        bool, typer.Option("--leave-out-faulty", help="Leave out the subjects that have errors.")
    ] = False,
) -> None:
    """Check a folder of data and add it to the catalog; nothing is added while anything is wrong with it."""
    from archipel.site.datasets import UnclearPatients
    from archipel.site.services import datasets

    asked = asked_mapping(mapping, label)
    options = read_options(option or [])
    templates = {"layout": known or "", "image": ",".join(image or ()), "label": ",".join(mask or ())}
    if given := {name: text for name, text in templates.items() if text}:
        layout, options = layout or "layout", options | given
    screen = console()
    reading = f"reading and hashing {describe_extent(datasets.folder_extent(path))} in {path}"
    with opened(state) as site, listing_problems(screen):

        def add(options: Mapping[str, str]) -> AddedDataset:
            with screen.progress(reading) as show:
                return datasets.add(
                    site, name, path, layout, by=person(), options=options, mapping=asked,
                    leave_out_faulty=leave_out_faulty, watch=Watch(show),
                )  # fmt: skip

        try:
            added = add(options)
        except UnclearPatients as error:
            if not (error.as_visits and at_a_terminal()):
                raise
            screen.print(escape_hidden_lines(f"dataset {name} {error.cause}"))
            together = typer.confirm("Are the names in brackets visits of one patient?")
            added = add(options | (error.as_visits if together else error.as_patients))
    print_detected(screen, added.detected)
    dataset_display.print_scan_problems(screen, name, added.problems)
    _print_unmatched(screen, added.unmatched)
    for other in added.same_folder:
        screen.print(f"dataset {other} uses the same folder; a plan that trains on both would see these patients twice")
    entry = added.dataset
    content = dataset_display.short_summary(entry.summary)
    screen.print(escape_hidden_lines(f"dataset {entry.name} added: {pluralise(entry.subjects, 'subject')}; {content}"))


def at_a_terminal() -> bool:
    """Whether a person can answer a question of this command."""
    return sys.stdin.isatty()


def _print_unmatched(screen: Screen, lines: Iterable[str]) -> None:
    """Print what a mapping names and the dataset does not have."""

    for line in lines:
        screen.print(escape_hidden_lines(f"- mapping: {line}"))


def _label(text: str) -> tuple[str, str]:
    value, equals, name = text.partition("=")
    if not (value.isdigit() and equals and name):
        raise BadInput(f"label {text}", "is not VALUE=NAME", "give for example --label 1=anterior")
    return value, name


def read_options(texts: Iterable[str]) -> dict[str, str]:
    """The options of a format; the values of one that is given several times are one list, with commas between them.

    Raises BadInput for a text that is not NAME=VALUE.
    """
    options: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise BadInput(
                f"option {text}", "is not NAME=VALUE", "see archipel site dataset formats", command=ListFormats()
            )
        options[name] = f"{options[name]},{value}" if name in options else value
    return options


def asked_mapping(path: Path | None, labels: list[str] | None) -> DataMapping:
    """The mapping in a TOML file, with label names (VALUE=NAME) given beside it. Raises BadInput as read_mapping does,
    and for a label in another form."""
    from archipel.data import DataMapping, read_mapping

    found = read_mapping(path) if path else DataMapping()
    return found.model_copy(update={"label_names": found.label_names | _label_names(labels)})


def _label_names(labels: list[str] | None) -> dict[str, str]:
    return dict(map(_label, labels or []))


@dataset_app.command("formats")
def dataset_formats() -> None:
    """List the formats a dataset may have, with the options that --option takes for each."""
    from rich.padding import Padding
    from rich.text import Text

    from archipel.data import FORMATS
    from archipel.data.formats import VOLUME_OPTIONS

    screen = console()

    def show(options: Mapping[str, str]) -> None:
        for name, text in options.items():
            screen.print(Padding(Text.assemble((name, "cyan"), f": {text}"), (0, 0, 0, 4)))

    for layout in FORMATS.values():
        screen.print(Text.assemble((layout.name, "bold"), f" ({layout.kind}): {layout.title}"))
        show({name: text for name, text in layout.options.items() if name not in VOLUME_OPTIONS})
    screen.print(Text.assemble(("every format of volumes", "bold"), " takes also:"))
    show(VOLUME_OPTIONS)


@dataset_app.command("list")
def dataset_list(state: State, as_json: AsJson = False) -> None:
    """List the datasets of this site."""
    from archipel.site.services import dataset_documents

    with opened(state) as site:
        entries = dataset_documents.listed(site)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        print_datasets(entries)


@dataset_app.command("check")
def dataset_check(name: Dataset, state: State, as_json: AsJson = False) -> None:
    """Scan a dataset's folder again and print every problem; exit code 1 when data is unusable."""
    from archipel.site.services import datasets

    screen = console()
    with opened(state) as site:
        extent = datasets.extent(site, name)
        with screen.progress(f"reading {describe_extent(extent)} in {extent.root}") as show:
            checked = datasets.check(site, name, watch=Watch(show))
    if as_json:
        print_json(checked.model_dump(mode="json"))
    else:
        dataset_display.print_problems(screen, checked.problems)
        warnings = len(checked.problems) - len(checked.errors)
        counts = ((checked.subjects, "usable subject"), (len(checked.errors), "error"), (warnings, "warning"))
        screen.print(f"dataset {name}: {', '.join(pluralise(count, what) for count, what in counts)}")
        screen.print(f"how good the data is: archipel site dataset report {name}")
        dataset_display.print_how_to_leave_out(screen, name, checked.problems)
    if checked.errors:
        raise typer.Exit(1)


@dataset_app.command("show")
def dataset_show(name: Dataset, state: State, as_json: AsJson = False) -> None:
    """Show a dataset: its content and mapping, what the site discloses about it, and whether it meets the needs of
    plans here.
    """
    from archipel.site.services import dataset_documents

    with opened(state) as site:
        document = dataset_documents.document(site, name)
    if as_json:
        print_json(document.model_dump(mode="json"))
        return
    screen = console()
    screen.print(
        f"dataset {name} ({document.format}, {document.kind}) in {document.root}, scanned {document.scanned_at}"
    )
    if document.counts_are_from_before_a_withdrawal:
        screen.print(
            f"{document.subjects} subjects; patients were withdrawn after the last scan, and what follows still counts"
        )
        screen.print(f"them: archipel site dataset check {name} counts again")
    else:
        screen.print(f"{pluralise(document.subjects, 'subject')}, {pluralise(document.summary.samples, 'sample')}")
    lines = [f"  {line}" for line in dataset_display.summary_lines(document.summary)]
    lines += [f"options: {dataset_display.options(document.options)}"] if document.options else []
    lines += dataset_display.mapping_lines(document.mapping)
    lines.append(f"excluded: {', '.join(document.excluded) or 'none'}")
    lines += dataset_display.disclosed_lines(document.disclosed)
    for line in lines:
        screen.print(escape_hidden_lines(line))
    for experiment, answers in document.needs.items():
        print_needs(screen, experiment, answers)


@dataset_app.command("map")
def dataset_map(name: Dataset, state: State, mapping: MappingFile = None, label: Labels = None) -> None:
    """Give a dataset another mapping and print what that changes. Frozen cohorts stay as they are."""
    from archipel.data import read_mapping
    from archipel.site.services import dataset_documents

    if mapping is None and not label:
        raise BadInput("mapping", "is not given", "name a file with --mapping, or labels with --label 1=anterior")
    screen = console()
    with opened(state) as site:
        asked = read_mapping(mapping) if mapping else None
        changed = dataset_documents.change_mapping(site, name, asked, _label_names(label), by=person())
    if not changed.changed:
        screen.print(f"dataset {name} has this mapping already")
        return
    for line in changed.changed:
        screen.print(f"- {line}")
    for experiment, answers in changed.answers.items():
        print_needs(screen, experiment, answers)
    _print_unmatched(screen, changed.unmatched)
    screen.print(
        f"dataset {name} has a new mapping: the next freeze makes a new version; approved cohorts keep the "
        f"mapping that they have"
    )


@dataset_app.command("exclude")
def dataset_exclude(
    name: Dataset,
    subjects: Annotated[
        list[str], typer.Argument(metavar="SUBJECT...", help="The subject ids, as `dataset check` shows them.")
    ],
    state: State,
) -> None:
    """Leave out subjects whose data is not usable, from every cohort frozen from now on."""
    from archipel.site.services import datasets

    screen = console()
    with opened(state) as site, screen.progress(f"reading dataset {name}") as show:
        entry = datasets.exclude(site, name, subjects, by=person(), watch=Watch(show))
    screen.print(f"dataset {name} now leaves out {', '.join(subjects)}: {entry.subjects} subjects remain")


@dataset_app.command("remove")
def dataset_remove(name: Dataset, state: State) -> None:
    """Take a dataset out of the catalog; its files stay."""
    from archipel.site.services import datasets

    with opened(state) as site:
        datasets.remove(site, name, by=person())
    console().print(f"dataset {name} removed from the catalog; its files are untouched")
