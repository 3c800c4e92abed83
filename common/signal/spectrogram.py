"""The competition's own spectrogram: four regions, multitaper, a column every 2 s."""

import functools

import numpy as np
import scipy.signal
import torch
from torch import Tensor

from common.parallel import parallel_map
from common.schema import (
    N_FREQUENCIES,
    REGIONS,
    SFREQ,
    SPECTROGRAM_BINS,
    SPECTROGRAM_COLUMNS,
    SPECTROGRAM_NFFT,
    SPECTROGRAM_STEP_SECONDS,
    WINDOW_SECONDS,
)
from common.signal.montage import CHAIN_PAIRS, bipolar
from common.signal.spectra import tapered_rows

# The competition's recipe, recovered from real recordings: differences band-passed forwards and backwards, 4 s windows
# every 2 s, three DPSS tapers. Without the band-pass log power is off by .24 instead of .01 to .03 (root mean square).
BAND_ORDER, BAND = 3, (0.5, 40.0)  # of the Butterworth filter; Hz
TAPER_STEP = SPECTROGRAM_STEP_SECONDS * SFREQ
TAPER_SAMPLES = 2 * TAPER_STEP
TIME_BANDWIDTH, N_TAPERS = 2, 3
# Column k spans seconds 2k - 1 ... 2k + 3 of the 600: these lie inside the central 50 s.
CENTRE_COLUMNS = range(138, 162)


@functools.cache
def block_factors() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What the spectrum of a window is made of, float64: functions (rank, 400) of a block of 2 s, their signs when the
    block is reversed (rank,), and the even and the odd half's rows (3 x 100, rank), taper by taper.

    A window is two blocks, and what its tapers show below 20 Hz of a block is some 100 numbers, not 400. They are
    taken once from each block, which is the end of one window and the beginning of the next, and folded instead
    of the samples: later block plus or minus the earlier one reversed. Only in float64: there the rounding of the
    first step lies below the weakest bin.
    """
    even, odd = tapered_rows(TAPER_SAMPLES, SPECTROGRAM_NFFT, SPECTROGRAM_BINS, TIME_BANDWIDTH, N_TAPERS)
    halves, functions, signs = np.concatenate([even, odd]), [], []
    for sign in (1, -1):  # functions that are even or odd about the block's own centre: a reversal is a sign
        folded = halves[:, TAPER_STEP // 2 :] + sign * halves[:, : TAPER_STEP // 2][:, ::-1]
        _, values, shapes = np.linalg.svd(folded, full_matrices=False)
        rank = int((values > 1e-13 * values[0]).sum())
        functions.append(np.concatenate([sign * shapes[:rank, ::-1], shapes[:rank]], axis=1) / np.sqrt(2))
        signs += [sign] * rank
    basis = np.concatenate(functions)
    return basis, np.array(signs, dtype=np.float64), even @ basis.T, odd @ basis.T


def multitaper_power(signals: Tensor) -> Tensor:
    """(signals, time) microvolts, float64 -> (signals, columns, 100) uV^2/Hz."""
    basis, signs, even, odd = (torch.from_numpy(array).to(signals.device) for array in block_factors())
    blocks = signals.unfold(-1, TAPER_STEP, TAPER_STEP) @ basis.T  # (signals, blocks, rank)
    later, earlier = blocks[:, 1:], blocks[:, :-1] * signs
    power = ((later + earlier) @ even.T).square_().add_(((later - earlier) @ odd.T).square_())
    tapers = power.split(N_FREQUENCIES, dim=-1)
    return functools.reduce(torch.Tensor.add_, tapers).div_(N_TAPERS * SFREQ)


@functools.cache
def band_filter() -> np.ndarray:
    """Second-order sections of the recipe's band-pass."""
    return scipy.signal.butter(BAND_ORDER, BAND, btype="bandpass", fs=SFREQ, output="sos")


def band_passed(signals: Tensor) -> Tensor:
    """(signals, time) float64 microvolts through the recipe's band-pass, without delay. NaN stays NaN; the filter runs
    over gaps on a straight line from one end to the other."""
    gaps, values = signals.isnan().numpy(), signals.numpy().copy()
    time = np.arange(values.shape[-1])
    for signal, gap in zip(values, gaps, strict=True):
        if gap.any() and not gap.all():
            signal[gap] = np.interp(time[gap], time[~gap], signal[~gap])
    values = np.ascontiguousarray(scipy.signal.sosfiltfilt(band_filter(), values))  # runs backwards in memory
    values[gaps] = np.nan
    return torch.from_numpy(values)


def competition_spectrogram(eeg: Tensor | np.ndarray, filtered: bool = False) -> Tensor:
    """The spectrogram as the competition's files hold it.

    eeg: (20, n) microvolts at 200 Hz in schema order, n >= 800, as the competition's files have it; filtered: it is
    band-passed already, as the pieces published with the IIIC study are. Returns (4, 100, columns) float32 power in
    uV^2/Hz, regions LL, RL, LP, RP, 0.59 ... 19.92 Hz, one column every 2 s: column j is made of samples
    400 j ... 400 j + 799. A column without any finite difference is NaN; where only some of the four differences have
    gaps, the others are averaged. Computed in float64: a drift of millivolts lies 100 dB above the weakest bins.

    Source: recovered by fitting real 10-minute spectrograms to EEG of the same recordings. On two such pairs log power
    is off by .011 and .028; the first and the last column, where the filter lacks what came before and after, by .05
    to .07.
    """
    eeg = torch.as_tensor(eeg).cpu()
    if eeg.shape[-1] < TAPER_SAMPLES:
        raise ValueError(f"a spectrogram column needs {TAPER_SAMPLES} samples (4 s), got {eeg.shape[-1]}")

    def region(differences: Tensor) -> Tensor:  # (4, time) -> (columns, 100)
        return multitaper_power(differences if filtered else band_passed(differences)).nanmean(dim=0)

    chains = bipolar(eeg.double(), CHAIN_PAIRS).chunk(len(REGIONS))
    return torch.stack(parallel_map(region, chains)).transpose(-2, -1).float()


def rebuild_spectrogram(spectrogram: Tensor | None, eeg: Tensor) -> Tensor:
    """Fill what is missing in the 24 centre columns of a 10-minute spectrogram from its 50 s of EEG.

    spectrogram: (4, 100, 300), NaN where missing, or None; eeg: (20, 10000) microvolts. Returns a
    new (4, 100, 300); values that were there, and everything outside the centre, stay as they were.
    """
    if spectrogram is None:
        shape = (len(REGIONS), N_FREQUENCIES, SPECTROGRAM_COLUMNS)
        spectrogram = torch.full(shape, torch.nan, device=eeg.device)
    rebuilt = spectrogram.clone()
    columns = competition_spectrogram(eeg).to(rebuilt.device)
    assert columns.shape[-1] == len(CENTRE_COLUMNS), f"{WINDOW_SECONDS} s of EEG expected"
    centre = rebuilt[..., CENTRE_COLUMNS.start : CENTRE_COLUMNS.stop]
    centre.copy_(torch.where(centre.isnan(), columns, centre))
    return rebuilt
