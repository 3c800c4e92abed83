"""What is recorded and does not come from the brain: eyes, muscle, heart, mains, electrodes, gaps."""

from dataclasses import dataclass

import numpy as np

from common.schema import ELECTRODES, N_ELECTRODES, SFREQ
from train.simulate.forward import SCALP, eye_field
from train.simulate.signals import (
    band,
    bump,
    coloured_noise,
    event_times,
    log_uniform,
    pulse_train,
    renewal_times,
    slow_noise,
    taper_ends,
)

EKG = ELECTRODES.index("EKG")


@dataclass(frozen=True)
class Artefacts:
    """The artefacts of one recording. Rates in Hz, amplitudes in microvolts, electrodes by position."""

    blink_rate: float
    blink: float
    gaze_rate: float
    muscle_rate: float
    muscle: float
    pop_rate: float
    heart_rate: float
    ekg: float
    ekg_leak: float  # share of the EKG seen by the scalp
    mains: float
    drift: float
    offset: float
    dead: int | None
    noisy: int | None
    missing: int | None  # an electrode that is NaN throughout
    gap_rate: float  # of stretches in which every electrode is NaN


def draw_artefacts(rng: np.random.Generator) -> Artefacts:
    """Draw the artefacts of one recording; one in seven is full of them."""
    heavy = 6.0 if rng.random() < 0.15 else 1.0
    awake = rng.random() < 0.5

    def one_electrode(probability: float) -> int | None:
        return int(rng.integers(len(SCALP))) if rng.random() < probability else None

    return Artefacts(
        blink_rate=heavy**0.5 * rng.uniform(0.02, 0.2) if awake else 0.0,
        blink=log_uniform(rng, 40, 200),
        gaze_rate=rng.uniform(0, 0.05) if awake else 0.0,
        muscle_rate=heavy * log_uniform(rng, 0.001, 0.02),
        muscle=log_uniform(rng, 5, 50),
        pop_rate=heavy * log_uniform(rng, 0.0005, 0.005),
        heart_rate=rng.uniform(0.9, 2.0),
        ekg=0.0 if rng.random() < 0.1 else log_uniform(rng, 100, 1500),
        ekg_leak=log_uniform(rng, 0.0005, 0.01),
        mains=log_uniform(rng, 300, 3000) if rng.random() < 0.03 else log_uniform(rng, 0.5, 30),
        drift=log_uniform(rng, 3, 60),
        offset=rng.uniform(0, 60),
        dead=one_electrode(0.04),
        noisy=one_electrode(0.04),
        missing=one_electrode(0.01),
        gap_rate=0.01 if rng.random() < 0.05 else 0.0,
    )


def eyes(artefacts: Artefacts, n: int, rng: np.random.Generator) -> np.ndarray:
    """Blinks and glances on the scalp: (scalp, n)."""
    blinks = event_times(n / SFREQ, artefacts.blink_rate, rng)
    wave = pulse_train(blinks, artefacts.blink * rng.lognormal(0, 0.25, len(blinks)), bump(0.2), n)
    scalp = np.outer(eye_field(vertical=True), wave)
    glances = event_times(n / SFREQ, artefacts.gaze_rate, rng)
    heights = 0.6 * artefacts.blink * rng.choice([-1, 1], len(glances))
    return scalp + np.outer(eye_field(vertical=False), pulse_train(glances, heights, bump(0.7), n))


def add_muscle(eeg: np.ndarray, artefacts: Artefacts, rng: np.random.Generator) -> None:
    """Bursts above 15 Hz on one to four electrodes each, most often temporal; changes eeg (electrodes, n)."""
    n = eeg.shape[1]
    near_muscle = [3.0 if name in ("F7", "F8", "T3", "T4", "Fp1", "Fp2") else 1.0 for name in SCALP]
    share = np.array(near_muscle) / sum(near_muscle)
    for start in event_times(n / SFREQ, artefacts.muscle_rate, rng):
        first = int(start * SFREQ)
        length = min(int(log_uniform(rng, 0.5, 8) * SFREQ), n - first)
        where = rng.choice(len(SCALP), rng.integers(1, 5), replace=False, p=share)
        burst = coloured_noise(length, len(where), band(18, 70), rng)
        eeg[where, first : first + length] += artefacts.muscle * burst * taper_ends(length, 0.2)


def add_pops(eeg: np.ndarray, artefacts: Artefacts, rng: np.random.Generator) -> None:
    """Steps at one electrode that decay as the amplifier recovers; changes eeg (electrodes, n)."""
    n = eeg.shape[1]
    for start in event_times(n / SFREQ, artefacts.pop_rate, rng):
        first = int(start * SFREQ)
        decay = np.exp(-np.arange(n - first) / (rng.uniform(0.1, 1.0) * SFREQ))
        height = rng.choice([-1, 1]) * log_uniform(rng, 30, 600)
        eeg[rng.integers(len(SCALP)), first:] += height * decay


def heart(artefacts: Artefacts, n: int, rng: np.random.Generator) -> np.ndarray:
    """The EKG: a narrow QRS and a T wave each beat, microvolts, (n,)."""
    beats = renewal_times(n / SFREQ, artefacts.heart_rate, 0.05, rng)
    ones = np.ones(len(beats))
    qrs = pulse_train(beats, ones, bump(0.03), n) - 0.3 * pulse_train(beats + 0.04, ones, bump(0.04), n)
    return artefacts.ekg * (qrs + 0.25 * pulse_train(beats + 0.25, ones, bump(0.12), n))


def add_common_mode(eeg: np.ndarray, artefacts: Artefacts, rng: np.random.Generator) -> None:
    """Mains and drift, nearly the same on every electrode (it is the reference's), and DC; changes eeg."""
    n = eeg.shape[1]
    mismatch = 1 + 0.02 * rng.standard_normal((N_ELECTRODES, 1), dtype=np.float32)
    phase = 2 * np.pi * 60 * (np.arange(n) / SFREQ + rng.uniform())
    common = artefacts.mains * np.sin(phase) + artefacts.drift * slow_noise(n, 0.15, rng)
    eeg += mismatch * common.astype(np.float32)
    for channel in eeg:  # each electrode drifts on its own too
        channel += np.float32(0.3 * artefacts.drift) * slow_noise(n, 0.05, rng)
    eeg += rng.uniform(-artefacts.offset, artefacts.offset, (N_ELECTRODES, 1)).astype(np.float32)


def add_gaps(eeg: np.ndarray, artefacts: Artefacts, rng: np.random.Generator) -> None:
    """Stretches of 0.2 to 6 s in which nothing was recorded; changes eeg (electrodes, n)."""
    n = eeg.shape[1]
    for start in event_times(n / SFREQ, artefacts.gap_rate, rng):
        first = int(start * SFREQ)
        eeg[:, first : first + int(log_uniform(rng, 0.2, 6) * SFREQ)] = np.nan


def add_artefacts(eeg: np.ndarray, artefacts: Artefacts, rng: np.random.Generator) -> None:
    """Put the artefacts of a recording into eeg (electrodes, n), microvolts, in place."""
    n = eeg.shape[1]
    eeg[: len(SCALP)] += eyes(artefacts, n, rng)
    add_muscle(eeg, artefacts, rng)
    add_pops(eeg, artefacts, rng)
    ekg = heart(artefacts, n, rng)
    eeg[EKG] += ekg
    leak = artefacts.ekg_leak * rng.uniform(0.5, 1.5, len(SCALP))
    eeg[: len(SCALP)] += np.outer(leak, ekg)
    if artefacts.noisy is not None:
        noise = coloured_noise(n, 1, lambda f: 1 / (1 + f), rng)[0]
        eeg[artefacts.noisy] += np.float32(artefacts.muscle) * noise * np.exp(slow_noise(n, 0.05, rng))
    add_common_mode(eeg, artefacts, rng)
    if artefacts.dead is not None:
        eeg[artefacts.dead] = rng.standard_normal(n, dtype=np.float32)  # amplifier noise only
    add_gaps(eeg, artefacts, rng)
    if artefacts.missing is not None:
        eeg[artefacts.missing] = np.nan
