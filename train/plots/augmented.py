"""What training makes of a window: draws of each stage's augmentation, for `python -m train show --augmented`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Generator, Tensor

from common.inputs.base import Windows
from common.inputs.build import build_input
from common.schema import ELECTRODES, SFREQ, VOTES
from train.augment.mixing import mix_images, mix_windows
from train.augment.signal import SignalChanges, change_signals, draw_shifts, draw_signal_changes
from train.experiment import Augment, Experiment
from train.plots.find import Found, Recordings, find, read_recordings
from train.plots.model_inputs import built, with_own_constants
from train.plots.pages import Drawing, drawing_of

DRAWS = 3  # of each stage
TRIES = 15  # draws that look the same are shown once, and a rare change may not come up
NEIGHBOURS = 3
OF_IMAGES = ("mosaic", "cutmix", "mixup", "mask")  # in the order in which mix_images makes them


@dataclass(frozen=True)
class Example:
    """The EEG that is shown, and windows of others that mixtures may take from, as in a batch of training."""

    recordings: Recordings
    starts: tuple[tuple[int, int], ...]  # of all windows of its label row: sample, column
    neighbours: tuple[Windows, ...]
    votes: Tensor  # (1 + neighbours, 6) counts, 0 of a test EEG


def example_of(competition: Path, tables: Mapping[str, pl.DataFrame], found: Found, recordings: Recordings) -> Example:
    """With the label rows of other EEGs that have most votes, those of the same consensus first. A test EEG has no
    votes to be mixed, and no neighbours. Raises RecordingError."""
    if found.label is None:
        return Example(recordings, (), (), torch.zeros(1, len(VOTES)))
    alike = pl.col("expert_consensus") == found.label["expert_consensus"]
    others = tables["train"].filter(pl.col("eeg_id") != found.eeg_id)
    others = others.sort(alike, "total_votes", "label_id", descending=[True, True, False])
    others = others.unique("eeg_id", keep="first", maintain_order=True).head(NEIGHBOURS)
    neighbours = [find(competition, {"train": others}, eeg_id, None) for eeg_id in others["eeg_id"]]
    windows = tuple(read_recordings(competition, other).window() for other in neighbours)
    votes = [[row[vote] for vote in VOTES] for row in (found.label, *(other.label for other in neighbours))]
    starts = tuple(zip(found.label["eeg_starts"], found.label["spectrogram_starts"], strict=True))
    return Example(recordings, starts, windows, torch.tensor(votes, dtype=torch.float32))


def describe(changes: SignalChanges) -> list[str]:
    """What was drawn for the first window, in words."""

    def names(chosen: Tensor) -> str:
        found = [name for name, yes in zip(ELECTRODES, chosen[0].tolist(), strict=True) if yes]
        return " ".join(found) if len(found) < 4 else f"{len(found)} electrodes"

    arrangement, (low, high), (first, end) = int(changes.arrangement[0]), changes.band[0], changes.gap[0]
    swapped = ("", "of the right side", "of the left side", "of both sides")[arrangement % 4]
    words = ["mirrored"] if arrangement >= 4 else []
    words += [f"chains {swapped} swapped"] if swapped else []
    words += ["backwards"] if changes.reversed[0] else []
    words += [f"{low:.1f}-{high:.1f} Hz in {names(changes.narrowed)}"] if changes.narrowed[0].any() else []
    words += [f"without {names(changes.missing)}"] if changes.missing[0].any() else []
    words += [f"{(end - first) / SFREQ:.1f} s missing in {names(changes.gapped)}"] if changes.gapped[0].any() else []
    return words


def same(made: Windows, before: Windows) -> bool:
    """Whether the first window is what it was."""
    pairs = ((made.eeg, before.eeg), (made.spectrogram, before.spectrogram))
    return all(torch.equal(one[0].nan_to_num(torch.inf), two[0].nan_to_num(torch.inf)) for one, two in pairs)


def draw(example: Example, augment: Augment, config: Any, generator: Generator) -> tuple[list[str], np.ndarray]:
    """The window's input in a batch of training with its neighbours, and what was done to it, in words."""
    recordings, words = example.recordings, []
    if augment.any_window and len(example.starts) > 1:
        start, column = example.starts[int(torch.randint(len(example.starts), (), generator=generator))]
        recordings = replace(recordings, eeg_start=start, spectrogram_start=column)
        words.append(f"window from {start / SFREQ:g} s")
    shifts = draw_shifts(augment, 1, generator)
    words += [] if shifts is None else [f"{shifts[0]:+.1f} s"]
    neighbours = example.neighbours if augment.mixup or augment.cutmix or augment.mosaic else ()
    windows = [recordings.window(0.0 if shifts is None else shifts[0]), *neighbours]
    raw = Windows(*(torch.cat([getattr(window, kind) for window in windows]) for kind in ("eeg", "spectrogram")))
    changes = draw_signal_changes(augment, len(windows), generator)
    words += describe(changes)
    counts = example.votes[: len(windows)]
    n_votes = counts.sum(dim=1)
    target = counts / n_votes.clamp(min=1)[:, None]
    changed = change_signals(raw, changes)
    blended, *votes = mix_windows(changed, target, n_votes, augment, generator)
    words += [] if same(blended, changed) else ["mixup"]
    images = build_input(blended, config)
    for name in OF_IMAGES:
        mixed, *votes = mix_images(images, *votes, Augment(**{name: getattr(augment, name)}), generator)
        words += [] if torch.equal(mixed[0], images[0]) else [name]
        images = mixed
    return words, images[0].numpy()


def draws_of(example: Example, augment: Augment, config: Any) -> list[Drawing]:
    """Up to DRAWS different drawings of what a stage's augmentation makes of the window; the same ones every time."""
    if augment == Augment():
        return []
    drawings, generator = [], torch.Generator().manual_seed(0)
    for _ in range(TRIES):
        words, values = draw(example, augment, config, generator)
        if words and not any(np.array_equal(values, shown.values) for shown in drawings):
            drawings.append(Drawing(", ".join(words), values, config))
        if len(drawings) == DRAWS:
            break
    return drawings


def augmented_rows(example: Example, experiments: Sequence[Experiment]) -> list[list[Drawing]]:
    """For each input and augmentation that differ: the input unaltered, then as training sees it."""
    users: dict[Any, list[tuple[Experiment, int]]] = {}
    for experiment in experiments:
        for number, stage in enumerate(experiment.training.stages, start=1):
            users.setdefault((experiment.input, stage.augment), []).append((experiment, number))
    rows, plain = [], example.recordings.window()
    for (_, augment), ((experiment, number), *others) in users.items():
        config, name = with_own_constants(experiment, plain)
        title = f"{name}, stage {number}{f' and {len(others)} more' if others else ''}, unaltered"
        unaltered = drawing_of(title, built(plain, config, name), config)
        drawings = draws_of(example, augment, config)
        if drawings:
            rows.append([unaltered, *drawings])
    return rows
