"""What became of each fault of a drill: held against what must, and against a clean run, to the last digit."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from common.metric import refusals
from common.schema import VOTES
from drilling.broken_datasets import DatasetFault
from drilling.faults import Case, Needs, Reported, expected
from drilling.hidden_test import BASE, ID

WITHOUT = re.compile(r"blend without (.+)")
SAME = 1e-6  # a harmless fault moves no probability by more


@dataclass(frozen=True)
class Finding:
    """One line of the drill's table; `problem` is None when all is as it must be."""

    group: str
    fault: str
    became: str
    named: str
    problem: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What a run in the sandbox left in `folder`."""

    folder: Path

    @cached_property
    def sandbox(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text(encoding="utf-8"))

    @cached_property
    def kernel(self) -> dict[str, Any]:
        """The kernel's own report; empty when it left none."""
        return self.sandbox["kernel"] or {}

    @cached_property
    def lines(self) -> dict[int, list[str]]:
        """eeg_id -> its lines of submission.csv, as written."""
        found: dict[int, list[str]] = {}
        for line in (self.folder / "submission.csv").read_text(encoding="utf-8").splitlines()[1:]:
            found.setdefault(int(line.split(",")[0]), []).append(line)
        return found

    def reported_of(self, eeg_id: int) -> Reported:
        """What the report says of one EEG, its id written ID; left out models in the order of the alphabet."""
        reported: Reported = {}
        for kind in ("repaired", "rebuilt_spectrograms", "fallbacks"):
            entries = [entry for entry in self.kernel.get(kind, []) if entry["eeg_id"] == str(eeg_id)]
            reported[kind] = [
                tuple(in_order(text.replace(str(eeg_id), "ID")) for key, text in entry.items() if key != "eeg_id")
                for entry in entries
            ]
        return reported


def in_order(text: str) -> str:
    names = WITHOUT.fullmatch(text)
    return f"blend without {', '.join(sorted(names[1].split(', ')))}" if names else text


def matches(pattern: str, text: str) -> bool:
    """Whether the text is the pattern, whose "..." stands for anything."""
    return re.fullmatch(re.escape(pattern).replace(re.escape("..."), ".*"), text, re.DOTALL) is not None


def same_report(patterns: Reported, reported: Reported) -> bool:
    must, found = (
        [(kind, *entry) for kind, entries in sorted(one.items()) for entry in entries] for one in (patterns, reported)
    )
    return list(map(len, must)) == list(map(len, found)) and all(map(matches, chain(*must), chain(*found)))


def in_words(reported: Reported) -> str:
    """Why, or what was done."""
    return "; ".join(entry[-1] for entries in reported.values() for entry in entries)


def in_full(reported: Reported) -> str:
    return "; ".join(": ".join(entry) for entries in reported.values() for entry in entries)


def became(reported: Reported) -> str:
    if reported["fallbacks"]:
        return "prior" if reported["fallbacks"][0][0] == "prior" else "other models answered"
    if reported["rebuilt_spectrograms"]:
        return "rebuilt"
    return "repaired" if reported["repaired"] else "answered all the same"


def probabilities(lines: Sequence[str]) -> np.ndarray:
    """(rows, 6) of lines of a submission; NaN where there is no number."""
    rows = [line.split(",")[1:] for line in lines]
    cells = chain(*(row if len(row) == len(VOTES) else [""] * len(VOTES) for row in rows))
    numbers = pl.Series(list(cells), dtype=pl.String).cast(pl.Float64, strict=False).to_numpy()
    return numbers.reshape(-1, len(VOTES))


def problem_of(name: str, case: Case, needs: Needs, run: Outcome, prior: Sequence[float]) -> str | None:
    """What about a recording is not as it must be."""
    answers, sound = (probabilities(run.lines.get(eeg_id, [])) for eeg_id in (ID[name], BASE))
    must, reported = expected(case, needs), run.reported_of(ID[name])
    if len(answers) != case.listed or refusals(answers):
        return f"{len(answers)} rows for {case.listed} of test.csv; {'; '.join(refusals(answers)) or 'they are valid'}"
    if not same_report(must, reported):
        return f"the report must say: {in_full(must) or 'nothing'}; it says: {in_full(reported) or 'nothing'}"
    if case.same and (len(sound) != 1 or np.abs(answers - sound).max() > SAME):
        return "the answer is not that of the sound recording"
    if became(reported) == "prior" and np.abs(answers - np.array(prior)).max() > SAME:
        return "the answer is not the prior"
    return None


def recording_finding(name: str, case: Case, needs: Needs, run: Outcome, prior: Sequence[float]) -> Finding:
    reported = run.reported_of(ID[name])
    return Finding(case.group, name, became(reported), in_words(reported), problem_of(name, case, needs, run, prior))


def dataset_findings(faults: Sequence[DatasetFault], run: Outcome, clean: Outcome) -> list[Finding]:
    """Each faulty dataset named, nothing else left out, and the rest as in the clean run."""
    dropped, findings, explained = run.kernel.get("dropped", []), [], set()
    for fault in faults:
        found = [[line for line in dropped if matches(pattern, line)] for pattern in fault.dropped]
        explained |= {line for lines in found for line in lines}
        lost = [pattern for pattern, lines in zip(fault.dropped, found, strict=True) if not lines]
        problem = f"the report must say: {'; '.join(lost)}" if lost else None
        named = "; ".join(lines[0] for lines in found if lines)
        findings.append(Finding("ensemble", fault.name, fault.became, named, problem))
    layout, models = run.sandbox["layout"], run.kernel.get("models")
    problem = None
    if models != clean.kernel.get("models") or layout != "mixed":
        problem = f"models with weight and folds: {models}; in the clean run: {clean.kernel.get('models')}"
    findings.append(Finding("ensemble", "both mount layouts at once", "all found", f"layout {layout}", problem))
    if more := [line for line in dropped if line not in explained]:
        findings.append(Finding("ensemble", "nothing else left out", "left out", more[0], f"not broken: {more}"))
    return findings


def count_answered(run: Outcome, test_table: Path) -> tuple[int, int]:
    """Rows of test.csv that have a valid answer of their own, and rows."""
    asked = Counter(pl.read_csv(test_table)["eeg_id"].to_list())
    lines = run.lines
    valid = {eeg_id: sum(not refusals(probabilities([line])) for line in lines.get(eeg_id, [])) for eeg_id in asked}
    return sum(min(valid[eeg_id], times) for eeg_id, times in asked.items()), asked.total()


def count_identical(run: Outcome, clean: Outcome, sound: Sequence[int]) -> tuple[int, list[str]]:
    """Sound rows whose lines, and what is reported of them, are those of the clean run; and what differs."""
    lines, clean_lines = run.lines, clean.lines
    different = []
    for eeg_id in sound:
        if lines.get(eeg_id) != clean_lines.get(eeg_id):
            different.append(f"{eeg_id}: {lines.get(eeg_id)} instead of {clean_lines.get(eeg_id)}")
        elif run.reported_of(eeg_id) != clean.reported_of(eeg_id):
            different.append(f"{eeg_id}: the report says {in_words(run.reported_of(eeg_id)) or 'nothing'}")
    return len(sound) - len(different), different
