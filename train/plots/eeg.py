"""The EEG as a neurologist reads it: the double banana on pages of 10 s, and its spectra."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Rectangle

from common.inputs.transforms import Multitaper
from common.schema import CHAINS, ELECTRODES, MIDLINE, REGIONS, SFREQ
from common.signal.filters import band_pass, fill_gaps
from common.signal.montage import CHAIN_PAIRS, Pair, bipolar, neighbours
from train.plots.style import FAINT, GRID, INK, LEFT, MICROVOLT, MIDDLE, MISSING, NORMAL, RIGHT, SMALL, TINT

# Paper at 30 mm/s.
PAGE_SECONDS, PAGE_WIDTH = 10, 300  # s, mm
LANE, GROUP_GAP = 8.0, 4.0  # mm from trace to trace, and more from group to group
PEN, EKG_PEN = 8.0, 4.0  # mm that a trace may leave its own line: as far as its neighbour's; half of that
FOOT = 17.0  # mm below the EKG, for the scale bar
BAND = (0.5, 40.0)  # Hz
EKG = "EKG"
GROUPS: tuple[tuple[str, str, tuple[Pair, ...]], ...] = (
    ("left temporal", LEFT, neighbours(CHAINS["LL"])),
    ("right temporal", RIGHT, neighbours(CHAINS["RL"])),
    ("left parasagittal", LEFT, neighbours(CHAINS["LP"])),
    ("right parasagittal", RIGHT, neighbours(CHAINS["RP"])),
    ("midline", MIDDLE, neighbours(MIDLINE)),
)
PAGE_PAIRS = tuple(pair for _, _, pairs in GROUPS for pair in pairs)
LANES = (*PAGE_PAIRS, (EKG, ""))
# Depth of each trace's line below the top of the page, mm; after each group there is a gap.
ENDS = tuple(accumulate(len(pairs) for _, _, pairs in GROUPS))
LINES = tuple(LANE + number * LANE + sum(number >= end for end in ENDS) * GROUP_GAP for number in range(len(LANES)))
PAGE_HEIGHT = LINES[-1] + FOOT
SENSITIVITIES = (1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000)  # microvolts per mm
SCALE_BARS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)  # microvolts


@dataclass(frozen=True)
class Traces:
    """What the page shows, (19, time): microvolts after the display filter, and where nothing was recorded."""

    values: np.ndarray
    missing: np.ndarray
    scale: float  # microvolts per mm of the differences
    ekg_scale: float


def display_traces(eeg: np.ndarray) -> Traces:
    """(20, time) microvolts, NaN where missing -> the 18 differences of PAGE_PAIRS and the EKG, band-passed."""
    raw = torch.from_numpy(eeg)
    traces = torch.cat([bipolar(raw, PAGE_PAIRS), raw[ELECTRODES.index(EKG)][None]])
    values, missing = band_pass(fill_gaps(traces), *BAND).numpy(), traces.isnan().numpy()
    known = np.where(missing, np.nan, np.abs(values))
    return Traces(values, missing, sensitivity(known[:-1]), ekg_sensitivity(known[-1]))


def sensitivity(amplitudes: np.ndarray) -> float:
    """Microvolts per mm, of the usual steps the one that draws a typical peak half a lane high.

    amplitudes: (differences, time), NaN where missing. A typical peak is what the upper quarter of the differences
    exceeds in a twentieth of the time: a median over time and channels would hide a pattern of one chain, and a
    maximum would follow one artefact.
    """
    known = amplitudes[~np.isnan(amplitudes).all(axis=1)]
    peak = np.percentile(np.nanpercentile(known, 95, axis=1), 75) if len(known) else 0.0
    wanted = peak / (LANE / 2) if peak > 0 else 7.0
    return min(SENSITIVITIES, key=lambda step: abs(np.log(step / wanted)))


def ekg_sensitivity(amplitudes: np.ndarray) -> float:
    """Microvolts per mm that keep the beats in their lane: of each second the largest value, of these the median."""
    beat = np.median(np.nan_to_num(amplitudes).reshape(-1, SFREQ).max(axis=1))
    return next((step for step in SENSITIVITIES if step * EKG_PEN >= beat), SENSITIVITIES[-1])


def stretches(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last + 1 of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def draw_traces(axes: Axes, traces: Traces, start: int) -> None:
    """The traces of one page from second `start`: gaps shaded, pens stopped at PEN."""
    part = slice(start * SFREQ, (start + PAGE_SECONDS) * SFREQ)
    seconds = np.arange(part.start, part.stop) / SFREQ
    colours = [colour for _, colour, pairs in GROUPS for _ in pairs] + [FAINT]
    lines = []
    for lane, (values, missing) in enumerate(zip(traces.values[:, part], traces.missing[:, part], strict=True)):
        step, pen = (traces.ekg_scale, EKG_PEN) if lane == len(PAGE_PAIRS) else (traces.scale, PEN)
        height = np.clip(values / step, -pen, pen)
        # Depth grows downwards, so a negative difference is drawn upwards.
        depth = np.where(missing, np.nan, LINES[lane] + height)
        lines.append(np.column_stack([seconds, depth]))
        for first, last in stretches(missing):
            corner = (start + first / SFREQ, LINES[lane] - LANE / 2)
            axes.add_patch(Rectangle(corner, (last - first) / SFREQ, LANE, facecolor=MISSING, linewidth=0, zorder=1))
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.6, zorder=3), autolim=False)


def draw_scale_bar(axes: Axes, start: int, scale: float) -> None:
    """So many microvolts and one second, at the page's lower right."""
    bar = min(SCALE_BARS, key=lambda value: abs(np.log(value / (scale * 8))))
    right, low = start + PAGE_SECONDS - 0.15, PAGE_HEIGHT - 1.5
    top = low - bar / scale
    axes.plot([right - 1, right, right], [low, low, top], color=INK, linewidth=1.2, zorder=4, solid_joinstyle="miter")
    axes.text(right - 1.05, low + 0.4, "1 s", ha="right", va="bottom", fontsize=SMALL, color=INK)
    label = f"{bar} {MICROVOLT}"
    axes.text(right - 0.06, (low + top) / 2, label, ha="right", va="center", fontsize=SMALL, color=INK)


def page_caption(traces: Traces) -> str:
    """How the page is drawn, in one line."""
    scale, ekg_scale = traces.scale, traces.ekg_scale
    gaps = "; grey: nothing recorded" if traces.missing.any() else ""
    return (
        f"Double banana, negative up, {BAND[0]:g}-{BAND[1]:g} Hz, {scale:g} {MICROVOLT}/mm and 30 mm/s at full size, "
        f"pens stop at {PEN * scale:g} {MICROVOLT}; EKG {ekg_scale:g} {MICROVOLT}/mm{gaps}"
    )


def eeg_page(axes: Axes, traces: Traces, start: int, tinted: bool = False) -> None:
    """Ten seconds from second `start`. The axes: x seconds of the window, y mm below the page's top."""
    axes.set_xlim(start, start + PAGE_SECONDS)
    axes.set_ylim(PAGE_HEIGHT, 0)
    axes.set_xticks(range(start, start + PAGE_SECONDS + 1))
    axes.grid(axis="x", color=GRID, linewidth=0.5, zorder=0)
    axes.set_axisbelow(True)
    axes.set_yticks(LINES, ["-".join(filter(None, pair)) for pair in LANES])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("time in the window (s)", fontsize=SMALL, color=INK, labelpad=1)
    if tinted:
        axes.set_facecolor(TINT)
    draw_traces(axes, traces, start)
    draw_scale_bar(axes, start, traces.scale)
    first = 0
    for name, colour, pairs in GROUPS:
        middle = (LINES[first] + LINES[first + len(pairs) - 1]) / 2
        for tick in axes.get_yticklabels()[first : first + len(pairs)]:
            tick.set_color(colour)
        where: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "clip_on": False}
        axes.text(-0.052, middle, name, rotation=90, ha="center", va="center", fontsize=NORMAL, color=colour, **where)
        first += len(pairs)


# ---- its spectra


def chain_spectrogram(eeg: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """The 50 s as spectra of 2 s, one panel a region: uV^2/Hz (4, frequencies, columns), Hz, seconds of its edges.

    A column is the mean of the chain's differences that have no gap there, NaN when all four have one.
    """
    recipe = Multitaper(window=2 * SFREQ, hop=SFREQ // 5, high=25.0)
    differences = bipolar(torch.from_numpy(eeg).double(), CHAIN_PAIRS)
    filled = fill_gaps(differences)
    power = recipe.density(filled - filled.mean(dim=-1, keepdim=True))  # (frequencies, 16, columns)
    gaps = differences.isnan().unfold(-1, recipe.window, recipe.hop).any(dim=-1)
    power = power.masked_fill(gaps, torch.nan)
    panels = power.unflatten(1, (len(REGIONS), -1)).nanmean(dim=2).transpose(0, 1).numpy()
    half = (recipe.window - recipe.hop) / 2 / SFREQ
    return panels, recipe.hertz(), (half, half + panels.shape[-1] * recipe.hop / SFREQ)
