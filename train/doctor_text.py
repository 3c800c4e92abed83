"""A doctor's report as text: findings first, then the numbers."""

import textwrap

from train.doctor import FOLDERS, DoctorReport
from train.doctor_findings import SEVERITIES, Finding
from train.doctor_numbers import electrode_numbers
from train.doctor_tables import COMPETITION_CHANGES
from train.store_index import EEGS
from train.tables import aligned

CHANGES = {
    "consensus_changes": "change their consensus between windows",
    "overlaps_differ": "have overlapping windows with different votes",
}
EXAMPLES = 3  # cases shown of a finding; the JSON file has them all
LONGEST_CASE = 100
WIDTH = 110
HARD = "\N{NO-BREAK SPACE}"  # short cases stay on one line


def as_text(report: DoctorReport) -> str:
    blocks = [verdict(report)]
    for severity in SEVERITIES:
        of_it = [finding for finding in report.findings if finding.severity == severity]
        if of_it:
            blocks.append("\n".join([severity.upper(), *finding_lines(of_it)]))
    blocks += ["\n".join(lines) for lines in (table_lines(report), reading_lines(report)) if lines]
    blocks += ["\n".join(lines) for folder in FOLDERS[EEGS.name] if (lines := electrode_lines(report, folder))][:1]
    return "\n\n".join(blocks)


def verdict(report: DoctorReport) -> str:
    what = "predicting" if report.test_only else "training"
    counts = [(severity, sum(f.severity == severity for f in report.findings)) for severity in SEVERITIES]
    said = ", ".join(f"{n} {severity}" for severity, n in counts if n) or "nothing"
    return f"{report.competition}: {what} {'can' if report.can_start else 'CANNOT'} start. Found: {said}."


def finding_lines(findings: list[Finding]) -> list[str]:
    place = max(len(finding.where) for finding in findings)
    count = max(len(f"{len(finding.cases):,}") for finding in findings)
    indent = " " * (place + count + 6)
    lines = []
    for finding in findings:
        lines.append(f"  {finding.where.ljust(place)}  {f'{len(finding.cases):,}'.rjust(count)}  {finding.what}")
        more = len(finding.cases) - EXAMPLES
        shown = [*finding.cases[:EXAMPLES], *([f"{more:,} more"] if more > 0 else [])]
        if finding.cases != (finding.where,):  # a table that is not there needs no example
            whole = "; ".join(one_case(case) for case in shown)
            wrapped = textwrap.wrap(whole, WIDTH, initial_indent=indent, subsequent_indent=indent)
            lines += [line.replace(HARD, " ") for line in wrapped]
        lines.append(f"{indent}-> {finding.todo}")
    return lines


def one_case(case: str) -> str:
    """Cut where it is long; on one line where it is short."""
    cut = case if len(case) <= LONGEST_CASE else f"{case[: LONGEST_CASE - 4]} ..."
    return cut.replace(" ", HARD) if len(cut) < WIDTH // 3 else cut


def table_lines(report: DoctorReport) -> list[str]:
    heads = ["rows", "eegs", "spectrograms", "patients"]
    body = [
        [name, *(f"{counts[head]:,}" if head in counts else "-" for head in heads)]
        for name, counts in report.tables.items()
    ]
    lines = aligned([["", *heads], *body]) if body else []
    if report.changes and report.changes["eegs"]:
        theirs = COMPETITION_CHANGES
        for name, what in CHANGES.items():
            ours, share = report.changes[name], 100 * report.changes[name] / report.changes["eegs"]
            usual = f"{theirs[name]:,} of {theirs['eegs']:,}, {100 * theirs[name] / theirs['eegs']:.1f} %"
            lines.append(f"{ours:,} EEGs {what}, {share:.1f} % (normal; the competition: {usual})")
    if report.folds:
        rows, patients = (" / ".join(f"{n:,}" for n in report.folds[name]) for name in ("rows", "patients"))
        lines += [
            f"{report.folds['source']}: no patient is in two",
            f"  label rows  {rows}",
            f"  patients    {patients}",
        ]
    return lines


def reading_lines(report: DoctorReport) -> list[str]:
    lines = [["", "files", "damaged", "MB", "seconds", "files/s", "MB/s"]]
    for folder, read in report.reading.items():
        if read["files"]:
            broken = sum(one.error is not None for one in report.facts[folder])
            megabytes, seconds = read["bytes"] / 1e6, read["seconds"]
            numbers = f"{megabytes:,.1f}", f"{seconds:.1f}", f"{read['files'] / seconds:.0f}"
            lines.append([folder, f"{read['files']:,}", str(broken), *numbers, f"{megabytes / seconds:.0f}"])
    if len(lines) == 1:
        return []
    return [*aligned(lines), *extrapolated(report)]


def extrapolated(report: DoctorReport) -> list[str]:
    full = report.extrapolation()
    if not full:
        return []
    seconds = sum(read["seconds"] for read in report.reading.values())
    threads = next(iter(report.reading.values()))["workers"]
    text = (
        f"Extrapolated from these {seconds:.1f} s, not measured: the full competition's {full['eegs']:,} EEGs and "
        f"{full['spectrograms']:,} spectrograms take {full['seconds'] / 60:.1f} minutes at "
        f"{full['eegs_per_second']:.0f} and {full['spectrograms_per_second']:.0f} files a second, as here with "
        f"{threads} threads; longer recordings and a slower disk take longer."
    )
    return textwrap.wrap(text, WIDTH)


def share(value: float) -> str:
    return f"{100 * value:.2f} %" if value else "0"


def electrode_lines(report: DoctorReport, folder: str) -> list[str]:
    """Two electrodes a line, so that all twenty fit beside the rest."""
    numbers = electrode_numbers(report.facts.get(folder, []))
    if not numbers:
        return []

    def cells(line: dict) -> list[str]:
        peaks = [line[name] for name in ("largest_median", "largest_95", "largest_max")]
        return [
            line["electrode"].rjust(6),
            *(share(line[name]) for name in ("missing", "flat")),
            *("-" if peak is None else f"{peak:,.0f}" for peak in peaks),
        ]

    heads = ["", "missing", "flat", "median", "1 in 20", "worst"]
    half = (len(numbers) + 1) // 2
    pairs = zip(numbers[:half], numbers[half:], strict=True)
    lines = aligned([heads * 2, *([*cells(one), *cells(other)] for one, other in pairs)])
    whole = [sum(line[name] for line in numbers) / len(numbers) for name in ("missing", "flat")]
    missing, flat = map(share, whole)
    return [
        f"{folder} by electrode: samples missing (of all {missing}), seconds flat (of all {flat}), and the largest",
        "distance from the electrode's mean in a file, uV: median file, one in twenty, worst",
        *lines,
    ]
