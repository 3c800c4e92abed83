"""Findings about recordings: from what a look at each file measured."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from common.schema import ELECTRODES, REGIONS
from common.systematic import EXPECTED, another_rate, systematic
from train.data.recording_kinds import EEGS, SPECTROGRAMS
from train.doctor.findings import COSTS_ROWS, STOPS_PREDICTING, STOPS_TRAINING, WORTH_KNOWING, Finding, found
from train.doctor.measure import EKG, SCALP, Facts, Source

OUTLIER_MICROVOLTS = 1000.0  # from the electrode's mean: the largest seizures stay below
MOSTLY = 0.5  # share of a recording from which an electrode counts as flat, a region as without power
LOUD_EKG = 30.0  # times the standard deviation of the median scalp electrode
RESTORE = "download these files again"
NO_NEW_PATIENTS = "a score on this test says nothing about new patients"

Case = Callable[[Facts], tuple[float, str] | None]  # what is lost there, and its words; None where nothing is


def by_file(check: str, severity: str, what: str, todo: str, facts: Sequence[Facts], case: Case) -> list[Finding]:
    """A finding about the files in which `case` sees one, the greatest loss first, then by id."""
    seen = sorted((-lost[0], one.source.id, lost[1]) for one in facts if (lost := case(one)))
    if not seen:
        return []
    cases = [f"{number}: {words}" for _, number, words in seen]
    return found(check, severity, facts[0].source.folder, what, todo, [number for _, number, _ in seen], cases)


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def mostly(shares: np.ndarray, names: Sequence[str]) -> str:
    """Names with their shares, of those that are at least MOSTLY."""
    high = [f"{name} {percent(share)}" for name, share in zip(names, shares, strict=True) if share >= MOSTLY]
    return ", ".join(high[:3]) + (f" and {len(high) - 3} more" if len(high) > 3 else "")


def unusable(missing: Sequence[Source], facts: Sequence[Facts], training: bool) -> list[Finding]:
    """Recordings that are not there or cannot be read."""
    broken = [one for one in facts if one.error]
    sources = [*missing, *(one.source for one in broken)]
    if not sources:
        return []
    folder, is_eeg = sources[0].folder, sources[0].kind is EEGS
    answered = "until then the prior answers their rows" if is_eeg else "the kernel rebuilds the centre from the EEG"
    severity = STOPS_TRAINING if training else COSTS_ROWS if is_eeg else WORTH_KNOWING
    todo = f"{RESTORE}, or take their rows out of train.csv" if training else f"{RESTORE}; {answered}"
    errors = [one.error for one in broken if one.error]
    return [
        *found("missing", severity, folder, "recordings that are not there", todo, [one.id for one in missing]),
        *found("damaged", severity, folder, "damaged recordings", todo, [one.source.id for one in broken], errors),
    ]


def reader_findings(facts: Sequence[Facts]) -> list[Finding]:
    """What the reader repaired, a finding for each kind."""
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for one in sorted(facts, key=lambda one: one.source.id):
        for text in one.repairs:
            kind, _, detail = re.sub(r"^(\d+) of (\d+ \w+): .*", r"shorter than \2: \1", text).partition(": ")
            if kind != "some values are NaN":  # counted by electrode and region
                kinds[kind].append((one.source.id, f"{one.source.id}: {detail}" if detail else str(one.source.id)))
    structural = {text.partition(": ")[0] for one in facts for text in one.structural}
    findings = []
    for kind, cases in sorted(kinds.items()):
        severity, todo = WORTH_KNOWING, "the kit copes"
        if kind in structural:
            todo = f"the structure of these files differs from the others': {RESTORE}"
        if kind == "no channel varies":
            severity, todo = COSTS_ROWS, "nothing to learn there: take their rows out"
        elif kind.startswith("typical amplitude"):
            todo = "are these microvolts? look: train show ID"
        findings += found(f"reader: {kind}", severity, facts[0].source.folder, kind, todo, *zip(*cases, strict=True))
    return findings


def common_structure(facts: Sequence[Facts], training: bool) -> list[Finding]:
    """How so many of the first recordings differ from what is expected that it is no fault of single files."""
    if not facts:
        return []
    differences = systematic([one.structural for one in facts])
    if facts[0].source.kind is EEGS:
        read = [one for one in facts if not one.error]
        expected = [max(one.source.starts, default=0) + EEGS.length for one in read]
        differences += another_rate([one.n_time for one in read], expected)
    severity = STOPS_TRAINING if training else STOPS_PREDICTING
    what = "ways in which the structure of many files differs from what is expected"
    return found("structure", severity, facts[0].source.folder, what, EXPECTED, cases=differences)


def window_findings(facts: Sequence[Facts]) -> list[Finding]:
    """Windows that train.csv cuts where the recording has nothing."""

    def outside(one: Facts) -> list[int]:
        return [start for start in one.source.starts if start < 0 or start + one.source.kind.length > one.n_time]

    def beyond(one: Facts) -> tuple[float, str] | None:
        starts, rate = outside(one), one.source.kind.rate
        where = max(starts, key=abs, default=0) / rate
        return (0, f"{len(starts)} windows, one from {where:g} s, in {one.n_time / rate:g} s") if starts else None

    def nothing(one: Facts) -> tuple[float, str] | None:
        starts = ", ".join(f"{start / one.source.kind.rate:g}" for start in one.empty)
        return (0, f"from {starts} s") if starts else None

    n_outside, n_empty = sum(len(outside(one)) for one in facts), sum(len(one.empty) for one in facts)
    left = f"recordings with windows beyond their start or end ({n_outside:,} windows)"
    missing = "the model sees missing values there: correct the offsets or the files"
    empty = f"recordings with windows without one value ({n_empty:,} windows)"
    return [
        *by_file("window-outside", COSTS_ROWS, left, missing, facts, beyond),
        *by_file("window-empty", COSTS_ROWS, empty, "take their rows out", facts, nothing),
    ]


def names_of(shares: np.ndarray, names: Sequence[str], words: str) -> str:
    """Names of what is missing altogether, behind `words`."""
    gone = [name for name, share in zip(names, shares, strict=True) if share == 1]
    return words + ", ".join(gone) if gone else ""


def gaps(one: Facts) -> tuple[float, str] | None:
    share, never = one.missing.mean(), names_of(one.missing[SCALP], ELECTRODES[SCALP], "; never recorded: ")
    return (share, f"{percent(share)} of its samples{never}") if share else None


def flat(one: Facts) -> tuple[float, str] | None:
    words = mostly(one.flat[SCALP], ELECTRODES[SCALP])
    return (one.flat[SCALP].mean(), words) if words else None


def outlier(one: Facts) -> tuple[float, str] | None:
    largest = np.nan_to_num(one.largest[SCALP])
    peak, electrode = float(largest.max()), ELECTRODES[int(largest.argmax())]
    return (peak, f"{electrode} {peak:,.0f} uV") if peak > OUTLIER_MICROVOLTS else None


def heart(one: Facts) -> tuple[float, str] | None:
    lost = one.missing[EKG] + one.flat[EKG]
    if one.missing[EKG] == 1:
        return lost, "missing"
    if one.flat[EKG] >= MOSTLY:
        return lost, f"flat for {percent(one.flat[EKG])}"
    known = one.spread[SCALP][np.isfinite(one.spread[SCALP])]
    usual = float(np.median(known)) if len(known) else 0.0
    return (lost, f"{one.spread[EKG] / usual:.0f} x the EEG") if 0 < usual * LOUD_EKG < one.spread[EKG] else None


def holes(one: Facts) -> tuple[float, str] | None:
    gone = names_of(one.missing, REGIONS, "; no ")
    return (one.holes, f"{percent(one.holes)} of its columns{gone}") if one.holes else None


def silent(one: Facts) -> tuple[float, str] | None:
    words = mostly(one.flat, REGIONS)
    return (0, words) if words else None


def uneven(one: Facts) -> tuple[float, str] | None:
    return (0, f"{one.steps} steps") if one.steps else None


# Worth knowing of EEGs and of spectrograms: check, what was found, what to do, case.
CONTENT: dict[str, tuple[tuple[str, str, str, Case], ...]] = {
    EEGS.name: (
        ("eeg-missing", "EEGs with missing samples", "the kit fills them", gaps),
        ("electrode-flat", "EEGs with flat electrodes", "look: train show ID", flat),
        ("eeg-outlier", f"EEGs beyond {OUTLIER_MICROVOLTS:,.0f} uV", "filters and clipping deal with them", outlier),
        ("ekg", "EKGs missing, flat or out of scale", "leave the EKG out of inputs", heart),
    ),
    SPECTROGRAMS.name: (
        ("spectrogram-missing", "spectrograms with columns that lack a region", "the kit fills them", holes),
        ("spectrogram-zero", "spectrograms without power", "the electrodes were off", silent),
        ("spectrogram-time", "spectrograms whose rows are not 2 s apart", "their windows are shifted", uneven),
    ),
}


# What recordings with the same values are, and what that means.
SAME_CONTENT = {
    "train recordings that the test has too": NO_NEW_PATIENTS,
    "the same recording under two patients": "a fold may train on what it scores: keep one of them",
    "the same recording under two ids": "it counts twice: keep one of them",
}


def same_content(facts: Iterable[Facts]) -> list[Finding]:
    """Recordings with the same values under two ids, of train and test together."""
    alike: dict[tuple[str, bytes], list[Source]] = defaultdict(list)
    for one in facts:
        if not one.error:
            alike[one.source.kind.name, one.checksum].append(one.source)
    in_test, two_patients, two_ids = SAME_CONTENT
    groups: dict[tuple[str, str], list[list[Source]]] = defaultdict(list)
    for (kind, _), group in sorted(alike.items()):
        if len(group) > 1:
            patients = {source.patient for source in group} - {None}
            folders = {source.folder for source in group}
            what = in_test if len(folders) > 1 else two_patients if len(patients) > 1 else two_ids
            groups[kind, what].append(sorted(group, key=lambda source: (source.folder, source.id)))
    findings = []
    for (kind, what), of_it in groups.items():
        ids = [source.id for group in of_it for source in group]
        cases = [" = ".join(f"{source.folder}/{source.id}" for source in group) for group in of_it]
        findings += found("same-content", WORTH_KNOWING, kind, what, SAME_CONTENT[what], ids, cases)
    return findings


def recording_findings(missing: Sequence[Source], facts: Sequence[Facts], training: bool) -> list[Finding]:
    """Everything about the recordings of one folder, by id, but what is there twice."""
    readable = [one for one in facts if not one.error]
    findings = [
        *common_structure(facts, training),
        *unusable(missing, facts, training),
        *window_findings(readable),
        *reader_findings(readable),
    ]
    for check, what, todo, case in CONTENT[facts[0].source.kind.name] if facts else ():
        findings += by_file(check, WORTH_KNOWING, what, todo, readable, case)
    return findings
