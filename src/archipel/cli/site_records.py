"""``archipel site journal`` and ``archipel site errors``: what happened at a site, proven, shown and released."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from archipel.cli.site_terminal import AsJson, Experiment, State, console, opened, print_json, print_table
from archipel.vocabulary import BadInput

journal_app = typer.Typer(name="journal", help="What happened at this site, provably.", no_args_is_help=True)
errors_app = typer.Typer(name="errors", help="Errors of plans in full; they stay here.", no_args_is_help=True)


@journal_app.command("verify")
def journal_verify(
    state: State,
    head: Annotated[Path | None, typer.Option("--head", help="A head of this journal that the server gave.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove the journal whole, or say which line was changed, removed, inserted or cut off."""
    from archipel.governance import JournalHead
    from archipel.site import journal

    with opened(state) as site:
        fresh = []
        if head is not None:
            try:
                fresh = [JournalHead.model_validate_json(head.read_text(encoding="utf-8"))]
            except (OSError, ValueError) as error:
                raise BadInput(str(head), "is not a journal head", "give the JSON file that the server gave") from error
        proof = journal.verify(site, fresh)
    if as_json:
        print_json({"whole": proof.whole, "lines": proof.lines, "heads": proof.heads, "problems": proof.problems})
    else:
        screen = console()
        for problem in proof.problems:
            screen.print(f"- {problem}")
        verdict = "is whole" if proof.whole else "is NOT whole"
        screen.print(f"the journal {verdict}: {proof.lines} lines, held against {proof.heads} attested heads")
    if not proof.whole:
        raise typer.Exit(1)


@journal_app.command("show")
def journal_show(
    state: State,
    last: Annotated[int, typer.Option("--last", min=1, help="How many of the newest lines.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest lines of the journal."""
    from archipel.site import journal

    with opened(state) as site:
        entries = [entry.model_dump(mode="json") for entry in journal.newest(site, last)]
    if as_json:
        print_json(entries)
    else:
        print_table(["number", "at", "kind", "body"], entries)


@journal_app.command("export")
def journal_export(
    state: State, to: Annotated[Path | None, typer.Argument(help="A file; without it, standard output.")] = None
) -> None:
    """Write the whole journal as JSON lines, the signed head last."""
    from archipel.site import journal
    from archipel.storage import write_private

    with opened(state) as site:
        text = "".join(f"{line}\n" for line in journal.export(site))
    if to is None:
        typer.echo(text, nl=False)
    else:
        write_private(to, text.encode())


@errors_app.command("list")
def errors_list(state: State, as_json: AsJson = False) -> None:
    """List the tasks that failed here."""
    from archipel.site import failures

    with opened(state) as site:
        rows = [_error_row(task) for task in failures.failed(site)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(["experiment", "round", "attempt", "kind", "failure", "released"], rows)
    else:
        console().print("no task failed here")


def _error_row(task: Any) -> dict[str, Any]:
    key = task.key.model_dump(mode="json")
    return {**key, "failure": str(task.failure), "released": task.released, "done_at": task.done_at}


@errors_app.command("show")
def errors_show(
    experiment: Experiment, round_number: Annotated[int, typer.Argument(metavar="ROUND")], state: State
) -> None:
    """Show the full texts of a round's errors; they may quote data."""
    from archipel.site import failures
    from archipel.site.wording import shown

    with opened(state) as site:
        for task in failures.of_round(site, experiment, round_number):
            typer.echo(f"{task.key}: {task.failure}\n{shown(task.detail)}")


@errors_app.command("release")
def errors_release(
    experiment: Experiment, round_number: Annotated[int, typer.Argument(metavar="ROUND")], state: State
) -> None:
    """Let the full texts of a round's errors go to the researcher."""
    from archipel.site import failures

    with opened(state) as site:
        found = failures.release(site, experiment, round_number)
    console().print(f"released {len(found)} error text(s) of {experiment} round {round_number}")
