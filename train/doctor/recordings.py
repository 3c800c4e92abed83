"""Findings about recordings: from what a look at each file measured."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from common.schema import ELECTRODES, REGIONS
from common.systematic import EXPECTED, another_rate, systematic
from train.data.recording_kinds import EEGS
from train.doctor.findings import COSTS_ROWS, STOPS_PREDICTING, STOPS_TRAINING, WORTH_KNOWING, Finding, found
from train.doctor.measure import EKG, SCALP, Facts, Source

OUTLIER_MICROVOLTS = 1000.0  # from the electrode's mean: the largest seizures stay below
MOSTLY = 0.5  # share of a recording from which an electrode counts as flat, a region as without power
LOUD_EKG = 30.0  # times the standard deviation of the median scalp electrode
RESTORE = "download these files again"
NO_NEW_PATIENTS = "a score on this test says nothing about new patients"

Case = Callable[[Facts], str | None]


def by_file(
    check: str,
    severity: str,
    words: tuple[str, str],
    facts: Iterable[Facts],
    case: Case,
    loss: Callable[[Facts], float] = lambda _: 0.0,
) -> list[Finding]:
    """A finding about the files for which `case` gives words, the greatest loss first, then by id.

    words: what was found, and what to do."""
    ordered = sorted(facts, key=lambda one: (-loss(one), one.source.id))
    named = [(one.source, text) for one in ordered if (text := case(one))]
    ids, cases = [source.id for source, _ in named], [f"{source.id}: {text}" for source, text in named]
    return found(check, severity, named[0][0].folder, *words, ids, cases) if named else []


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
    folder, is_eeg = sources[0].folder, sources[0].half is EEGS
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
    if facts[0].source.half is EEGS:
        read = [one for one in facts if not one.error]
        expected = [max(one.source.starts, default=0) + EEGS.length for one in read]
        differences += another_rate([one.n_time for one in read], expected)
    severity = STOPS_TRAINING if training else STOPS_PREDICTING
    what = "ways in which the structure of many files differs from what is expected"
    return found("structure", severity, facts[0].source.folder, what, EXPECTED, cases=differences)


def window_findings(facts: Sequence[Facts]) -> list[Finding]:
    """Windows that train.csv cuts where the recording has nothing."""

    def outside(one: Facts) -> list[int]:
        return [start for start in one.source.starts if start < 0 or start + one.source.half.length > one.n_time]

    def beyond(one: Facts) -> str | None:
        starts, rate = outside(one), one.source.half.rate
        where = max(starts, key=abs, default=0) / rate
        return f"{len(starts)} windows, one from {where:g} s, in {one.n_time / rate:g} s" if starts else None

    def nothing(one: Facts) -> str | None:
        return f"from {', '.join(f'{start / one.source.half.rate:g}' for start in one.empty)} s" if one.empty else None

    n_outside, n_empty = sum(len(outside(one)) for one in facts), sum(len(one.empty) for one in facts)
    left = (
        f"recordings with windows beyond their start or end ({n_outside:,} windows)",
        "the model sees missing values there: correct the offsets or the files",
    )
    empty = f"recordings with windows without one value ({n_empty:,} windows)", "take their rows out"
    return [
        *by_file("window-outside", COSTS_ROWS, left, facts, beyond),
        *by_file("window-empty", COSTS_ROWS, empty, facts, nothing),
    ]


def eeg_findings(facts: Sequence[Facts]) -> list[Finding]:
    scalp = ELECTRODES[SCALP]

    def gaps(one: Facts) -> str | None:
        never = [name for name, share in zip(scalp, one.missing[SCALP], strict=True) if share == 1]
        all_of = f"; never recorded: {', '.join(never)}" if never else ""
        return f"{percent(one.missing.mean())} of its samples{all_of}" if one.missing.any() else None

    def peak(one: Facts) -> float:
        return float(np.nan_to_num(one.largest[SCALP]).max())

    def loud(one: Facts) -> str | None:
        electrode = scalp[int(np.argmax(np.nan_to_num(one.largest[SCALP])))]
        return f"{electrode} {peak(one):,.0f} uV" if peak(one) > OUTLIER_MICROVOLTS else None

    def heart(one: Facts) -> str | None:
        if one.missing[EKG] == 1:
            return "missing"
        if one.flat[EKG] >= MOSTLY:
            return f"flat for {percent(one.flat[EKG])}"
        known = one.spread[SCALP][np.isfinite(one.spread[SCALP])]
        usual = float(np.median(known)) if len(known) else 0.0
        return f"{one.spread[EKG] / usual:.0f} x the EEG" if 0 < usual * LOUD_EKG < one.spread[EKG] else None

    missing = "EEGs with missing samples", "the kit fills them"
    flat = "EEGs with flat electrodes", "look: train show ID"
    outlier = f"EEGs beyond {OUTLIER_MICROVOLTS:,.0f} uV", "filters and clipping deal with them"
    ekg = "EKGs missing, flat or out of scale", "leave the EKG out of inputs"
    return [
        *by_file("eeg-missing", WORTH_KNOWING, missing, facts, gaps, lambda one: one.missing.mean()),
        *by_file(
            *("electrode-flat", WORTH_KNOWING, flat, facts),
            case=lambda one: mostly(one.flat[SCALP], scalp),
            loss=lambda one: one.flat[SCALP].mean(),
        ),
        *by_file("eeg-outlier", WORTH_KNOWING, outlier, facts, loud, peak),
        *by_file("ekg", WORTH_KNOWING, ekg, facts, heart, lambda one: one.missing[EKG] + one.flat[EKG]),
    ]


def spectrogram_findings(facts: Sequence[Facts]) -> list[Finding]:
    def holes(one: Facts) -> str | None:
        gone = [region for region, share in zip(REGIONS, one.missing, strict=True) if share == 1]
        all_of = f"; no {', '.join(gone)}" if gone else ""
        return f"{percent(one.holes)} of its columns{all_of}" if one.holes else None

    def steps(one: Facts) -> str | None:
        return f"{one.steps} steps" if one.steps else None

    missing = "spectrograms with columns that lack a region", "the kit fills them"
    silent = "spectrograms without power", "the electrodes were off"
    uneven = "spectrograms whose rows are not 2 s apart", "their windows are shifted"
    return [
        *by_file("spectrogram-missing", WORTH_KNOWING, missing, facts, holes, lambda one: one.holes),
        *by_file("spectrogram-zero", WORTH_KNOWING, silent, facts, lambda one: mostly(one.flat, REGIONS)),
        *by_file("spectrogram-time", WORTH_KNOWING, uneven, facts, steps),
    ]


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
            alike[one.source.half.name, one.checksum].append(one.source)
    in_test, two_patients, two_ids = SAME_CONTENT
    groups: dict[tuple[str, str], list[list[Source]]] = defaultdict(list)
    for (half, _), group in sorted(alike.items()):
        if len(group) > 1:
            patients = {source.patient for source in group} - {None}
            folders = {source.folder for source in group}
            what = in_test if len(folders) > 1 else two_patients if len(patients) > 1 else two_ids
            groups[half, what].append(sorted(group, key=lambda source: (source.folder, source.id)))
    findings = []
    for (half, what), of_it in groups.items():
        ids = [source.id for group in of_it for source in group]
        cases = [" = ".join(f"{source.folder}/{source.id}" for source in group) for group in of_it]
        findings += found("same-content", WORTH_KNOWING, half, what, SAME_CONTENT[what], ids, cases)
    return findings


def recording_findings(missing: Sequence[Source], facts: Sequence[Facts], training: bool) -> list[Finding]:
    """Everything about the recordings of one folder, by id, but what is there twice."""
    readable = [one for one in facts if not one.error]
    is_eeg = bool(facts) and facts[0].source.half is EEGS
    return [
        *common_structure(facts, training),
        *unusable(missing, facts, training),
        *window_findings(readable),
        *reader_findings(readable),
        *(eeg_findings if is_eeg else spectrogram_findings)(readable),
    ]
