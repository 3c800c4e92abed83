"""A doctor's report as text: findings first, then the numbers."""

import textwrap

from train.data.recording_kinds import EEGS
from train.doctor.check import DoctorReport
from train.doctor.findings import SEVERITIES, Finding
from train.doctor.tables import COMPETITION_CHANGES
from train.tables import aligned

CHANGES = {
    "consensus_changes": "change their consensus between windows",
    "overlaps_differ": "have overlapping windows with different votes",
}
SHOWN_CASES = 3  # of a finding; the JSON file has them all
LONGEST_CASE = 100
WIDTH = 110


def as_text(report: DoctorReport) -> str:
    """The whole report."""
    blocks = [[verdict(report)]]
    for severity in SEVERITIES:
        of_it = [finding for finding in report.findings if finding.severity == severity]
        blocks.append([severity.upper(), *finding_lines(of_it)] if of_it else [])
    blocks += [table_lines(report), electrode_lines(report)]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def verdict(report: DoctorReport) -> str:
    """Whether training or predicting can start."""
    what = "predicting" if report.test_only else "training"
    counts = ", ".join(f"{n} {severity}" for severity, n in report.counts.items() if n) or "nothing"
    return f"{report.competition}: {what} {'can' if report.can_start else 'CANNOT'} start. Found: {counts}."


def finding_lines(findings: list[Finding]) -> list[str]:
    """Findings of one severity, each with its first cases and what to do."""
    place = max(len(finding.where) for finding in findings)
    lines = []
    for finding in findings:
        count, indent = len(finding.cases), " " * 6
        lines.append(f"  {finding.where.ljust(place)}  {count:>6,}  {finding.what}")
        cases = [textwrap.shorten(case, LONGEST_CASE, placeholder=" ...") for case in finding.cases[:SHOWN_CASES]]
        cases += [f"{count - SHOWN_CASES:,} more"] if count > SHOWN_CASES else []
        if finding.cases != (finding.where,):  # a table that is not there needs no example
            lines += textwrap.wrap("; ".join(cases), WIDTH, initial_indent=indent, subsequent_indent=indent)
        lines.append(f"{indent}-> {finding.todo}")
    return lines


def table_lines(report: DoctorReport) -> list[str]:
    """What the tables name, how much was read, and how often experts changed their minds."""
    heads = ["rows", "eegs", "spectrograms", "patients"]
    body = [
        [name, *(f"{counts[head]:,}" if head in counts else "-" for head in heads)]
        for name, counts in report.tables.items()
    ]
    lines = aligned([["", *heads], *body]) if body else []
    lines.append("Looked at: " + ", ".join(f"{len(facts):,} {folder}" for folder, facts in report.facts.items()))
    if report.changes and report.changes["eegs"]:
        theirs = COMPETITION_CHANGES
        for name, what in CHANGES.items():
            ours, share = report.changes[name], 100 * report.changes[name] / report.changes["eegs"]
            usual = f"{theirs[name]:,} of {theirs['eegs']:,}, {100 * theirs[name] / theirs['eegs']:.1f} %"
            lines.append(f"{ours:,} EEGs {what}, {share:.1f} % (normal; the competition: {usual})")
    return lines


def electrode_lines(report: DoctorReport) -> list[str]:
    """The electrodes of the training set, or of the test set where it is alone."""
    folder, numbers = next(((f, lines) for f, lines in report.electrodes().items() if lines), (EEGS.folder, []))
    if not numbers:
        return []
    lines = [["", "missing", "flat", "median", "1 in 20", "worst"]]
    for line in numbers:
        peaks = [line[name] for name in ("largest_median", "largest_95", "largest_max")]
        shares = [f"{100 * line[name]:.2f} %" if line[name] else "0" for name in ("missing", "flat")]
        lines.append([line["electrode"], *shares, *("-" if peak is None else f"{peak:,.0f}" for peak in peaks)])
    return [
        f"{folder} by electrode: samples missing, seconds flat, and the largest distance from the electrode's mean",
        "in a file, uV: median file, one in twenty, worst",
        *aligned(lines),
    ]
