"""Preflight: whether a job's plan can train here, from the data, this site's rules and this machine; no plan runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from archipel.data import Cohort, RawSource, Sample, Verdict, split
from archipel.site.approval import duration, suitability
from archipel.site.checks.findings import CheckFinding, Notes, Sign
from archipel.site.datasets import BESIDE, Dataset, Estimate, estimated, integrity, off_scale, split_leakage
from archipel.site.gpus import gpu_rows
from archipel.site.state import StateFolder
from archipel.vocabulary import UNWATCHED, GpuTerms, Job, Watch

MOST_SHOWN = 20
"""How many findings of one kind are named one by one."""


class Preflight:
    """The checks of one job on one cohort; everything that is found goes into ``notes``."""

    def __init__(
        self,
        site: StateFolder,
        job: Job,
        entry: Dataset,
        cohort: Cohort,
        notes: Notes,
        watch: Watch = UNWATCHED,
    ) -> None:
        self._site, self._job, self._entry, self._cohort, self._notes = site, job, entry, cohort, notes
        self._watch = watch

    def look(self, dummy: Mapping[str, float]) -> None:
        """Check everything; ``dummy`` are the figures of a dummy run, without which memory and time are unknown.

        If files are not what was frozen, this is to be fixed first, and nothing that depends on them is checked.
        Raises Cancelled when the watch stops it.
        """
        self._needs_and_rules()
        if self._job.gpu is not None:
            self._gpu(self._job.gpu)
        training, validation = self._split()
        if not self._files():
            return
        self._duplicates(training, validation)
        estimate = estimated(self._site.database, self._entry, self._cohort)
        self._disk(estimate.size)
        if dummy:
            self._memory(estimate.content, dummy)
            self._time(len(training), estimate, dummy)

    def _needs_and_rules(self) -> None:
        for answer in suitability.needs_met(self._job, self._entry, self._cohort):
            sign = Sign.FIX if answer.verdict is Verdict.NOT_MET else Sign.GO
            sentence = f"{answer.verdict}: {answer.why}" if answer.why else str(answer.verdict)
            self._notes.findings.append(CheckFinding(what=answer.need, sign=sign, message=sentence))
        if any(one.minimum is not None or one.maximum is not None for one in self._job.needs.values.values()):
            self._scales()
        for reason in suitability.rules_against(self._site, self._job, self._entry, self._cohort):
            self._notes.fix("this site's rules", reason)

    def _gpu(self, asked: GpuTerms) -> None:
        """Whether a GPU that the owner named can be used and has the memory; without one the rules say what follows."""
        rows = gpu_rows(self._site.settings)
        if not rows and not asked.required:
            self._notes.go("GPU", "this site's owner named none: the job runs on the CPU here")
        found = False
        for row in rows:
            if row.problem is not None:
                self._notes.fix(f"GPU {row.name}", row.problem)
            elif row.memory_mb_each < asked.memory_mb:
                less = f"{row.memory_mb_each} MiB for one experiment; the job asks for {asked.memory_mb}"
                self._notes.look(f"GPU {row.name}", less)
            else:
                found = True
                self._notes.go(f"GPU {row.name}", f"{row.model}, {row.memory_mb_each} MiB for one experiment")
        if rows and not found and all(row.problem is None for row in rows):
            self._notes.fix("GPU", "none has enough memory: ask the researcher for less, or name a larger one")

    def _scales(self) -> None:
        """Name the files whose numbers are not on the plan's scale; a file that cannot be read is named by others."""
        found = list(off_scale.files(self._site.database, self._entry, self._cohort, self._job.needs, self._watch))
        for one in found[:MOST_SHOWN]:
            self._notes.look(f"values of {one.input}", f"{one.place} holds {one.minimum:.6g} to {one.maximum:.6g}")
        if len(found) > MOST_SHOWN:
            self._notes.look("values", f"and {len(found) - MOST_SHOWN} files more")

    def _split(self) -> tuple[Sequence[Sample], Sequence[Sample]]:
        source = RawSource(Path(self._entry.root), self._cohort)
        training, validation = split(source, self._cohort, self._job.validation_fraction, self._job.needs)
        sides = [len({sample.subject for sample in side.samples}) for side in (training, validation)]
        self._notes.number("training_samples", len(training))
        self._notes.number("validation_samples", len(validation))
        sentence = f"{sides[0]} subjects train, {sides[1]} validate"
        if self._job.validation and not sides[1]:
            self._notes.look("split", f"{sentence}: the plan's validation metrics stay empty here")
        else:
            self._notes.go("split", sentence)
        return training.samples, validation.samples

    def _files(self) -> bool:
        """Whether the cohort's files are there and as they were frozen."""
        issues = integrity.faults(self._site.database, self._entry, self._cohort, self._watch)
        for issue in issues[:MOST_SHOWN]:
            self._notes.fix(issue.thing, f"{issue.cause}; {issue.remedy}")
        if len(issues) > MOST_SHOWN:
            self._notes.fix("files", f"{len(issues) - MOST_SHOWN} more cannot be used either; fix these first")
        if not issues:
            self._notes.go("files", "all are the same as when they were frozen")
        return not issues

    def _duplicates(self, training: Sequence[Sample], validation: Sequence[Sample]) -> None:
        pairs, thing, uncompared = split_leakage.across(
            self._site.database, self._entry, self._cohort, training, validation, self._watch
        )
        # Two patients may have equal rows, but never equal images. The quality report has the same two severities.
        is_table = self._entry.kind == "table"
        say = self._notes.look if is_table else self._notes.fix
        for trained, validated in pairs[:MOST_SHOWN]:
            both = f"{trained} (trains) and {validated} (validates)"
            if is_table:
                say("duplicates", f"{both} are equal in every column; exclude one of them if they are one patient")
            else:
                say("duplicates", f"{both} hold the same {thing}; exclude one of them")
        if len(pairs) > MOST_SHOWN:
            say("duplicates", f"and {len(pairs) - MOST_SHOWN} more; the quality report groups them")
        few = f"{uncompared} samples are too small to be compared"
        if uncompared:
            self._notes.look("duplicates", few if pairs else f"no {thing} was found on both sides of the split; {few}")
        elif not pairs:
            self._notes.go("duplicates", f"no {thing} is on both sides of the split")

    def _disk(self, size: int) -> None:
        room, free = self._site.settings.cache_mb << 20, shutil.disk_usage(self._site.folder).free
        self._notes.number("prepared_mib", size / 2**20)
        sentence = f"about {_mib(size)} MiB for prepared samples"
        if size > room:
            self._notes.fix("disk", f"{sentence}, and cache_mb in site.toml allows {_mib(room)}; raise it")
        elif size > free:
            self._notes.fix(
                "disk", f"{sentence}, and {_mib(free)} MiB are free in {self._site.folder}; free space there"
            )
        else:
            self._notes.go("disk", f"{sentence}; {_mib(min(room, free))} MiB may be used")

    def _memory(self, size: int, dummy: Mapping[str, float]) -> None:
        allowed = self._job.limits.memory_mb
        least = dummy["dummy_peak_mib"] + _mib(BESIDE * len(self._cohort.samples))
        if least > allowed:
            sentence = f"at least {least:.0f} MiB for {len(self._cohort.samples)} samples, however they are read"
            self._notes.number("memory_mib", least)
            self._notes.fix("memory", f"{sentence}; the job allows {allowed}: ask the researcher for more")
            return
        # If all samples are kept as two tensors, the default of plans, these take about twice the prepared size.
        peak = least + 2 * _mib(size)
        self._notes.number("memory_mib", peak)
        sentence = f"about {peak:.0f} MiB if all samples are kept in memory; the job allows {allowed}"
        if peak > allowed:
            self._notes.look("memory", f"{sentence}: ask the researcher for more, or for a plan with in_memory = False")
        else:
            self._notes.go("memory", sentence)

    def _time(self, samples: int, estimate: Estimate, dummy: Mapping[str, float]) -> None:
        limits, terms = self._job.limits, self._job.terms
        times = samples / max(1.0, dummy["dummy_training_samples"])
        is_volume = bool(estimate.voxels and dummy["dummy_voxels"])
        if is_volume:
            times *= estimate.voxels / dummy["dummy_voxels"]
        seconds = dummy["dummy_round_s"] * times
        self._notes.number("round_s", seconds)
        sentence = (
            f"{_about(seconds)} per round, {_about(seconds * terms.rounds)} for {terms.rounds} rounds, if each "
            f"{'voxel' if is_volume else 'sample'} takes as long as in the dummy step"
        )
        longest = min(terms.deadline_s, limits.wall_s)
        if seconds > longest:
            ask = f"a round may take {duration(longest)}: ask the researcher for a longer deadline"
            self._notes.fix("time", f"{sentence}; {ask}")
        else:
            self._notes.go("time", sentence)


def _about(seconds: float) -> str:
    return "less than a second" if seconds < 1 else f"about {duration(seconds)}"


def _mib(size: int) -> int:
    return -(-size // 2**20)
