"""BIDS validation: what the BIDS validator finds wrong with a tree, with the schema that comes with it.

It runs in a process of its own that may read the dataset's folder, and can neither write, start a process nor reach the
network. It says what breaks the standard; whether a sample can be used is decided without it, so that its lines are
warnings.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from archipel.data.files import LeavesOut
from archipel.data.formats.volume_names import is_of
from archipel.data.samples import DataIssue

PATIENCE_SECONDS = 600
_SHOWN = 3
"""How many places of one kind of fault are named."""


class _Finding(BaseModel):
    """One of the validator's issues; what else it says of one is not used."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: str
    part: str | None = Field(None, alias="subCode")
    severity: str | None = None
    location: str | None = None
    line: int | None = None


class _Findings(BaseModel):
    """The validator's issues, and what their codes mean."""

    issues: tuple[_Finding, ...]
    meanings: dict[str, str] = Field({}, alias="codeMessages")


class _Output(BaseModel):
    """What the validator writes."""

    issues: _Findings


def validate(
    root: Path, leaves_out: LeavesOut = lambda _: False, patience: float = PATIENCE_SECONDS
) -> list[DataIssue]:
    """The validator's errors as warnings, one line per kind, or why there are none.

    Errors in the files of
    subjects who are left out are dropped.
    """
    command = _command()
    if command is None:
        return [_said(root, "was not validated: the BIDS validator is not installed", "pip install archipel[bids]")]
    places = _leading_elsewhere(root)
    if places:
        named = [place for place in places if not is_of(place, leaves_out)]
        cause = "was not validated because it contains symbolic links to folders or to files outside it" + (
            f" ({_some(named)})" if named else ""
        )
        return [_said(root, cause, "replace each link by a copy of its target, or set the option validate=no")]
    with tempfile.TemporaryDirectory(prefix="archipel-bids-") as home:
        surroundings = {
            "PATH": os.defpath,
            "HOME": home,
            "DENO_DIR": home,
            "NO_COLOR": "1",
            "DENO_NO_UPDATE_CHECK": "1",
        }
        try:
            ended = subprocess.run(
                command, env=surroundings, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience,
                check=False,
            )  # fmt: skip
            return _lines(_Output.model_validate(json.loads(ended.stdout)).issues, leaves_out)
        except subprocess.TimeoutExpired:
            cause = f"was not validated: the BIDS validator took longer than {patience:g} seconds"
            return [_said(root, cause, "run it by hand, or set the option validate=no")]
        except (OSError, ValueError) as error:
            cause = f"was not validated: the BIDS validator failed ({type(error).__name__})"
            return [_said(root, cause, "run it by hand, or set the option validate=no")]


def _leading_elsewhere(root: Path) -> list[str]:
    """Links that the validator would follow out of the tree, or in circles; it does not enter hidden folders."""
    real, found, folders = root.resolve(), [], [root]
    # Not os.walk, which calls itself for each folder inside another.
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for path in (Path(entry.path) for entry in entries):
                is_hidden_folder = path.name.startswith(".") and path.is_dir()
                if path.is_symlink() and not is_hidden_folder:
                    if path.is_dir() or not Path(os.path.realpath(path)).is_relative_to(real):
                        found.append(path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode())
                elif path.is_dir() and not is_hidden_folder:
                    folders.append(path)
    return sorted(found)


def _command() -> list[str] | None:
    bundle = importlib.util.find_spec("bids_validator_deno")
    if bundle is None or bundle.origin is None or importlib.util.find_spec("deno") is None:
        return None
    from deno import find_deno_bin

    script = Path(bundle.origin).with_name("bids-validator.js")
    # Deno's list of folders is separated by commas, which a name may contain: the root is the working folder instead.
    rights = ["--no-prompt", "--no-remote", "--cached-only", "--allow-env", "--allow-read=."]
    return [os.fsdecode(find_deno_bin()), "run", *rights, str(script), "--format", "json", "--ignoreWarnings", "."]


def _lines(findings: _Findings, leaves_out: LeavesOut) -> list[DataIssue]:
    kinds: dict[tuple[str, str], list[_Finding]] = defaultdict(list)
    for issue in findings.issues:
        if issue.severity == "error" and not is_of(issue.location or "", leaves_out):
            kinds[issue.code, issue.part or ""].append(issue)
    lines = []
    for (code, part), issues in sorted(kinds.items()):
        shown = _some([_place(issue) for issue in issues])
        sentence = " ".join(findings.meanings.get(code, "").split()).split(". ")[0].rstrip(".")
        cause = f"is not BIDS ({code}{f' {part}' if part else ''}: {sentence or 'see the standard'})"
        remedy = "fix it as the standard asks; volumes are used as they are"
        lines.append(DataIssue(thing=shown, cause=cause, remedy=remedy, severity="warning"))
    return lines


def _some(places: list[str]) -> str:
    return ", ".join(places[:_SHOWN]) + (f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else "")


def _place(issue: _Finding) -> str:
    place = (issue.location or "").lstrip("/") or "the dataset"
    return f"{place} line {issue.line}" if issue.line else place


def _said(root: Path, cause: str, remedy: str) -> DataIssue:
    return DataIssue(thing=root.name, cause=cause, remedy=remedy, severity="warning")
