"""The EEG of a whole recording: background, episodes of patterns, artefacts."""

from collections.abc import Sequence

import numpy as np

from common.schema import N_ELECTRODES, SFREQ
from train.simulate.artefacts import Artefacts, add_artefacts
from train.simulate.background import Background, render_background
from train.simulate.forward import SCALP
from train.simulate.patterns import Episode, render_episode
from train.simulate.signals import taper_ends


def simulate_eeg(
    seconds: float,
    background: Background,
    episodes: Sequence[Episode],
    artefacts: Artefacts,
    rng: np.random.Generator,
) -> np.ndarray:
    """The stream of one recording at 200 Hz.

    Returns (electrodes, seconds * SFREQ) float32, microvolts, referential, electrodes in schema order, NaN where
    nothing was recorded. Raises ValueError when an episode leaves the recording.
    """
    n = round(seconds * SFREQ)
    eeg = np.zeros((N_ELECTRODES, n), dtype=np.float32)
    scalp = eeg[: len(SCALP)]
    scalp += render_background(background, n, rng)
    for episode in episodes:
        first, last = round(episode.start * SFREQ), round(episode.stop * SFREQ)
        if not 0 <= first < last <= n:
            raise ValueError(
                f"episode {episode.pattern} from {episode.start} to {episode.stop} s leaves the recording "
                f"of {seconds} s; lay out episodes inside it"
            )
        scalp[:, first:last] *= 1 + np.float32(episode.background - 1) * taper_ends(last - first, 1.0)
        scalp[:, first:last] += render_episode(episode, rng)
    add_artefacts(eeg, artefacts, rng)
    return eeg
