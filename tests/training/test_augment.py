"""Changes of raw windows: what each keeps, how often it happens, that a window is changed by its own draws alone."""

import itertools

import numpy as np
import pytest
import torch
from eeg_samples import NAMES, eeg_like

from common.inputs.base import Windows
from common.schema import REGIONS
from common.signal.montage import electrode_sources, mirror_eeg, mirror_spectrogram, reverse_time
from train.augment.signal import (
    DropElectrodes,
    NarrowBand,
    RandomGaps,
    SignalChanges,
    change_signals,
    draw_shifts,
    draw_signal_changes,
    pass_band,
)
from train.experiment import Augment

ALL = Augment(
    mirror=0.5,
    swap_chains=0.5,
    reverse=0.5,
    drop_electrodes=DropElectrodes(),
    narrow_band=NarrowBand(chance=0.5),
    gaps=RandomGaps(chance=0.5),
)
EKG = NAMES.index("EKG")


def drawing(seed=0):
    return torch.Generator().manual_seed(seed)


def some_windows(n_rows, seed=0):
    """EEG and spectrogram, with a stretch that is missing in both."""
    eeg = torch.from_numpy(np.stack([eeg_like(seed + k) for k in range(n_rows)]))
    spectrogram = torch.rand(n_rows, 4, 100, 300, generator=drawing(seed))
    eeg[:, 4, 2000:2300] = torch.nan
    spectrogram[:, 1, :, 40:50] = torch.nan
    return Windows(eeg, spectrogram)


def same(made, expected):
    return torch.equal(made.nan_to_num(7e30), expected.nan_to_num(7e30))


# ---- shifts


def test_shifts_are_uniform_and_none_is_drawn_for_none():
    draws = drawing()
    shifts = draw_shifts(Augment(shift=5.0), 4000, draws)
    assert -5 <= shifts.min() < -4.9 and 4.9 < shifts.max() <= 5 and abs(shifts.mean()) < 0.2
    assert shifts.var() == pytest.approx(25 / 3, rel=0.05)
    before = draws.get_state()
    assert draw_shifts(Augment(any_window=True), 9, draws) is None
    assert torch.equal(draws.get_state(), before)


# ---- hemispheres, chains, time


@pytest.mark.parametrize(
    ("augment", "of_eeg", "of_spectrogram"),
    [
        (Augment(mirror=1.0), mirror_eeg, mirror_spectrogram),
        (Augment(reverse=1.0), reverse_time, reverse_time),
    ],
    ids=["mirror", "reverse"],
)
def test_mirror_and_reverse_are_those_of_the_montage_and_twice_is_nothing(augment, of_eeg, of_spectrogram):
    windows = some_windows(3)
    changes = draw_signal_changes(augment, 3, drawing())
    once = change_signals(windows, changes)
    assert same(once.eeg, of_eeg(windows.eeg)) and same(once.spectrogram, of_spectrogram(windows.spectrogram))
    twice = change_signals(once, changes)
    assert same(twice.eeg, windows.eeg) and same(twice.spectrogram, windows.spectrogram)


@pytest.mark.parametrize("mirror", [0.0, 0.5])
def test_mirror_and_swapped_chains_reach_every_arrangement_alike(mirror):
    """Each side by itself is swapped or not, and all is mirrored or not: in EEG and spectrogram together."""
    n_rows, one = 800, some_windows(1)
    windows = Windows(one.eeg[..., :50].expand(n_rows, -1, -1), one.spectrogram[..., :5, :].expand(n_rows, -1, -1, -1))
    changed = change_signals(windows, draw_signal_changes(Augment(mirror=mirror, swap_chains=0.5), n_rows, drawing()))
    sides = (("LL", "LP"), ("LP", "LL")), (("RL", "RP"), ("RP", "RL"))
    pairs = [*itertools.product(*sides), *(itertools.product(*reversed(sides)) if mirror else ())]
    for (first, third), (second, fourth) in pairs:
        arrangement = (first, second, third, fourth)
        eeg = windows.eeg[0, electrode_sources(arrangement)]
        panels = windows.spectrogram[0, [REGIONS.index(region) for region in arrangement]]
        of_eeg = (changed.eeg.nan_to_num(7e30) == eeg.nan_to_num(7e30)).flatten(1).all(dim=1)
        of_panels = (changed.spectrogram.nan_to_num(7e30) == panels.nan_to_num(7e30)).flatten(1).all(dim=1)
        assert torch.equal(of_eeg, of_panels)
        assert of_eeg.sum() == pytest.approx(n_rows / len(pairs), rel=0.4)


# ---- electrodes


def test_so_many_electrodes_of_so_many_windows_as_the_config_says():
    n_rows = 4000
    for name, option in (
        ("drop_electrodes", DropElectrodes(chance=0.3, most=3)),
        ("narrow_band", NarrowBand(chance=0.3, most=3)),
        ("gaps", RandomGaps(chance=0.3, most=3)),
    ):
        drawn = draw_signal_changes(Augment(**{name: option}), n_rows, drawing())
        kinds = {"drop_electrodes": drawn.missing, "narrow_band": drawn.narrowed, "gaps": drawn.gapped}
        chosen = kinds.pop(name)
        assert not any(other.any() for other in kinds.values()) and not drawn.arrangement.any()
        numbers = chosen.sum(dim=1).bincount(minlength=5).tolist()
        assert numbers[0] == pytest.approx(0.7 * n_rows, abs=120) and numbers[4] == 0
        assert all(count == pytest.approx(0.1 * n_rows, abs=80) for count in numbers[1:4])
        each = chosen.sum(dim=0)
        assert each[EKG] == 0
        assert all(count == pytest.approx(0.6 * n_rows / 19, abs=50) for count in each[:EKG].tolist())


def test_missing_electrodes_are_nan_and_the_rest_is_as_it_was():
    windows = some_windows(40)
    changes = draw_signal_changes(Augment(drop_electrodes=DropElectrodes()), 40, drawing())
    made = change_signals(windows, changes)
    assert changes.missing.any()
    assert made.eeg[changes.missing].isnan().all()
    assert same(made.eeg[~changes.missing], windows.eeg[~changes.missing])
    assert same(made.spectrogram, windows.spectrogram)


def test_gaps_are_as_long_as_drawn_and_lie_anywhere():
    n_rows = 300
    option = RandomGaps(chance=1.0, most=4, seconds=5.0)
    changes = draw_signal_changes(Augment(gaps=option), n_rows, drawing())
    first, end = changes.gap.unbind(dim=1)
    length = end - first
    assert 1 <= length.min() <= 20 and 980 <= length.max() <= 1000 and first.min() < 150 and end.max() > 9_850
    assert length.float().mean() == pytest.approx(500, abs=50) and first.min() >= 0 and end.max() <= 10_000
    made = change_signals(Windows(torch.zeros(20, 20, 10_000), None), changes.part(slice(20)))
    for row, electrode in itertools.product(range(20), range(20)):
        missing = made.eeg[row, electrode].isnan().nonzero()[:, 0].tolist()
        gap = list(range(int(first[row]), int(end[row])))
        assert missing == (gap if changes.gapped[row, electrode] else [])
    whole = draw_signal_changes(Augment(gaps=RandomGaps(seconds=50.0)), 500, drawing()).gap
    assert whole[:, 1].max() <= 10_000 and (whole[:, 1] - whole[:, 0]).max() > 9_800


# ---- narrower bands


def sine(hertz, n_time=10_000):
    return 100 * torch.sin(2 * torch.pi * hertz * torch.arange(n_time) / 200 + 0.3)


def test_a_narrow_band_passes_what_is_inside_and_nothing_else_of_the_chosen_electrode():
    windows = Windows((sine(4) + sine(12) + 3000).expand(2, 20, -1).clone(), None)
    narrowed = torch.zeros(2, 20, dtype=torch.bool)
    narrowed[1, NAMES.index("C3")] = True
    changes = SignalChanges(
        torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.bool), ~narrowed & False, narrowed,
        torch.tensor([[2.0, 8.0], [2.0, 8.0]]), ~narrowed & False, torch.zeros(2, 2, dtype=torch.long),
    )  # fmt: skip
    made = change_signals(windows, changes).eeg
    assert torch.equal(made[~narrowed], windows.eeg[~narrowed])
    inside = slice(600, -600)
    assert (made[narrowed] - sine(4))[0, inside].abs().max() < 1


@pytest.mark.parametrize(
    ("band", "gains"),
    [
        ((0.5, 20.0), {1: 1, 20: 1, 22.5: 0.5, 26: 0}),  # Hz: gain; 22.5 is half-way down
        ((2.0, 10.0), {1: 0.5}),
        ((5.0, 8.0), {2.9: 0, 4: 0.5, 5: 1, 10.1: 0}),
    ],
)
def test_edges_of_the_band_are_where_they_should_be(band, gains):
    for hertz, gain in gains.items():
        passed = pass_band(sine(hertz)[None], torch.tensor([band]))[0, 2000:-2000]
        expected = gain * sine(hertz)[2000:-2000]
        assert (passed - expected).abs().max() < 1.5  # of 100 microvolts


def test_a_drift_does_not_ring_at_the_ends():
    slope = torch.linspace(-2000, 2000, 10_000)
    assert pass_band(slope[None], torch.tensor([[2.0, 8.0]])).abs().max() < 1


def test_an_offset_does_not_ring_around_a_gap():
    signal = sine(4) + 3000
    signal[4000:4500] = torch.nan
    left = (pass_band(signal[None], torch.tensor([[2.0, 8.0]]))[0] - sine(4)).abs()
    assert left[600:-600].nan_to_num().max() < 150 and left[1000:3500].max() < 2 and left[5000:9000].max() < 2


def test_gaps_stay_gaps_in_a_narrow_band_and_each_signal_has_its_own():
    signals = torch.from_numpy(eeg_like(3)[:4].copy())
    signals[1, 3000:3400] = torch.nan
    signals[2] = torch.nan
    bands = torch.tensor([[1.0, 8.0], [1.0, 8.0], [0.5, 20.0], [0.5, 20.0]])
    passed = pass_band(signals, bands)
    assert torch.equal(passed.isnan(), signals.isnan())
    power = torch.fft.rfft(passed[[0, 3]]).abs().square()
    high = slice(12 * 50, 20 * 50)  # bins of 12 to 20 Hz
    assert power[0, high].sum() < 1e-3 * power[1, high].sum()
    before = signals.clone()
    assert same(pass_band(signals, bands), passed) and same(signals, before)


def test_bands_lie_between_what_the_config_and_the_kit_say():
    for high, (lowest, highest) in ((8.0, (8, 20)), (30.0, (20, 30)), (20.0, (20, 20))):
        band = draw_signal_changes(Augment(narrow_band=NarrowBand(low=3.0, high=high)), 2000, drawing()).band
        assert band.min(dim=0).values.tolist() == pytest.approx([0.5, lowest], abs=0.05)
        assert band.max(dim=0).values.tolist() == pytest.approx([3.0, highest], abs=0.05)


# ---- all together


def test_nothing_drawn_gives_the_same_object_and_nothing_given_is_written_to():
    windows = some_windows(6)
    kept = Windows(windows.eeg.clone(), windows.spectrogram.clone())
    assert change_signals(windows, draw_signal_changes(Augment(), 6, drawing())) is windows
    never = ALL.model_copy(update={"mirror": 0.0, "swap_chains": 0.0, "reverse": 0.0})
    never = never.model_copy(update={name: getattr(ALL, name).model_copy(update={"chance": 0.0})
                                     for name in ("drop_electrodes", "narrow_band", "gaps")})  # fmt: skip
    assert change_signals(windows, draw_signal_changes(never, 6, drawing())) is windows
    made = change_signals(windows, draw_signal_changes(ALL, 6, drawing()))
    assert not same(made.eeg, kept.eeg)
    assert same(windows.eeg, kept.eeg) and same(windows.spectrogram, kept.spectrogram)


def test_a_window_is_changed_by_its_own_draws_alone():
    windows, changes = some_windows(8), draw_signal_changes(ALL, 8, drawing(4))
    whole = change_signals(windows, changes)
    for part in (slice(3, 6), np.array([5, 0, 5]), slice(2, 3)):
        of_part = change_signals(Windows(windows.eeg[part], windows.spectrogram[part]), changes.part(part))
        # But for the rounding of the FFT, which differs between one signal and several; microvolts.
        torch.testing.assert_close(of_part.eeg, whole.eeg[part], rtol=1e-5, atol=1e-4, equal_nan=True)
        assert same(of_part.spectrogram, whole.spectrogram[part])
    alone = change_signals(Windows(None, windows.spectrogram), changes)
    assert alone.eeg is None and same(alone.spectrogram, whole.spectrogram)
    alone = change_signals(Windows(windows.eeg, None), changes)
    assert alone.spectrogram is None and same(alone.eeg, whole.eeg)


def test_draws_come_from_the_generator_that_is_given_and_no_other():
    before = torch.get_rng_state()
    first, again, other = (vars(draw_signal_changes(ALL, 64, drawing(seed))) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)
    shares = draw_signal_changes(Augment(mirror=0.3, reverse=0.8), 4000, drawing())
    assert (shares.arrangement == 4).float().mean() == pytest.approx(0.3, abs=0.03)
    assert shares.reversed.float().mean() == pytest.approx(0.8, abs=0.03)
