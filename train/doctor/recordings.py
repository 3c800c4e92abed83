"""Findings about recordings: from what a look at each file measured."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from common.records import EXPECTED, another_rate, systematic
from common.schema import ELECTRODES, REGIONS
from train.doctor.findings import (
    COSTS_ROWS,
    STOPS_PREDICTING,
    STOPS_TRAINING,
    WORTH_KNOWING,
    Finding,
    found,
)
from train.doctor.measure import EKG, SCALP, Facts
from train.store_index import EEGS, SPECTROGRAMS

OUTLIER_MICROVOLTS = 1000.0  # from the electrode's mean: no brain's; what the loudest seizures stay below
MOSTLY = 0.5  # share of a recording from which an electrode counts as flat, a region as silent
LOUD_EKG = 30.0  # times the spread of the median scalp electrode
RESTORE = "download these files again"

Measured = Callable[[Facts], str | None]


def by_loss(facts: Iterable[Facts], loss: Callable[[Facts], float]) -> list[Facts]:
    """The worst first, then by id."""
    return sorted(facts, key=lambda one: (-loss(one), one.source.id))


def each(facts: Iterable[Facts], say: Measured) -> tuple[list[int], list[str]]:
    """Ids and cases of those of which there is something to say."""
    said = [(one.source.id, text) for one in facts if (text := say(one)) is not None]
    return [i for i, _ in said], [f"{i}: {text}" if text else str(i) for i, text in said]


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def damaged(folder: str, facts: Sequence[Facts], named: set[int], training: bool) -> list[Finding]:
    broken = sorted((one for one in facts if one.error), key=lambda one: one.source.id)
    needed = [one for one in broken if one.source.id in named]
    others = [one for one in broken if one.source.id not in named]
    is_eeg = bool(broken) and broken[0].source.half is EEGS
    severity = STOPS_TRAINING if training else COSTS_ROWS if is_eeg else WORTH_KNOWING
    todo = f"{RESTORE}, or take their rows out of train.csv" if training else f"{RESTORE}; {answered(is_eeg)}"
    return [
        *found("damaged", severity, folder, "damaged recordings", todo, *ids_and_errors(needed)),
        *found(
            "damaged-unnamed", WORTH_KNOWING, folder, "damaged, but no row names them", RESTORE, *ids_and_errors(others)
        ),
    ]


def answered(is_eeg: bool) -> str:
    """What the kernel does where a test recording is not to be had."""
    return (
        "until then the blend's prior answers their rows" if is_eeg else "the kernel rebuilds the centre from the EEG"
    )


def ids_and_errors(facts: Sequence[Facts]) -> tuple[list[int], list[str]]:
    return [one.source.id for one in facts], [str(one.error) for one in facts]


def readers_findings(folder: str, facts: Sequence[Facts]) -> list[Finding]:
    """What the reader repaired, each kind a finding."""
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for one in sorted(facts, key=lambda one: one.source.id):
        for text in one.findings:
            short = re.fullmatch(r"(\d+) of (\d+ \w+): the rest is missing", text)
            kind, _, detail = (f"shorter than {short[2]}", "", short[1]) if short else text.partition(": ")
            if kind != "some values are NaN":  # counted by electrode and region
                kinds[kind].append((one.source.id, f"{one.source.id}: {detail}" if detail else str(one.source.id)))
    structural = {text.partition(": ")[0] for one in facts for text in one.structural}
    findings = []
    for kind, cases in sorted(kinds.items()):
        severity, todo = WORTH_KNOWING, "the kit copes"
        if kind in structural:
            todo = f"this file is not made as the others: {RESTORE}"
        if kind == "no channel varies":
            severity, todo = COSTS_ROWS, "nothing to learn there: take their rows out"
        elif kind.startswith("typical amplitude"):
            todo = "are these microvolts? look: train show ID"
        findings += found(f"reader: {kind}", severity, folder, kind, todo, *zip(*cases, strict=True))
    return findings


def made_otherwise(folder: str, facts: Sequence[Facts], named: set[int], training: bool) -> list[Finding]:
    """What so many of the first recordings that rows name have in common that it is no fault of a file."""
    facts = sorted((one for one in facts if one.source.id in named), key=lambda one: one.source.id)
    said = systematic([one.structural for one in facts])
    if facts and facts[0].source.half is EEGS:
        read = [one for one in facts if not one.error]
        expected = [max(one.source.starts, default=0) + EEGS.length for one in read]
        said += another_rate([one.n_time for one in read], expected)
    severity = STOPS_TRAINING if training else STOPS_PREDICTING
    what = "ways in which files are made otherwise than expected"
    return found("structure", severity, folder, what, EXPECTED, cases=said)


def outside_windows(folder: str, facts: Sequence[Facts]) -> list[Finding]:
    """Windows that train.csv cuts where the recording has nothing."""
    facts = sorted((one for one in facts if one.source.starts and not one.error), key=lambda one: one.source.id)

    def outside(one: Facts) -> list[int]:
        return [start for start in one.source.starts if start < 0 or start + one.source.half.length > one.n_time]

    def beyond(one: Facts) -> str | None:
        out, rate = outside(one), one.source.half.rate
        where = max(out, key=abs, default=0) / rate
        return f"{len(out)} windows, one from {where:g} s, in {one.n_time / rate:g} s" if out else None

    def nothing(one: Facts) -> str | None:
        return f"from {', '.join(f'{start / one.source.half.rate:g}' for start in one.empty)} s" if one.empty else None

    left, empty = sum(len(outside(one)) for one in facts), sum(len(one.empty) for one in facts)
    what = f"recordings that {left:,} of their windows leave"
    todo = "what lies outside is missing to the model: right the offsets or the files"
    without = f"recordings with windows without one value ({empty:,} windows)"
    return [
        *found("window-outside", COSTS_ROWS, folder, what, todo, *each(facts, beyond)),
        *found("window-empty", COSTS_ROWS, folder, without, "take their rows out", *each(facts, nothing)),
    ]


def eeg_findings(folder: str, facts: Sequence[Facts]) -> list[Finding]:
    facts = [one for one in facts if not one.error]
    worst = by_loss(facts, lambda one: one.missing.mean())

    def gaps(one: Facts) -> str | None:
        return f"{percent(one.missing.mean())} of its samples" if one.missing.any() else None

    def lost(one: Facts) -> str | None:
        return ", ".join(np.array(ELECTRODES[:EKG])[one.missing[SCALP] == 1]) or None

    def still(one: Facts) -> str | None:
        names = [f"{ELECTRODES[k]} {percent(one.flat[k])}" for k in range(EKG) if one.flat[k] >= MOSTLY]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or None

    def loud(one: Facts) -> str | None:
        k = int(np.argmax(np.nan_to_num(one.largest[SCALP])))
        return f"{ELECTRODES[k]} {one.largest[k]:,.0f} uV" if one.largest[k] > OUTLIER_MICROVOLTS else None

    def heart(one: Facts) -> str | None:
        if one.missing[EKG] == 1:
            return "missing"
        if one.flat[EKG] >= MOSTLY:
            return f"flat for {percent(one.flat[EKG])}"
        known = one.spread[SCALP][np.isfinite(one.spread[SCALP])]
        usual = float(np.median(known)) if len(known) else 0.0
        return f"{one.spread[EKG] / usual:.0f} x the EEG" if 0 < usual * LOUD_EKG < one.spread[EKG] else None

    by_peak = by_loss(facts, lambda one: float(np.nan_to_num(one.largest[SCALP]).max()))
    by_flat = by_loss(facts, lambda one: float(one.flat[SCALP].mean()))
    by_heart = by_loss(facts, lambda one: float(one.missing[EKG] + one.flat[EKG]))
    know = (WORTH_KNOWING, folder)
    return [
        *found("eeg-gaps", *know, "EEGs with missing samples", "the kit fills them", *each(worst, gaps)),
        *found(
            *("electrode-missing", *know, "EEGs with electrodes never recorded", "the kit copes"), *each(worst, lost)
        ),
        *found("electrode-flat", *know, "EEGs with flat electrodes", "look: train show ID", *each(by_flat, still)),
        *found(
            *("eeg-outlier", *know, f"EEGs beyond {OUTLIER_MICROVOLTS:,.0f} uV", "filters and clipping take them"),
            *each(by_peak, loud),
        ),
        *found(
            "ekg", *know, "EKGs missing, flat or out of scale", "leave the EKG out of inputs", *each(by_heart, heart)
        ),
    ]


def spectrogram_findings(folder: str, facts: Sequence[Facts]) -> list[Finding]:
    facts = [one for one in facts if not one.error]
    worst = by_loss(facts, lambda one: one.holes)

    def silent(one: Facts) -> str | None:
        names = [f"{REGIONS[k]} {percent(one.flat[k])}" for k in range(len(REGIONS)) if one.flat[k] >= MOSTLY]
        return ", ".join(names) or None

    def gone(one: Facts) -> str | None:
        return ", ".join(np.array(REGIONS)[one.missing == 1]) or None

    know = (WORTH_KNOWING, folder)
    return [
        *found(
            *("spectrogram-hole", *know, "spectrograms with holes in time", "the kit fills them"),
            *each(worst, lambda one: f"{percent(one.holes)} of its columns" if one.holes else None),
        ),
        *found(
            "spectrogram-region", *know, "spectrograms that lack a region", "the kit fills them", *each(worst, gone)
        ),
        *found(
            *("spectrogram-zero", *know, "spectrograms of no power", "the electrodes were off"), *each(worst, silent)
        ),
        *found(
            *("spectrogram-time", *know, "spectrograms whose rows are not 2 s apart", "their windows are shifted"),
            *each(worst, lambda one: f"{one.steps} steps" if one.steps else None),
        ),
    ]


def same_content(facts: Iterable[Facts], patient: dict[tuple[str, int], int]) -> list[Finding]:
    """Recordings with the same values under two ids, of train and test together. patient: by folder and id."""
    alike: dict[tuple[str, bytes], list[Facts]] = defaultdict(list)
    for one in facts:
        if not one.error:
            alike[one.source.half.name, one.checksum].append(one)
    findings: dict[tuple[str, str], tuple[list[int], list[str]]] = defaultdict(lambda: ([], []))
    for (half, _), group in sorted(alike.items()):
        if len(group) > 1:
            group = sorted(group, key=lambda one: (one.source.folder, one.source.id))
            places = {(one.source.folder, one.source.id) for one in group}
            folders = {folder for folder, _ in places}
            patients = {patient[place] for place in places if place in patient}
            what = (
                "train recordings that the test has too"
                if len(folders) > 1
                else "the same recording under two patients"
                if len(patients) > 1
                else "the same recording under two ids"
            )
            ids, cases = findings[half, what]
            ids += [one.source.id for one in group]
            cases.append(" = ".join(dict.fromkeys(f"{one.source.folder}/{one.source.id}" for one in group)))
    todo = {
        "train recordings that the test has too": "a score on this test says nothing about new patients",
        "the same recording under two patients": "a fold may train on what it scores: keep one of them",
        "the same recording under two ids": "it counts twice: keep one of them",
    }
    return [
        finding
        for (half, what), said in findings.items()
        for finding in found("same-content", WORTH_KNOWING, half, what, todo[what], *said)
    ]


def findings_of(folder: str, facts: Sequence[Facts], named: set[int], training: bool) -> list[Finding]:
    """Everything about one folder's recordings but what is missing and what is there twice."""
    if not facts:
        return []
    of_half = spectrogram_findings if facts[0].source.half is SPECTROGRAMS else eeg_findings
    return [
        *made_otherwise(folder, facts, named, training),
        *damaged(folder, facts, named, training),
        *outside_windows(folder, facts),
        *readers_findings(folder, facts),
        *of_half(folder, facts),
    ]
