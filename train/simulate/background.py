"""The ongoing EEG of a recording, before any pattern: noise of many sources, conducted to the scalp."""

from dataclasses import dataclass

import numpy as np

from common.schema import SFREQ
from train.simulate.forward import LEFT, SCALP, background_fields, bipolar_matrix
from train.simulate.signals import coloured_noise, log_uniform, slow_noise

N_SOURCES = 14

# (low, high) of log-uniform draws. median: of the absolute bipolar signal, microvolts. slope: power falls as
# 1 / f^slope. delta, theta, alpha, beta: power of a bump over the slope at its own frequency.
RANGES = {
    "plain": dict(median=(4, 14), slope=(1.1, 1.8), delta=(0.1, 1.0), theta=(0.2, 2), alpha=(1, 12), beta=(0.3, 4)),
    "slow": dict(median=(5, 16), slope=(1.6, 2.4), delta=(0.5, 2.5), theta=(0.5, 4), alpha=(0.1, 1), beta=(0.2, 1)),
    "suppressed": dict(
        median=(1.2, 3), slope=(1.0, 1.8), delta=(0.2, 1), theta=(0.2, 1), alpha=(0.1, 1), beta=(0.2, 2)
    ),
}
KIND_SHARES = {"plain": 0.45, "slow": 0.37, "suppressed": 0.18}


@dataclass(frozen=True)
class Background:
    """What the ongoing EEG of one recording is made from."""

    median: float  # of the absolute bipolar signal, microvolts
    slope: float
    delta: float
    theta: float
    alpha: float
    beta: float
    alpha_frequency: float  # Hz
    modulation: float  # log-amplitude of each source's slow waxing and waning
    side_gain: tuple[float, float]  # of the sources under the left and the right hemisphere
    channel_noise: float  # white noise of each electrode, share of the median


def draw_background(rng: np.random.Generator) -> Background:
    """Draw the background of one recording."""
    kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    weak = rng.uniform(0.35, 0.8) if rng.random() < 0.3 else 1.0  # an injured side has less of everything
    return Background(
        **{name: log_uniform(rng, low, high) for name, (low, high) in RANGES[kind].items()},
        alpha_frequency=rng.uniform(8, 11.5),
        modulation=rng.uniform(0.1, 0.4),
        side_gain=(weak, 1.0) if rng.random() < 0.5 else (1.0, weak),
        channel_noise=rng.uniform(0.02, 0.3),
    )


def spectrum(background: Background, f: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Relative power of each source at the frequencies f in Hz, (n_sources, n_frequencies).

    posterior (n_sources,) is 0 at the front and 1 at the back of the head, where alpha lives.
    """

    def peak(centre: float, width: float) -> np.ndarray:
        return np.exp(-0.5 * ((f - centre) / width) ** 2)

    common = 1 + background.delta * peak(1.4, 0.7) + background.theta * peak(5.5, 1.2)
    common = common + background.beta * peak(18, 4)
    bumps = common + background.alpha * posterior[:, None] * peak(background.alpha_frequency, 0.8)
    # Flat below 0.7 Hz and nothing below 0.3 Hz (amplifiers block it; drift is an artefact). Amplifiers also
    # end at about 70 Hz.
    slope = (f > 0.3) * (f < 70) / np.maximum(f, 0.7) ** background.slope
    return (slope * bumps).astype(np.float32)


def render_background(background: Background, n: int, rng: np.random.Generator) -> np.ndarray:
    """The background on the scalp, referential, microvolts: (scalp, n) float32."""
    fields, positions = background_fields(N_SOURCES, rng)  # (sources, scalp), (sources, 3)
    posterior = np.clip(0.5 - positions[:, 1], 0, 1)
    sources = coloured_noise(n, N_SOURCES, lambda f: spectrum(background, f, posterior), rng)
    for source, place in zip(sources, positions, strict=True):
        side = background.side_gain[0 if np.sign(place[0]) == LEFT else 1] if abs(place[0]) > 0.1 else 1.0
        source *= np.float32(side) * np.exp(background.modulation * slow_noise(n, 0.1, rng))
    scalp = fields.T @ sources  # (scalp, n)
    every_tenth = bipolar_matrix() @ scalp[:, :: SFREQ // 20]  # enough samples for a median
    scalp *= np.float32(background.median / np.median(np.abs(every_tenth)))
    noise = rng.standard_normal((len(SCALP), n), dtype=np.float32)
    scalp += np.float32(background.channel_noise * background.median) * noise
    return scalp
