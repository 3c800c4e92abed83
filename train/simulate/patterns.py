"""The six patterns: what an episode is drawn from (one table), and the waves it puts on the scalp."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri

from common.schema import SFREQ
from train.simulate.forward import LEFT, RIGHT, generalised_field, lateral_field
from train.simulate.signals import (
    band,
    bump,
    coloured_noise,
    log_uniform,
    pulse_train,
    renewal_times,
    slow_noise,
    taper_ends,
)

# (low, high) of log-uniform draws. ratio: peak on the best bipolar pair over the background's median. rate:
# Hz. rate_change: rate at the end over rate at the start. irregularity: coefficient of variation of the
# intervals (periodic) or of the frequency (rhythmic). variability: of the amplitude. presence: share of time
# switched on. background: gain of everything else meanwhile. Real records are far less regular than drawings.
RANGES = {
    "seizure": dict(ratio=(7, 30), rate=(3.0, 8), rate_change=(0.5, 1.0), irregularity=(0.03, 0.12),
                    variability=(0.1, 0.4), presence=(0.97, 0.999), background=(0.8, 1)),
    "lpd": dict(ratio=(5, 28), rate=(0.5, 2.0), rate_change=(0.95, 1.05), irregularity=(0.04, 0.2),
                variability=(0.05, 0.4), presence=(0.88, 0.999), background=(0.7, 1)),
    "gpd": dict(ratio=(6, 30), rate=(0.5, 2.2), rate_change=(0.95, 1.05), irregularity=(0.04, 0.2),
                variability=(0.05, 0.4), presence=(0.88, 0.999), background=(0.25, 1)),
    "lrda": dict(ratio=(4, 13), rate=(0.8, 2.6), rate_change=(0.85, 1.15), irregularity=(0.08, 0.3),
                 variability=(0.15, 0.5), presence=(0.8, 0.999), background=(0.7, 1)),
    "grda": dict(ratio=(4, 13), rate=(0.9, 2.5), rate_change=(0.85, 1.15), irregularity=(0.06, 0.25),
                 variability=(0.15, 0.5), presence=(0.8, 0.999), background=(0.7, 1)),
    "other": dict(ratio=(1.5, 7), rate=(0.05, 0.25), rate_change=(1, 1), irregularity=(0.5, 1.0),
                  variability=(0.3, 0.6), presence=(0.5, 0.999), background=(0.6, 1)),
}  # fmt: skip
OTHER_KINDS = ("plain", "spikes", "spindles", "delta")
OTHER_SHARES = (0.5, 0.15, 0.15, 0.2)
LARGEST_PEAK = 450  # microvolts between neighbours: more is not seen on a scalp


@dataclass(frozen=True)
class Episode:
    """A stretch of a recording during which one pattern is there, and everything that shapes it."""

    pattern: str
    kind: str
    start: float  # s of the recording
    stop: float
    side: int  # LEFT, RIGHT, or 0 for both
    peak: float  # microvolts on the best bipolar pair
    ratio: float
    rate: float
    rate_change: float
    irregularity: float
    variability: float
    presence: float
    background: float


def draw_episode(
    pattern: str, start: float, stop: float, median: float, side: int, rng: np.random.Generator
) -> Episode:
    """Draw an episode from start to stop (s); median of the background in microvolts, side LEFT or RIGHT."""
    kind, generalised = pattern, pattern in ("gpd", "grda")
    if pattern == "seizure":
        kind, generalised = str(rng.choice(["spike-wave", "rhythmic"])), rng.random() < 0.45
    if pattern == "other":
        kind = str(rng.choice(OTHER_KINDS, p=OTHER_SHARES))
        generalised = kind == "spindles" or rng.random() < 0.4
    drawn = {name: log_uniform(rng, low, high) for name, (low, high) in RANGES[pattern].items()}
    if kind == "spike-wave":
        drawn["rate"] = rng.uniform(2.6, 4.5)  # slower than other seizures
    if pattern == "gpd" and rng.random() < 0.55:
        drawn["background"] = 1.0  # the rest stands on a suppressed background
    drawn["ratio"] = min(drawn["ratio"], LARGEST_PEAK / median)
    return Episode(
        pattern=pattern,
        kind=kind,
        start=start,
        stop=stop,
        side=0 if generalised else side,
        peak=drawn["ratio"] * median * drawn["background"],
        **drawn,
    )


def discharge(rate: float, rng: np.random.Generator) -> np.ndarray:
    """One discharge: one to three sharp phases of changing sign, often a slow wave; (m,) of peak one."""
    half = int(0.6 * SFREQ)
    shape = np.zeros(2 * half + 1, dtype=np.float32)
    width, at, height = rng.uniform(0.03, 0.09), 0.0, 1.0
    for _ in range(rng.integers(1, 4)):
        shape += height * pulse_train(np.array([0.6 + at]), np.ones(1), bump(width), len(shape))
        at, height = at + width * rng.uniform(0.9, 1.4), -height * rng.uniform(0.5, 0.9)
        width *= rng.uniform(1.1, 1.6)  # later phases are wider
    if rate < 1.5 and rng.random() < 0.7:  # faster ones leave no room: they would melt into a sine
        wide = rng.uniform(0.18, 0.35)
        slow = pulse_train(np.array([0.6 + at + wide / 2]), np.ones(1), bump(wide), len(shape))
        shape += np.float32(np.sign(height) * rng.uniform(0.3, 0.8)) * slow
    return shape / np.abs(shape).max()


def periodic(episode: Episode, n: int, rng: np.random.Generator) -> np.ndarray:
    """Discharges that come back: (n,) float32 of peak about one."""
    times = renewal_times(n / SFREQ, episode.rate, episode.irregularity, rng)
    heights = rng.lognormal(0, episode.variability, len(times))
    return pulse_train(times, heights, discharge(episode.rate, rng), n)


def wandering_phase(episode: Episode, n: int, rng: np.random.Generator) -> np.ndarray:
    """Phase (n,) in radians of an oscillation that drifts from rate to rate x rate_change and wanders."""
    drift = episode.rate_change ** np.linspace(0, 1, n)
    wander = np.exp(episode.irregularity * slow_noise(n, 0.5 * episode.rate, rng))
    return 2 * np.pi * (rng.uniform() + np.cumsum(episode.rate * drift * wander) / SFREQ)


def rhythmic(episode: Episode, n: int, rng: np.random.Generator) -> np.ndarray:
    """A slow oscillation with harmonics and a wandering amplitude: (n,) float32 of peak about one."""
    phase = wandering_phase(episode, n, rng)
    wave = np.sin(phase)
    for harmonic, most in ((2, 0.4), (3, 0.2)):
        wave += rng.uniform(0, most) * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    wave *= np.exp(episode.variability * slow_noise(n, 0.4, rng))
    noise = coloured_noise(n, 1, band(0.75 * episode.rate, 1.3 * episode.rate), rng)[0]
    return (wave + 1.5 * episode.irregularity * noise).astype(np.float32)


def spike_wave(episode: Episode, n: int, rng: np.random.Generator) -> np.ndarray:
    """A spike and a slow wave each cycle: (n,) float32 of peak about one."""
    phase = wandering_phase(episode, n, rng)
    spike = np.exp(rng.uniform(4, 9) * (np.cos(phase) - 1))  # a von Mises bump on the circle of the cycle
    wave = -np.cos(phase - rng.uniform(0.3, 0.8)) * rng.uniform(0.5, 0.9)
    amplitude = np.exp(episode.variability * slow_noise(n, 0.5, rng))
    return ((spike + wave) * amplitude).astype(np.float32)


def spindles(episode: Episode, n: int, rng: np.random.Generator) -> np.ndarray:
    """Bursts of 11-15 Hz that last about a second: (n,) float32 of peak about one."""
    times = renewal_times(n / SFREQ, episode.rate, episode.irregularity, rng)
    bursts = pulse_train(times, np.ones(len(times)), bump(0.8), n)
    return bursts * np.sin(2 * np.pi * rng.uniform(11, 15) * np.arange(n, dtype=np.float32) / SFREQ)


def other(episode: Episode, n: int, rng: np.random.Generator) -> np.ndarray:
    """What looks a little like a pattern and is none: (n,) float32 of peak about one."""
    if episode.kind == "plain":
        return np.zeros(n, dtype=np.float32)
    if episode.kind == "spikes":
        return periodic(episode, n, rng)  # sporadic: rare and without a rhythm
    if episode.kind == "spindles":
        return spindles(episode, n, rng)
    return 0.5 * coloured_noise(n, 1, band(0.6, 3.5), rng)[0]  # polymorphic delta


def fields_of(episode: Episode, rng: np.random.Generator) -> np.ndarray:
    """Where an episode is seen: a first field and the one it spreads to, (2, scalp)."""
    if episode.side:
        return np.stack([lateral_field(episode.side, rng), lateral_field(episode.side, rng)])
    frontal = rng.random() < (0.75 if episode.pattern == "grda" else 0.3)
    return np.stack([generalised_field(frontal, rng), generalised_field(frontal, rng)])


def render_episode(episode: Episode, rng: np.random.Generator) -> np.ndarray:
    """The waves of one episode on the scalp: (scalp, samples from start to stop) float32, microvolts."""
    n = round(episode.stop * SFREQ) - round(episode.start * SFREQ)
    if episode.pattern == "other":
        wave = other(episode, n, rng)
    elif episode.pattern in ("lpd", "gpd"):
        wave = periodic(episode, n, rng)
    elif episode.kind == "spike-wave":
        wave = spike_wave(episode, n, rng)
    else:
        wave = rhythmic(episode, n, rng)
    # Off for a second or so now and then: a Gaussian is below its `presence` quantile that share of time.
    on = expit(8 * (ndtri(episode.presence) - slow_noise(n, 0.4, rng)))
    wave = wave * on * taper_ends(n, 0.5)
    first, second = fields_of(episode, rng)
    spread = rng.uniform(0.1, 0.6)
    lag = round(rng.uniform(0, 0.05 if episode.pattern == "seizure" else 0.1) * SFREQ)
    late = np.roll(wave, lag)
    if episode.pattern == "seizure":
        growth = np.linspace(rng.uniform(0.3, 1.0), 1.2, n, dtype=np.float32)  # it grows and spreads
        wave, late = wave * growth, late * growth * np.linspace(0, 1.5, n, dtype=np.float32)
    scalp = np.outer(first, wave) + spread * np.outer(second, late)
    return (episode.peak * scalp).astype(np.float32)


def draw_side(rng: np.random.Generator) -> int:
    """The side of a patient's lesion: LEFT or RIGHT."""
    return LEFT if rng.random() < 0.5 else RIGHT
