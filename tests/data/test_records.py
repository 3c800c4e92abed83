"""Recordings read, repaired, refused and cut."""

import io

import numpy as np
import polars as pl
import pytest

from common.parallel import read_ahead
from common.records import RecordingError, central, cut, read_eeg, read_spectrogram
from common.schema import ELECTRODES, N_FREQUENCIES, REGIONS, SPECTROGRAM_FIELDS

# ---- EEG files


def eeg_frame(n_rows=10_000):
    rng = np.random.default_rng(n_rows)
    return pl.DataFrame({name: rng.normal(0, 40, n_rows).astype(np.float32) for name in ELECTRODES})


def written(tmp_path, frame):
    frame.write_parquet(tmp_path / "7.parquet")
    return tmp_path / "7.parquet"


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda frame: frame, None),
        (lambda frame: frame.select(reversed(frame.columns)), "columns in another order"),
        (
            lambda frame: frame.with_columns(Photic=pl.lit(1), note=pl.lit("x")),
            "extra columns ignored: 2 (Photic, note)",
        ),
        (lambda frame: frame.cast(pl.Float64), "numbers are Float64"),
        (lambda frame: frame.rename(lambda name: f" {name.lower()} "), None),  # case and blanks do not matter
        (lambda frame: frame.with_columns(fp1=pl.lit(0.0)), "extra columns ignored: 1 (fp1)"),  # the exact name wins
        (lambda frame: frame.select(pl.lit(0.0).alias("fp1"), pl.all()), "extra columns ignored: 1 (fp1)"),
    ],
)
def test_sound_values_survive_unchanged(tmp_path, change, finding):
    frame = eeg_frame()
    read = read_eeg(written(tmp_path, change(frame)))
    assert read.values.dtype == np.float32
    np.testing.assert_array_equal(read.values, frame.to_numpy().T)
    assert len(read.findings) == (finding is not None) and (finding is None or finding in read.findings[0])


@pytest.mark.parametrize("how", ["dropped", "text", "null"])
def test_missing_electrodes_become_nan(tmp_path, how):
    frame, gone = eeg_frame(10_500), ["Fp1", "O2", "EKG"]
    stand_in = pl.lit("flat") if how == "text" else pl.lit(None)
    changed = frame.drop(gone) if how == "dropped" else frame.with_columns(stand_in.alias(name) for name in gone)
    read = read_eeg(written(tmp_path, changed))
    rows = [ELECTRODES.index(name) for name in gone]
    assert np.isnan(read.values[rows]).all() and read.values.shape == (20, 10_500)
    kept = [row for row in range(20) if row not in rows]
    np.testing.assert_array_equal(read.values[kept], frame.to_numpy().T[kept])
    assert read.findings == (f"missing columns read as NaN: {len(gone)} ({', '.join(gone)})",)


def test_integers_nulls_and_what_no_float32_holds(tmp_path):
    frame = eeg_frame().with_columns(
        Fp1=pl.int_range(10_000, dtype=pl.Int16),
        F3=pl.when(pl.int_range(10_000) < 5).then(None).otherwise(pl.lit(3.5)),
        C3=pl.when(pl.int_range(10_000) == 1).then(1e300).otherwise(pl.lit(2.25)),
        P3=pl.when(pl.int_range(10_000) == 2).then(-np.inf).otherwise(pl.lit(1.5)),
    )
    read = read_eeg(written(tmp_path, frame))
    np.testing.assert_array_equal(read.values[0], np.arange(10_000))
    for row, gaps, value in ((1, range(5), 3.5), (2, [1], 2.25), (3, [2], 1.5)):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(read.values[row])), list(gaps))
        assert (read.values[row][~np.isnan(read.values[row])] == value).all()
    assert read.findings == ("numbers are Float64, Int16", "some values are NaN", "infinite values read as NaN")


def test_central_window_of_any_length(tmp_path):
    for n_rows, first, before in ((9_000, 0, 500), (12_000, 1_000, 0), (1, 0, 5_000), (10_000, 0, 0)):
        frame = eeg_frame(n_rows)
        read = read_eeg(written(tmp_path, frame))
        assert [f"{n_rows} of 10000" in finding for finding in read.findings] == [True] * (n_rows < 10_000)
        window, n_kept = central(read.values, 10_000), min(n_rows, 10_000)
        assert window.shape == (20, 10_000) and window.dtype == np.float32
        np.testing.assert_array_equal(
            window[:, before : before + n_kept], frame.to_numpy().T[:, first : first + n_kept]
        )
        assert np.isnan(window).sum() == 20 * (10_000 - n_kept)


def test_cut_leaves_nan_outside():
    values = np.arange(6, dtype=np.float32)[None]
    expected = {
        -2: [np.nan, np.nan, 0, 1],
        0: [0, 1, 2, 3],
        4: [4, 5, np.nan, np.nan],
        9: [np.nan] * 4,
        -9: [np.nan] * 4,
    }
    for start, window in expected.items():
        np.testing.assert_array_equal(cut(values, start, 4)[0], np.array(window))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), r"not a readable parquet file \(Is a directory\)"),
        (lambda path: path.write_bytes(b""), "not a readable parquet"),
        (lambda path: path.write_bytes(whole_parquet()[:-9]), "not a readable parquet"),
        (lambda path: path.write_bytes(flipped(whole_parquet(), 16, 0)), "not a readable parquet"),
        (lambda path: path.open("w").truncate(2**30 + 1), r"more than 1,073,741,824 bytes"),
        (lambda path: pl.select(Fp1=pl.zeros(10**7 + 1, pl.Int8)).write_parquet(path), "10,000,001 rows, no recording"),
        (lambda path: eeg_frame(0).write_parquet(path), "no rows"),
        (lambda path: pl.DataFrame({"a": [1.0], "b": [2.0]}).write_parquet(path), "none of its 2 columns"),
        (lambda path: eeg_frame(3).cast(pl.String).write_parquet(path), "no numbers but String in its columns: 20"),
        (lambda path: (eeg_frame(3).cast(pl.Float64) * np.inf).write_parquet(path), "not one finite"),
    ],
)
def test_hopeless_eeg_is_named(tmp_path, make, message):
    path = tmp_path / "7.parquet"
    make(path)
    with pytest.raises(RecordingError, match=rf"^7\.parquet: {message}"):
        read_eeg(path)


def whole_parquet():
    buffer = io.BytesIO()
    eeg_frame(500).write_parquet(buffer)
    return buffer.getvalue()


def flipped(content, at, bit):
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


@pytest.mark.slow
def test_no_flipped_bit_ends_the_process(tmp_path):
    """In the first page's header and in the table of contents: it is read, or refused by name."""
    content, path = whole_parquet(), tmp_path / "7.parquet"
    refused = 0
    for at in (*range(64), *range(len(content) - 400, len(content))):
        for bit in range(8):
            path.write_bytes(flipped(content, at, bit))
            try:
                read_eeg(path)
            except RecordingError:
                refused += 1
    assert refused > 1000


# ---- spectrogram files


def power_frame(n_rows=300):
    fields = [field for region in SPECTROGRAM_FIELDS.values() for field in region]
    values = np.exp(np.random.default_rng(n_rows).normal(size=(n_rows, 400))).astype(np.float32)
    return pl.DataFrame({"time": np.arange(n_rows) * 2 + 1} | {f: values[:, k] for k, f in enumerate(fields)}), values


def spelt(decimals):
    """Names with the bin's own frequency, of which the file spells at most two decimals."""

    def rename(name):
        region, _, hertz = name.partition("_")
        return f"{region}_{round(float(hertz) * 1024 / 200) * 200 / 1024:.{decimals}f}" if hertz else name

    return rename


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda frame: frame.select(reversed(frame.columns)), "columns in another order"),
        (lambda frame: frame.drop("time"), None),
        (lambda frame: frame.with_columns(pl.col("time").cast(pl.String)), "time is String: its rows are taken"),
        (lambda frame: frame.sample(fraction=1, shuffle=True, seed=3), "not in the order of time"),
        (lambda frame: frame.rename(str.lower), None),
        (lambda frame: frame.rename(spelt(3)), None),  # LL_3.125 is the file's LL_3.13
        (lambda frame: frame.rename(spelt(2)), None),  # LL_4.10 is the file's LL_4.1
        (lambda frame: frame.with_columns(pl.lit(7.0).alias("LL_3.125")), "extra columns ignored: 1 (LL_3.125)"),
        (lambda frame: frame.with_columns(pl.lit(7.0).alias("RR_3.13")), "extra columns ignored: 1 (RR_3.13)"),
        (lambda frame: frame.with_columns(time=pl.col("time") * 2), "a row every 4 s"),
        (lambda frame: frame.with_columns(time=pl.col("time").replace(11, None)), "time has gaps: rows are taken"),
        (lambda frame: frame.with_columns(pl.col("time").cast(pl.UInt16)), None),
        (
            lambda frame: frame.rename({"LL_0.59": "LL_0.5859"}).with_columns(pl.lit("x").alias("LL_0.59")),
            "extra columns",
        ),
    ],
)
def test_sound_power_survives_unchanged(tmp_path, change, finding):
    frame, values = power_frame(310)
    read = read_spectrogram(written(tmp_path, change(frame)))
    np.testing.assert_array_equal(read.values, values.T.reshape(len(REGIONS), N_FREQUENCIES, 310))
    assert len(read.findings) == (finding is not None) and (finding is None or finding in read.findings[0])


@pytest.mark.parametrize(("n_rows", "first"), [(300, 0), (310, 5), (200, -50)])
def test_spectrograms_of_any_length_and_their_centre(tmp_path, n_rows, first):
    frame, values = power_frame(n_rows)
    read = read_spectrogram(written(tmp_path, frame))
    np.testing.assert_array_equal(read.values, values.T.reshape(len(REGIONS), N_FREQUENCIES, n_rows))
    assert read.findings == (("200 of 300 columns: the rest is missing",) if n_rows == 200 else ())
    centre = central(read.values, 300)
    np.testing.assert_array_equal(centre[:, :, 150], read.values[:, :, 150 + first])


def test_power_that_does_not_vary_is_named(tmp_path):
    frame = power_frame(300)[0]
    still = frame.select("time", pl.exclude("time") * 0)
    assert read_spectrogram(written(tmp_path, still)).findings == ("no power varies",)


def test_negative_power_and_a_lost_region(tmp_path):
    frame, values = power_frame()
    frame = frame.drop([name for name in frame.columns if name.startswith("RP_")])
    frame = frame.with_columns(pl.when(pl.col("time") == 3).then(-1.0).otherwise("LL_0.59").alias("LL_0.59"))
    read = read_spectrogram(written(tmp_path, frame))
    assert np.isnan(read.values[3]).all() and np.isnan(read.values[0, 0, 1])
    assert np.isnan(read.values).sum() == 100 * 300 + 1
    np.testing.assert_array_equal(read.values[2], values[:, 200:300].T)
    assert [finding.split(":")[0] for finding in read.findings] == [
        "missing columns read as NaN",
        "negative power read as NaN",
    ]


@pytest.mark.parametrize("factor", [np.nan, -1.0])
def test_hopeless_spectrogram_is_named(tmp_path, factor):
    frame, _ = power_frame(5)
    with pytest.raises(RecordingError, match=r"^7\.parquet: not one finite value"):
        read_spectrogram(written(tmp_path, frame * factor))
    with pytest.raises(RecordingError, match=r"^7\.parquet: none of its 1 columns"):
        read_spectrogram(written(tmp_path, frame.select("time")))


def test_read_ahead_keeps_order_and_hands_on_errors():
    assert list(read_ahead(lambda n: n * n, range(30), ahead=5)) == [n * n for n in range(30)]
    results = read_ahead(lambda n: 1 // (3 - n), range(6), ahead=2)
    assert [next(results) for _ in range(3)] == [0, 0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
