"""The log of what a worker prints: it stays small, and a disk or a process that is full costs no more than lines."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from archipel.site.sandbox.output import Output

LINE = b"x" * 99 + b"\n"


@pytest.fixture
async def output(tmp_path: Path) -> Output:
    made = Output(tmp_path / "plan.log")
    made._limit = 10 * len(LINE)
    return made


async def test_a_full_log_begins_anew_and_the_one_before_is_kept(output: Output, tmp_path: Path) -> None:
    for number in range(25):
        os.write(output.descriptor, b"%03d" % number + LINE[3:])
        output._drain()
    output.close()
    assert not (tmp_path / "plan.new.log").exists()
    newest = [line[:3] for line in (tmp_path / "plan.log").read_bytes().splitlines()]
    assert newest == [b"020", b"021", b"022", b"023", b"024"]
    assert len((tmp_path / "plan.old.log").read_bytes().splitlines()) == 10


async def test_prints_go_on_when_a_new_log_cannot_be_opened_for_a_while(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(line: bytes) -> None:
        os.write(output.descriptor, line.ljust(99) + b"\n")
        output._drain()

    for _ in range(10):
        say(b"before")
    opened = os.open

    def refused(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", refused)
    say(b"lost")
    monkeypatch.setattr(os, "open", opened)
    # A file that somebody opens now must not get the number that the log had.
    with (tmp_path / "others").open("wb") as other:
        say(b"after")
        other.write(b"theirs")
    assert output.tail().split() == ["after"]
    assert (tmp_path / "others").read_bytes() == b"theirs"
    output.close()
