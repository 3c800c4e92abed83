"""Constants of the training rows, by which an input may ask to be standardised."""

from collections.abc import Iterable, Iterator

import torch

from common.inputs.base import Constants, Input, Windows


def one_by_one(windows: Windows) -> Iterator[Windows]:
    """The windows of a batch, each as a batch of one."""
    known = [raw for raw in (windows.eeg, windows.spectrogram) if raw is not None]
    for row in range(len(known[-1])):
        eeg, spectrogram = (None if raw is None else raw[row : row + 1] for raw in (windows.eeg, windows.spectrogram))
        yield Windows(eeg, spectrogram)


def measure_constants(config: Input, batches: Iterable[Windows]) -> tuple[Constants, ...]:
    """Constants of the windows in `batches`: mean of their means, mean of their deviations of log power.

    As the published constants were made, but only from rows that the model is trained on. Raises ValueError
    when not one window has a finite value.
    """
    wanting = [single for single in config.singles if single.wants_constants]
    totals = torch.zeros(len(wanting), 3, dtype=torch.float64)  # sum of means, sum of deviations, windows
    for batch in batches if wanting else ():
        for window in one_by_one(batch):
            for total, single in zip(totals, wanting, strict=True):
                if (found := single.statistics(window)) is not None:
                    total += torch.tensor([*found, 1.0], dtype=torch.float64)
    if (totals[:, 2] == 0).any():
        raise ValueError("constants of the training rows: not one spectrogram has a finite value")
    return tuple(Constants(mean=mean / n, deviation=deviation / n) for mean, deviation, n in totals.tolist())
