"""Which samples an epoch of training takes: every label row once, or one labelled window of each EEG or stretch."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Generator


@dataclass(frozen=True)
class Samples:
    """An epoch's samples in their order: a label row each, and the window of it, None where all are the rows' own."""

    rows: np.ndarray  # (samples,) numbers of label rows
    windows: np.ndarray | None  # (samples,) places in the list of all labelled windows

    def __len__(self) -> int:
        return len(self.rows)


class Sampler:
    """Draws the samples of an epoch from label rows as train.data.labels makes them.

    labels "one-per-eeg" and "one-per-stretch" take one labelled window of each EEG, or of each stretch of equal votes,
    with that window's votes: an EEG counts once, however many windows and vote vectors it has. Sources: the 16th
    place (EEGs), the 7th (stretches). Other labels take every row.
    """

    def __init__(self, rows: pl.DataFrame, labels: str = "votes") -> None:
        count = rows["eeg_starts"].list.len().to_numpy().astype(np.int64)
        self.first = np.cumsum([0, *count])  # of each row's windows in the list of all
        self.row = np.repeat(np.arange(rows.height), count)  # (all windows,)
        self.group: np.ndarray | None = None  # (all windows,)
        if labels == "one-per-eeg":
            self.group = rows["eeg_id"].to_numpy()[self.row]
        elif labels == "one-per-stretch":
            self.group = rows["stretches"].explode().to_numpy()

    def windows_of(self, rows: np.ndarray) -> np.ndarray:
        """Places of these rows' windows in the list of all."""
        return np.flatnonzero(np.isin(self.row, rows))

    def count(self, rows: np.ndarray) -> int:
        """Samples of an epoch over these rows."""
        return len(rows) if self.group is None else len(np.unique(self.group[self.windows_of(rows)]))

    def draw(self, rows: np.ndarray, any_window: bool, generator: Generator) -> Samples:
        """The samples of an epoch over these rows, in random order. any_window: of a row any of its windows."""
        if self.group is None:
            order = rows[torch.randperm(len(rows), generator=generator).numpy()]
            if not any_window:
                return Samples(order, None)
            share = torch.rand(len(order), generator=generator, dtype=torch.float64).numpy()
            count = self.first[order + 1] - self.first[order]
            return Samples(order, self.first[order] + (share * count).astype(np.int64))
        # In a random order of all windows the first one of each group is any of them, and their order is random too.
        windows = self.windows_of(rows)
        windows = windows[torch.randperm(len(windows), generator=generator).numpy()]
        _, first = np.unique(self.group[windows], return_index=True)
        chosen = windows[np.sort(first)]
        return Samples(self.row[chosen], chosen)
