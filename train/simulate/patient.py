"""One patient: every recording simulated, its files written, its windows labelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.schema import (
    SFREQ,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_STEP_SECONDS,
    TEST_EEGS,
    TEST_SPECTROGRAMS,
    TRAIN_EEGS,
    TRAIN_SPECTROGRAMS,
    WINDOW_SECONDS,
)
from common.signal.spectrogram import competition_spectrogram
from train.simulate.artefacts import draw_artefacts
from train.simulate.background import draw_background
from train.simulate.eeg import simulate_eeg
from train.simulate.patterns import draw_episode, draw_side
from train.simulate.plan import (
    EEG_LEAD_SECONDS,
    LEAD_SECONDS,
    PatientPlan,
    RecordingPlan,
    Timeline,
    lay_out,
)
from train.simulate.raters import draw_votes, probabilities
from train.simulate.recording_files import write_eeg, write_spectrogram


@dataclass(frozen=True)
class Row:
    """One labelled window of either set, with the distribution its votes were drawn from."""

    fields: dict[str, int | float]
    votes: tuple[int, ...]
    p: tuple[float, ...]


def random_generator(seed: int, number: int) -> np.random.Generator:
    """The generator of one patient (or of the label ids): independent of all others, whoever runs it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


def record_patient(plan: PatientPlan, directory: Path, seed: int) -> list[Row]:
    """Simulate every recording of a patient, write its EEG and spectrogram files, return its rows."""
    rng = random_generator(seed, plan.number)
    side = draw_side(rng)
    rows = []
    for recording in plan.recordings:
        timeline = lay_out(recording, plan.hidden, rng)
        background = draw_background(rng)
        episodes = [
            draw_episode(stretch.pattern, stretch.start, stretch.stop, background.median, side, rng)
            for stretch in timeline.stretches
        ]
        eeg = simulate_eeg(timeline.seconds, background, episodes, draw_artefacts(rng), rng)  # (electrodes, n)
        p = [probabilities(episode, recording.panel, rng) for episode in episodes]
        write_recording(directory, recording, timeline, eeg, plan.hidden)
        rows += label(plan, recording, timeline, p, rng)
    return rows


def label(
    plan: PatientPlan,
    recording: RecordingPlan,
    timeline: Timeline,
    p: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> list[Row]:
    """The rows of a recording. Raters see an EEG's episode once: its windows share one draw of votes."""
    rows: list[Row] = []
    votes: dict[tuple[int, int], np.ndarray] = {}
    first: dict[int, tuple[int, int]] = {}  # of each EEG: the start and the position of its first window
    for i, window in enumerate(timeline.windows):
        seen = (window.eeg, window.episode)
        if seen not in votes:
            votes[seen] = draw_votes(p[window.episode], recording.panel, rng)
        start, position = first.setdefault(window.eeg, (window.start, i))
        fields = {
            "eeg_id": recording.eeg_ids[window.eeg],
            "eeg_sub_id": i - position,
            "eeg_label_offset_seconds": float(window.start - start),
            "spectrogram_id": recording.spectrogram_id,
            "spectrogram_sub_id": i,
            "spectrogram_label_offset_seconds": float(window.start),
            "patient_id": plan.patient_id,
        }
        rows.append(Row(fields, tuple(votes[seen].tolist()), tuple(p[window.episode].tolist())))
    return rows


def write_recording(
    directory: Path, recording: RecordingPlan, timeline: Timeline, eeg: np.ndarray, hidden: bool
) -> None:
    """Write the spectrogram of a stream (electrodes, n) and the part of it that each EEG file holds."""
    spectrogram = competition_spectrogram(eeg).numpy()  # (regions, frequencies, columns)
    last = timeline.windows[-1].start // SPECTROGRAM_STEP_SECONDS
    assert spectrogram.shape[-1] == SPECTROGRAM_COLUMNS + last  # as the competition's: to the end of the last window
    folder = directory / (TEST_SPECTROGRAMS if hidden else TRAIN_SPECTROGRAMS)
    write_spectrogram(folder / f"{recording.spectrogram_id}.parquet", spectrogram, hidden)
    folder = directory / (TEST_EEGS if hidden else TRAIN_EEGS)
    for i, eeg_id in enumerate(recording.eeg_ids):
        starts = [window.start for window in timeline.windows if window.eeg == i]
        begin = LEAD_SECONDS + EEG_LEAD_SECONDS + min(starts)
        end = LEAD_SECONDS + EEG_LEAD_SECONDS + max(starts) + WINDOW_SECONDS
        write_eeg(folder / f"{eeg_id}.parquet", eeg[:, begin * SFREQ : end * SFREQ])
