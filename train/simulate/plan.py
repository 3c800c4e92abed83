"""Who is recorded, which patterns they show, where the labelled windows lie: all before any signal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from common.schema import LABELLED_SECONDS, PATTERNS, SPECTROGRAM_SECONDS, WINDOW_SECONDS
from train.simulate.signals import log_uniform

TEST_SHARE = 0.25
MOST_RECORDINGS, MOST_EEGS = 6, 3  # of a patient, of a recording
# Shares of the patterns among recordings, in the order of PATTERNS. Votes spill over into "other".
PANEL_SHARES = (0.08, 0.20, 0.22, 0.17, 0.17, 0.16)
CROWD_SHARES = (0.39, 0.10, 0.10, 0.12, 0.13, 0.16)
CHANGE_SHARE = 0.25  # of train EEGs in which the state may change between two windows
CONTINUES_SHARE = 0.6  # of EEGs with the same pattern as the one before: the same episode goes on
# Seconds by which an episode reaches beyond its labelled windows, log-uniform; seizures end soon.
MARGINS = dict.fromkeys(PATTERNS, (6, 400)) | {"seizure": (3, 40)}
# A column of the spectrogram looks 1 s ahead of its file's time zero, so the stream starts a second earlier,
# and 300 columns of 4 s need 2 s more than 600.
LEAD_SECONDS = 1
TAIL_SECONDS = 1
EEG_LEAD_SECONDS = (SPECTROGRAM_SECONDS - WINDOW_SECONDS) // 2  # the two windows share their centre


@dataclass(frozen=True)
class RecordingPlan:
    """One recording, to be cut into one spectrogram file and one EEG file for each of eeg_ids."""

    spectrogram_id: int
    eeg_ids: tuple[int, ...]
    pattern: str
    companion: str  # what the patient shows besides
    panel: bool  # judged by 10 to 20 experts; otherwise by a crowd of 1 to 7


@dataclass(frozen=True)
class PatientPlan:
    """One patient; `number` seeds everything random about them, hidden ones are the test set."""

    number: int
    patient_id: int
    hidden: bool
    recordings: tuple[RecordingPlan, ...]


@dataclass(frozen=True)
class Window:
    """One labelled window: its start in the spectrogram file (s), its EEG and its episode, by position."""

    start: int
    eeg: int
    episode: int


@dataclass(frozen=True)
class Stretch:
    """A pattern from start to stop, seconds of the stream."""

    pattern: str
    start: float
    stop: float


@dataclass(frozen=True)
class Timeline:
    """Where the episodes and the windows of one recording lie; seconds is the length of the stream."""

    stretches: tuple[Stretch, ...]
    windows: tuple[Window, ...]
    seconds: int


def deal_patterns(n: int, shares: Sequence[float], rng: np.random.Generator) -> list[str]:
    """n patterns in random order whose counts follow the shares; each at least once where n is large enough."""
    share = np.array(shares) / sum(shares)
    counts = np.full(len(PATTERNS), 1 if n >= len(PATTERNS) else 0)
    while counts.sum() < n:
        counts[np.argmax(share * n - counts)] += 1  # to whom most is owed
    return list(rng.permutation(np.repeat(PATTERNS, counts)))


def draw_ids(n: int, low: int, high: int, rng: np.random.Generator) -> list[int]:
    """n different integers from low to high - 1, in random order."""
    ids: dict[int, None] = {}
    while len(ids) < n:
        ids.update(dict.fromkeys(rng.integers(low, high, n - len(ids)).tolist()))
    return list(ids)


def plan_patients(patients: int, seed: int) -> list[PatientPlan]:
    """The patients of a competition, about a quarter of them hidden.

    Every pattern is dealt to some patient of each side once there are as many deals (two a patient) as patterns. A
    patient has two or more recordings and shows both of theirs.
    """
    rng = np.random.default_rng(seed)
    n_test = max(1, round(patients * TEST_SHARE))
    hidden = rng.permutation(np.arange(patients) < n_test)
    decks = {
        False: deal_patterns(2 * (patients - n_test), np.add(PANEL_SHARES, CROWD_SHARES).tolist(), rng),
        True: deal_patterns(2 * n_test, PANEL_SHARES, rng),
    }
    patient_ids = draw_ids(patients, 40, 65_536, rng)
    most = patients * MOST_RECORDINGS
    spectrogram_ids = iter(draw_ids(most, 100_000_000, 2**31, rng))
    eeg_ids = iter(draw_ids(most * MOST_EEGS, 100_000_000, 2**32, rng))
    plans = []
    for number, patient_id in enumerate(patient_ids):
        own = [decks[hidden[number]].pop() for _ in range(2)]
        recordings = plan_recordings(own, bool(hidden[number]), spectrogram_ids, eeg_ids, rng)
        plans.append(PatientPlan(number, patient_id, bool(hidden[number]), recordings))
    return plans


def plan_recordings(
    patterns: Sequence[str],
    hidden: bool,
    spectrogram_ids: Iterator[int],
    eeg_ids: Iterator[int],
    rng: np.random.Generator,
) -> tuple[RecordingPlan, ...]:
    """The recordings of one patient who shows two patterns: one of each, and some more."""
    if hidden:
        n_recordings = int(rng.integers(2, MOST_RECORDINGS + 1))
    else:
        n_recordings = int(rng.choice([2, 3, 4], p=[0.6, 0.3, 0.1]))
    recordings = []
    for i in range(n_recordings):
        first = i if i < 2 else int(rng.integers(2))
        pattern, companion = patterns[first], patterns[1 - first]
        k = PATTERNS.index(pattern)
        # Half of the train recordings go to panels: which half follows from what each population was shown.
        panel = hidden or rng.random() < PANEL_SHARES[k] / (PANEL_SHARES[k] + CROWD_SHARES[k])
        if panel and companion == "seizure":
            companion = "other"  # panels were shown few seizures, so none in passing either
        n_eegs = 1 if hidden else int(rng.choice([1, 2, MOST_EEGS], p=[0.5, 0.35, 0.15]))
        ids = tuple(next(eeg_ids) for _ in range(n_eegs))
        recordings.append(RecordingPlan(next(spectrogram_ids), ids, pattern, companion, bool(panel)))
    return tuple(recordings)


def draw_starts(n: int, rng: np.random.Generator) -> np.ndarray:
    """Starts of n overlapping windows of one EEG, even seconds from zero, (n,)."""
    return np.cumsum([0, *rng.choice([2, 4, 6, 8, 10], n - 1, p=[0.35, 0.25, 0.2, 0.1, 0.1])])


def lay_out(recording: RecordingPlan, hidden: bool, rng: np.random.Generator) -> Timeline:
    """Place the windows of a recording and the episodes around them.

    The central 10 s of every window lie inside one episode. A hidden recording has one window, at zero.
    """
    pieces: list[Stretch] = []  # what must be covered: the labelled seconds, window by window
    windows: list[Window] = []
    labelled = LEAD_SECONDS + (SPECTROGRAM_SECONDS - LABELLED_SECONDS) / 2  # from a window's start, stream s
    cursor = 0
    for eeg in range(len(recording.eeg_ids)):
        usual = hidden or rng.random() < 0.8
        pattern = recording.pattern if usual else recording.companion
        starts = cursor + draw_starts(1 if hidden else int(rng.integers(1, 10)), rng)
        change = len(starts)
        if len(starts) >= 4 and rng.random() < CHANGE_SHARE:
            change = int(rng.integers(2, len(starts) - 1))
            starts[change:] += LABELLED_SECONDS + 2  # room for the change between two labelled stretches
        after = "other" if pattern == recording.companion else recording.companion
        for i, start in enumerate(starts):
            shown = pattern if i < change else after
            goes_on = (
                pieces
                and pieces[-1].pattern == shown
                and (i > 0 or (shown != "seizure" and rng.random() < CONTINUES_SHARE))
            )
            begin, end = start + labelled, start + labelled + LABELLED_SECONDS
            if goes_on:
                pieces[-1] = Stretch(shown, pieces[-1].start, end)
            else:
                pieces.append(Stretch(shown, begin, end))
            windows.append(Window(int(start), eeg, len(pieces) - 1))
        cursor = int(starts[-1]) + 2 * int(rng.integers(8, 40))
    seconds = windows[-1].start + LEAD_SECONDS + SPECTROGRAM_SECONDS + TAIL_SECONDS
    return Timeline(extend(pieces, seconds, rng), tuple(windows), seconds)


def extend(pieces: Sequence[Stretch], seconds: float, rng: np.random.Generator) -> tuple[Stretch, ...]:
    """Let every stretch reach beyond what is labelled, but at most half-way to its neighbours."""
    limits = [(a.stop + b.start) / 2 for a, b in pairwise(pieces)]
    extended = []
    for piece, low, high in zip(pieces, [0.0, *limits], [*limits, float(seconds)], strict=True):
        before, after = (log_uniform(rng, *MARGINS[piece.pattern]) for _ in range(2))
        start, stop = max(low, piece.start - before), min(high, piece.stop + after)
        extended.append(Stretch(piece.pattern, round(float(start), 2), round(float(stop), 2)))
    return tuple(extended)
