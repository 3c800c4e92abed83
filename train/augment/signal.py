"""Changes to raw windows that keep the label. They act on the signal, before the input is made.

What is changed is drawn on the CPU from a generator that is given: the same on every device, and again after a
resume. A window's result depends on its own draws alone, never on the other windows of its batch. Source: what the
strongest solutions did to the signal (mirrored, silenced and narrowed channels, shifted and reversed windows).
"""

import itertools
from dataclasses import dataclass, fields
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor

from common.inputs.base import Windows
from common.schema import ELECTRODES, REGIONS, SFREQ, WINDOW_SAMPLES
from common.signal.filters import fill_gaps
from common.signal.montage import electrode_sources, reverse_time
from common.strict import Strict

# Which chains stand in the places of REGIONS (LL, RL, LP, RP), by (mirrored, left swapped, right swapped).
ARRANGEMENTS = tuple(
    (right[0], left[0], right[1], left[1]) if mirrored else (left[0], right[0], left[1], right[1])
    for mirrored, left, right in itertools.product(
        (False, True), (("LL", "LP"), ("LP", "LL")), (("RL", "RP"), ("RP", "RL"))
    )
)
N_SCALP = ELECTRODES.index("EKG")  # the electrodes before it; the EKG is left alone
WIDEST = (0.5, 20.0)  # Hz; narrower bands lie inside
MARGIN = 5 * SFREQ  # samples; longer than a filter with an edge at 0.5 Hz rings


# ---- options

Chance = Annotated[float, Field(ge=0, le=1)]


class DropElectrodes(Strict):
    """Some electrodes are missing, as NaN."""

    chance: Chance = 0.5  # of a window
    most: int = Field(default=4, ge=1, le=N_SCALP)  # 1 to so many electrodes


class NarrowBand(Strict):
    """Some electrodes pass only a part of the band."""

    chance: Chance = 0.2  # of a window
    most: int = Field(default=8, ge=1, le=N_SCALP)  # 1 to so many electrodes
    low: float = Field(default=2.0, ge=0.5, le=5)  # Hz; the lower edge lies between 0.5 Hz and here
    high: float = Field(default=10.0, ge=6, le=40)  # Hz; the upper edge lies between here and 20 Hz (or here, if above)


class RandomGaps(Strict):
    """A stretch of some electrodes is missing, as NaN."""

    chance: Chance = 0.2  # of a window
    most: int = Field(default=4, ge=1, le=N_SCALP)  # 1 to so many electrodes
    seconds: float = Field(default=5.0, gt=0, le=50)  # the longest stretch


class SignalAugment(Strict):
    # the window's place
    shift: float = Field(default=0.0, ge=0, le=20)  # seconds; windows start up to so much earlier or later
    any_window: bool = False  # any of the windows that experts labelled with the row's votes, not always the same
    # the signal
    mirror: Chance = 0.0  # of exchanging the hemispheres
    swap_chains: Chance = 0.0  # of exchanging the lateral and the parasagittal chain, each side by itself
    reverse: Chance = 0.0  # of time running backwards
    drop_electrodes: DropElectrodes | None = None
    narrow_band: NarrowBand | None = None
    gaps: RandomGaps | None = None


OF_EEG = ("drop_electrodes", "narrow_band", "gaps")  # these change the EEG and not the competition's spectrogram

# ---- where windows start


def draw_shifts(augment: SignalAugment, n_rows: int, generator: Generator) -> np.ndarray | None:
    """Seconds by which windows start later, (n_rows,), uniform within +-shift; None when nothing moves."""
    if not augment.shift:
        return None
    return augment.shift * (2 * torch.rand(n_rows, generator=generator, dtype=torch.float64) - 1).numpy()


# ---- draws


@dataclass(frozen=True)
class SignalChanges:
    """What is drawn for each window of a batch: CPU tensors with one entry for each."""

    arrangement: Tensor  # (rows,) number in ARRANGEMENTS; 0: as it is
    reversed: Tensor  # (rows,) bool
    missing: Tensor  # (rows, 20) bool, electrodes in schema order
    narrowed: Tensor  # (rows, 20) bool
    band: Tensor  # (rows, 2) Hz, of the narrowed ones
    gapped: Tensor  # (rows, 20) bool
    gap: Tensor  # (rows, 2) first sample of the gapped ones' gap, and the one behind its last

    def part(self, rows: slice | np.ndarray) -> "SignalChanges":
        """Those of some windows of the batch."""
        return SignalChanges(*(getattr(self, field.name)[rows] for field in fields(self)))

    def nothing(self) -> bool:
        kinds = (self.arrangement, self.reversed, self.missing, self.narrowed, self.gapped)
        return not any(kind.any() for kind in kinds)


def happens(chance: float, n_rows: int, generator: Generator) -> Tensor:
    """(n_rows,) bool, true with the chance."""
    return torch.rand(n_rows, generator=generator) < chance


def draw_electrodes(
    option: DropElectrodes | NarrowBand | RandomGaps | None, n_rows: int, generator: Generator
) -> Tensor:
    """Which electrodes of which windows an option acts on, (n_rows, 20) bool: 1 to `most` of the scalp's 19."""
    chosen = torch.zeros(n_rows, len(ELECTRODES), dtype=torch.bool)
    if option is not None:
        number = torch.randint(1, option.most + 1, (n_rows, 1), generator=generator)
        place = torch.rand(n_rows, N_SCALP, generator=generator).argsort(dim=1)  # a random order of the electrodes
        chosen[:, :N_SCALP] = (place < number) & happens(option.chance, n_rows, generator)[:, None]
    return chosen


def draw_band(option: NarrowBand | None, n_rows: int, generator: Generator) -> Tensor:
    """The band that narrowed electrodes of a window pass, all alike: (n_rows, 2) Hz."""
    lowest, highest = WIDEST
    if option is None:
        return torch.tensor([lowest, highest]).expand(n_rows, 2)
    drawn = torch.rand(n_rows, 2, generator=generator)
    low = lowest + (option.low - lowest) * drawn[:, 0]
    high = min(option.high, highest) + abs(highest - option.high) * drawn[:, 1]
    return torch.stack([low, high], dim=1)


def draw_gap(option: RandomGaps | None, n_rows: int, generator: Generator) -> Tensor:
    """The gap of a window, at the same time in all its gapped electrodes: (n_rows, 2) samples, first and end."""
    if option is None:
        return torch.zeros(n_rows, 2, dtype=torch.long)
    longest = max(1, round(option.seconds * SFREQ))
    length = torch.randint(1, longest + 1, (n_rows,), generator=generator)
    drawn = torch.rand(n_rows, generator=generator, dtype=torch.float64)
    first = (drawn * (WINDOW_SAMPLES - length + 1)).long()  # inside the window
    return torch.stack([first, first + length], dim=1)


def draw_signal_changes(augment: SignalAugment, n_rows: int, generator: Generator) -> SignalChanges:
    """What to change in a batch of n_rows windows. Several processes draw alike, and take their parts."""
    arrangement = torch.zeros(n_rows, dtype=torch.long)
    for weight, chance in ((4, augment.mirror), (2, augment.swap_chains), (1, augment.swap_chains)):
        arrangement += weight * happens(chance, n_rows, generator)
    return SignalChanges(
        arrangement,
        happens(augment.reverse, n_rows, generator),
        draw_electrodes(augment.drop_electrodes, n_rows, generator),
        draw_electrodes(augment.narrow_band, n_rows, generator),
        draw_band(augment.narrow_band, n_rows, generator),
        draw_electrodes(augment.gaps, n_rows, generator),
        draw_gap(augment.gaps, n_rows, generator),
    )


# ---- changes


def change_signals(windows: Windows, changes: SignalChanges) -> Windows:
    """The windows with what was drawn for them; the very same object when that is nothing.

    Chains, hemispheres and time are exchanged in the EEG and in the spectrogram alike. Bands, missing electrodes
    and gaps are changes of the 50 s of EEG only: the competition's spectrogram shows ten minutes and stays.
    """
    if changes.nothing():
        return windows
    eeg, spectrogram = windows.eeg, windows.spectrogram
    if eeg is not None:
        eeg = turned(eeg, [electrode_sources(regions) for regions in ARRANGEMENTS], changes)
        narrow_electrodes(eeg, changes)
        silence_electrodes(eeg, changes)
    if spectrogram is not None:
        panels = [[REGIONS.index(region) for region in regions] for regions in ARRANGEMENTS]
        spectrogram = turned(spectrogram, panels, changes)
    return Windows(eeg, spectrogram)


def turned(values: Tensor, sources: list[list[int]], changes: SignalChanges) -> Tensor:
    """A copy of (rows, places, ..., time) whose places are taken from those that each row's arrangement names, and
    whose reversed rows run backwards."""
    places = torch.tensor(sources)[changes.arrangement]  # (rows, places)
    rows = torch.arange(len(values))[:, None]
    values = values[rows, places]
    if changes.reversed.any():
        values[changes.reversed] = reverse_time(values[changes.reversed])
    return values


def narrow_electrodes(eeg: Tensor, changes: SignalChanges) -> None:
    """Band-pass the chosen electrodes of (rows, 20, time) in place; only they are filtered."""
    rows, electrodes = changes.narrowed.nonzero(as_tuple=True)
    if len(rows):
        band = changes.band[rows].to(eeg.device, eeg.dtype)
        eeg[rows, electrodes] = pass_band(eeg[rows, electrodes], band)


def pass_band(signals: Tensor, band: Tensor) -> Tensor:
    """Signals (n, time) at 200 Hz within bands (n, 2) Hz, each its own, without delay. NaN stays NaN.

    Half-cosine edges in frequency, as wide as those of common.signal.filters: one filter for each signal would be too
    many to design. Ends are continued by odd reflection, which keeps a slope a slope.
    """
    n_time, (low, high) = signals.shape[-1], band.split(1, dim=1)
    filled = fill_gaps(signals)
    before = 2 * filled[:, :1] - filled[:, 1 : MARGIN + 1].flip(-1)
    after = 2 * filled[:, -1:] - filled[:, -MARGIN - 1 : -1].flip(-1)
    spectrum = torch.fft.rfft(torch.cat([before, filled, after], dim=-1))
    hertz = torch.fft.rfftfreq(n_time + 2 * MARGIN, 1 / SFREQ, device=signals.device, dtype=signals.dtype)
    low_width, high_width = (low / 4).clamp(min=2).minimum(low), (high / 4).clamp(min=2)
    rise = ((hertz - low + low_width) / low_width).clamp(0, 1)
    fall = ((hertz - high) / high_width).clamp(0, 1)
    gain = (torch.sin(torch.pi / 2 * rise) * torch.cos(torch.pi / 2 * fall)).square()
    passed = torch.fft.irfft(spectrum * gain, n_time + 2 * MARGIN)[:, MARGIN : MARGIN + n_time]
    return torch.where(signals.isnan(), signals, passed)


def silence_electrodes(eeg: Tensor, changes: SignalChanges) -> None:
    """NaN in place where an electrode of (rows, 20, time) is missing or has a gap."""
    if changes.missing.any():
        eeg.masked_fill_(changes.missing[:, :, None].to(eeg.device), torch.nan)
    if changes.gapped.any():
        time = torch.arange(eeg.shape[-1], device=eeg.device)
        first, end = changes.gap.to(eeg.device)[:, :, None].unbind(dim=1)  # (rows, 1) each
        inside = (time >= first) & (time < end)
        eeg.masked_fill_(changes.gapped[:, :, None].to(eeg.device) & inside[:, None, :], torch.nan)
