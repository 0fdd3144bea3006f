"""``archipel site check``: try an experiment in the real sandbox before a round is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from archipel.cli.json_option import AsJson
from archipel.cli.site_terminal import Screen, State, console, opened, person, print_json
from archipel.vocabulary.visible import escape_hidden

if TYPE_CHECKING:
    from archipel.site.checks import CheckResult

NAME = "The experiment's name, as archipel site plans lists it."


def check(
    state: State,
    experiment: Annotated[str, typer.Argument(help=NAME, show_default=False)] = "",
    job: Annotated[str, typer.Option("--job", help="The experiment's name, as an option.", show_default=False)] = "",
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Explain the job as if it ran on this dataset.")
    ] = None,
    step: Annotated[
        str, typer.Option("--step", help="The last step to run: dummy, preflight (after dummy) or local (after both).")
    ] = "preflight",
    passes: Annotated[int, typer.Option("--passes", min=1, help="Number of training passes in the local step.")] = 5,
    plan_was_read: Annotated[
        bool,
        typer.Option(
            "--i-have-read-the-plan", help="Allow the local step to read data before approval; the journal records it."
        ),
    ] = False,
    job_hash: Annotated[
        str | None,
        typer.Option("--job-hash", help="Check only the job with this hash."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try an experiment here: generated data, then this machine and dataset, then this site alone.

    Nothing leaves the site. The exit code is 1 when something has to be fixed.
    """
    import asyncio

    from archipel.site.checks import CheckStep
    from archipel.site.services import checks, offer_documents
    from archipel.vocabulary import BadInput
    from archipel.vocabulary.remedies import ListOffers

    named = {experiment, job} - {""}
    if len(named) != 1:
        cause = f"is given as {' and '.join(sorted(named))}" if named else "is missing"
        raise BadInput(
            "the experiment to check",
            cause,
            "name one experiment, as archipel site plans lists them",
            command=ListOffers(),
        )
    name = named.pop()
    if step not in set(CheckStep):
        raise BadInput(f"step {step}", "is not a step of the check", f"choose one of {', '.join(CheckStep)}")
    with opened(state) as site:
        name = offer_documents.full_name(site, name)
        screen = console()
        say = (lambda result: None) if as_json else (lambda result: _say(screen, result))
        with screen.progress(f"checking {name}") as show:
            checking = checks.check(
                site, name, CheckStep(step),
                by=person(), dataset=dataset, passes=passes, plan_was_read=plan_was_read, job_hash=job_hash,
                say=say, show=show,
            )  # fmt: skip
            report = asyncio.run(checking)
    if as_json:
        print_json(report.model_dump(mode="json"))
    if not report.go:
        raise typer.Exit(1)


def _say(screen: Screen, result: CheckResult) -> None:

    screen.print(f"{result.step}: {'go' if result.go else 'fix this first'}")
    for one in result.findings:
        screen.print(
            f"  {one.sign:<4}  {escape_hidden(one.what)}" + (f": {escape_hidden(one.message)}" if one.message else "")
        )
