"""EEG and spectrograms for the tests of model inputs: made up, broken, and real."""

import itertools
from pathlib import Path

import mne
import numpy as np
import polars as pl
import pytest
import scipy.signal
import torch

from common.inputs.base import Constants, Windows, constants_wanted, needs_eeg, needs_spectrogram, with_constants
from common.inputs.build import build_input
from common.inputs.config import BipolarSequence, CombinedImage, EegMelImage, EegSpectra, KaggleImage, RawImage
from common.inputs.eeg_spectra import Crop
from common.inputs.transforms import Mel, Morlet, Multitaper, Stft
from train.experiment import load_experiment

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
# Written out here and not taken from common.schema: the tables there are under test as well.
NAMES = (
    *("Fp1", "F3", "C3", "P3", "F7", "T3", "T5", "O1"),
    *("Fz", "Cz", "Pz"),
    *("Fp2", "F4", "C4", "P4", "F8", "T4", "T6", "O2", "EKG"),
)
CHAINS = {"LL": "Fp1 F7 T3 T5 O1", "RL": "Fp2 F8 T4 T6 O2", "LP": "Fp1 F3 C3 P3 O1", "RP": "Fp2 F4 C4 P4 O2"}
DOUBLE_BANANA = [pair for chain in (*CHAINS.values(), "Fz Cz Pz") for pair in itertools.pairwise(chain.split())]


def real(name):
    if not (DATA / name).exists():
        pytest.skip(f"real data {name} is not beside the repository")
    return DATA / name


def eeg_like(seed, n_time=10_000):
    """(20, n_time) float32 coloured noise of EEG size, with an offset as referential recordings have."""
    noise = np.random.default_rng(seed).normal(size=(20, n_time))
    return (scipy.signal.lfilter([1], [1, -0.95], noise, axis=1) * 8 + 30).astype(np.float32)


def difference(eeg, anode, cathode):
    return eeg[NAMES.index(anode)].astype(np.float64) - eeg[NAMES.index(cathode)]


def chain_differences(eeg, region):
    return [difference(eeg, *pair) for pair in itertools.pairwise(CHAINS[region].split())]


def filled(signal):
    """Its gaps filled with its mean; 0 when it is all gap."""
    gap = np.isnan(signal)
    return np.zeros_like(signal) if gap.all() else np.where(gap, signal[~gap].mean(), signal)


def waves_by_mne(eeg, pairs, low=0.5, high=20.0, clip=1024.0):
    """(pairs, time) differences with their gaps filled, through MNE's band-pass, clipped; microvolts."""
    rows = np.stack([filled(difference(eeg, *pair)) for pair in pairs])
    return np.clip(mne.filter.filter_data(rows, 200, low, high, verbose="error"), -clip, clip)


def broken_eegs():
    """Normal, gap, silent electrode, all missing, constant, huge, zero: (7, 20, 10000)."""
    eegs = np.stack([eeg_like(seed) for seed in range(7)])
    eegs[1, 4:9, 3000:4500] = np.nan
    eegs[2, 5] = np.nan
    eegs[3] = np.nan
    eegs[4] = 7.3
    eegs[5] *= 1e6 / np.abs(eegs[5]).max()
    eegs[6] = 0
    return eegs


def broken_spectrograms():
    power = np.exp(np.random.default_rng(1).normal(0, 3, (7, 4, 100, 300))).astype(np.float32)
    power[1, :, :, 100:130] = np.nan
    power[2, 3] = np.nan
    power[3] = np.nan
    power[4] = 2.7
    power[5] = 1e6
    power[6] = 0
    return power


def make(windows, config):
    """Model input of raw windows, all of them EEGs or all of them spectrograms, as `config` wants them."""
    raw = torch.from_numpy(np.ascontiguousarray(windows))
    return build_input(Windows(raw, None) if config.source == "eeg" else Windows(None, raw), config)


def windows_for(config, eegs, spectrograms):
    """What `config` looks at, and None for the other."""
    return Windows(
        torch.from_numpy(eegs) if needs_eeg(config) else None,
        torch.from_numpy(spectrograms) if needs_spectrogram(config) else None,
    )


def rows_of(windows, rows):
    return Windows(*(None if raw is None else raw[rows] for raw in (windows.eeg, windows.spectrogram)))


# ---- inputs of every kind, by name; the kit's experiments have more

ALL_PARTS = ("image", "percentiles", "global")
ZOOM = Mel(window=16, hop=4, low=0.53, high=40)
SHARP = Multitaper(window=200, n_fft=256, hop=20, low=1, high=30, time_bandwidth=3, tapers=5)
STARTER_KAGGLE = KaggleImage(columns=256, standardise_over="window", divide=2, panel_rows=128)
INPUTS = {
    "kaggle": KaggleImage(parts=ALL_PARTS),
    "kaggle-stat-below": KaggleImage(standardise="stat", parts=("image", "global"), join="below"),
    "kaggle-silence-resized": KaggleImage(standardise="image", missing="silence", resize=(512, 512)),
    "kaggle-padded": STARTER_KAGGLE,
    "mel": EegMelImage(parts=ALL_PARTS),
    "mel-denoised": EegMelImage(denoise="db8", parts=("image", "global"), join="below"),
    "sequence": BipolarSequence(),
    "sequence-causal-50": BipolarSequence(phase="causal", sfreq=50, montage="interleaved"),
    "sequence-quality": BipolarSequence(quality=True, montage="mirrored-pairs", high=40, sfreq=100, clip=60),
    "sequence-40": BipolarSequence(montage="chains", low=1.6, sfreq=40, scale=104),
    "raw-crops": RawImage(
        crops=(50, 30, 10), columns=1000, montage="interleaved", scale=64, clip=500, copies=3, resize=(160, 128)
    ),
    "raw-resized": RawImage(rows="resized", crops=(50, 10), phase="causal", low=1.6, high=30),
    "stft-zooms": EegSpectra(
        montage="double-banana",
        crops=tuple(
            Crop(seconds=seconds, transform=Stft(window=128, n_fft=512, hop=hop, low=1, high=30), size=(40, 96))
            for seconds, hop in ((50, 21), (30, 13), (10, 4))
        ),
        tiles=3,
        join="below",
    ),
    "mel-zoom": EegSpectra(
        low=0.53,
        high=40,
        crops=(
            Crop(transform=Mel(n_fft=512, hop=39, n_mels=128, low=0.53, high=40), size=(64, 256)),
            Crop(seconds=10, transform=ZOOM, size=(64, 256)),
        ),
        scale="peak",
        layout="depth",
        resize=(96, 128),
    ),
    "multitaper": EegSpectra(crops=(Crop(seconds=10, transform=SHARP),), phase="causal", montage="mirrored-pairs"),
    "morlet": EegSpectra(
        crops=(Crop(seconds=10, transform=Morlet(frequencies=4, bandwidth=3.0, hop=20, low=2, high=16)),), deviation=3.0
    ),
    "two-sources": CombinedImage(images=(STARTER_KAGGLE, EegMelImage(resize=(512, 256)))),
    "as-channels": CombinedImage(
        images=(KaggleImage(resize=(64, 96)), RawImage(resize=(64, 96))), join="channels", resize=(32, 32)
    ),
    "below-each-other": CombinedImage(images=(RawImage(columns=250), RawImage(columns=250, low=2)), join="below"),
}
CONFIG_FILES = sorted((Path(__file__).resolve().parents[2] / "train" / "configs").glob("*.toml"))


def ready(config):
    """With constants in place of those of training rows."""
    measured = (Constants(mean=-0.2, deviation=2.1),) * constants_wanted(config)
    return with_constants(config, measured) if measured else config


def every_input():
    """INPUTS and those of the kit's experiments, each once."""
    seen = {f"config {path.stem}": ready(load_experiment(path).input) for path in CONFIG_FILES}
    known = set(INPUTS.values())
    return INPUTS | {name: config for name, config in seen.items() if not (config in known or known.add(config))}


def real_eeg(name):
    """(20, 10000) float32 of one of the real recordings."""
    return np.ascontiguousarray(pl.read_parquet(real(f"iiic/test_eegs/{name}.parquet")).select(NAMES).to_numpy().T)


# ---- references


def bilinear(image, size):
    """(height, width) to `size` as cv2.resize does it: between the centres of the nearest pixels, no smoothing."""
    for axis, wanted in enumerate(size):
        length = image.shape[axis]
        place = np.clip((np.arange(wanted) + 0.5) * length / wanted - 0.5, 0, length - 1)
        below = np.minimum(place.astype(int), length - 2)
        share = (place - below).reshape((-1, 1) if axis == 0 else (1, -1))
        image = image.take(below, axis) * (1 - share) + image.take(below + 1, axis) * share
    return image
