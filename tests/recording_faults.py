"""Ways in which a recording can be broken, and what must become of each."""

from dataclasses import dataclass

import polars as pl

from common.schema import SPECTROGRAM_FIELDS

BASE = 1  # id of the sound recording that every broken one is made of; the broken ones are 2, 3, ...
TIME = pl.int_range(pl.len())


def gone(path):
    path.unlink()


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


FILE_FAULTS = (gone, half, empty)  # the others change the table in the file


def only(*columns, to):
    def change(frame):
        chosen = columns or frame.columns
        return frame.with_columns(pl.lit(to, frame[name].dtype).alias(name) for name in chosen)

    return change


def now_and_then(to):
    """Every third sample of one electrode."""
    return lambda frame: frame.with_columns(T3=pl.when(TIME % 3 == 0).then(pl.lit(to, pl.Float32)).otherwise("T3"))


def longer(rows):
    """Foreign rows at both ends: the central part is the sound one. `time` goes on as in a file."""

    def change(frame):
        whole = pl.concat([frame.reverse()[:rows], frame, frame.reverse()[:rows]])
        return whole.with_columns(time=2 * TIME + 1) if "time" in frame.columns else whole

    return change


def nothing_central(frame):
    nan = frame.with_columns(pl.lit(float("nan"), pl.Float32).alias(name) for name in frame.columns)
    return pl.concat([frame[:1000], nan, frame[:1000]])


def integers(frame):
    assert frame.max().max_horizontal().item() < 2**15  # else the cast, not the reader, is at fault
    return frame.cast(pl.Int16)


def reverse_columns(frame):
    return frame.select(reversed(frame.columns))


def more_columns(frame):
    return frame.with_columns(Pz2=pl.lit(9.0), samples=TIME, note=pl.lit("x"))


def lower_case(frame):
    return frame.rename(str.lower)


@dataclass(frozen=True)
class Case:
    """A fault and what must become of it; None: nothing of the kind may be reported."""

    eeg: object = None
    spectrogram: object = None
    same: bool = False  # the answer is that of the sound recording
    repaired: str | None = None
    rebuilt: str | None = None
    fallback: tuple[str, str] | None = None  # answer, why


NAN = float("nan")
NO_WAVE, NO_IMAGE = "blend without tiny-wave", "blend without tiny-image"
LL, LP = (SPECTROGRAM_FIELDS[region] for region in ("LL", "LP"))
CASES = {
    # EEG: an answer of both models
    "NaN channels": Case(only("T3", "Fz", "O2", to=NAN), repaired="EEG: some values are NaN"),
    "NaN now and then": Case(now_and_then(NAN), repaired="EEG: some values are NaN"),
    "infinities": Case(now_and_then(float("inf")), repaired="EEG: infinite values read as NaN"),
    "huge": Case(only("T3", to=1e6)),
    "huge at times": Case(now_and_then(1e6)),
    "zero": Case(only(to=0.0), repaired="EEG: no channel varies"),
    "9000 rows": Case(lambda frame: frame[500:-500], repaired="EEG: 9000 of 10000 samples: the rest is missing"),
    "one row": Case(lambda frame: frame[:1], repaired="EEG: 1 of 10000 samples: the rest is missing"),
    "no T3": Case(lambda frame: frame.drop("T3"), repaired="EEG: missing columns read as NaN: 1 (T3)"),
    "T3 is text": Case(
        lambda frame: frame.with_columns(T3=pl.lit("x")), repaired="EEG: missing columns read as NaN: 1 (T3)"
    ),
    # EEG: harmless
    "12000 rows": Case(longer(1000), same=True, repaired="EEG: 12000 long: the central 10000 used"),
    "other order": Case(reverse_columns, same=True, repaired="EEG: columns in another order"),
    "lower case": Case(lower_case, same=True, repaired="EEG: column names in another spelling"),
    "more columns": Case(more_columns, same=True, repaired="EEG: extra columns ignored: 3 (Pz2, samples, note)"),
    "no EKG": Case(lambda frame: frame.drop("EKG"), same=True, repaired="EEG: missing columns read as NaN: 1 (EKG)"),
    "integers": Case(integers, same=True, repaired="EEG: numbers are Int16"),
    "double": Case(lambda frame: frame.cast(pl.Float64), same=True, repaired="EEG: numbers are Float64"),
    # EEG: the other model answers
    "all NaN": Case(only(to=NAN), fallback=(NO_WAVE, "EEG ID.parquet: not one finite sample")),
    "nothing central": Case(nothing_central, fallback=(NO_WAVE, "EEG ID.parquet: nothing finite in its central 50 s")),
    "cut in half": Case(half, fallback=(NO_WAVE, "EEG ID.parquet: not a readable parquet file (")),
    "empty": Case(empty, fallback=(NO_WAVE, "EEG ID.parquet: not a readable parquet file (")),
    "no file": Case(gone, fallback=(NO_WAVE, "EEG ID.parquet: no such file")),
    "no rows": Case(lambda frame: frame[:0], fallback=(NO_WAVE, "EEG ID.parquet: no rows")),
    "no electrode": Case(
        lambda frame: frame.rename(lambda name: f"{name}x"),
        fallback=(NO_WAVE, "EEG ID.parquet: none of its 20 columns is one of Fp1, F3, C3 ..."),
    ),
    # spectrogram
    "spectrogram in other order": Case(
        spectrogram=reverse_columns, same=True, repaired="spectrogram: columns in another order"
    ),
    "rows shuffled": Case(
        spectrogram=lambda frame: frame.sample(fraction=1, shuffle=True, seed=1),
        same=True,
        repaired="spectrogram: rows were not in the order of time",
    ),
    "350 rows": Case(spectrogram=longer(25), same=True, repaired="spectrogram: 350 long: the central 300 used"),
    "250 rows": Case(
        spectrogram=lambda frame: frame[25:-25], repaired="spectrogram: 250 of 300 columns: the rest is missing"
    ),
    "negative": Case(
        spectrogram=lambda frame: frame.with_columns(-pl.col(LL[5])),
        repaired="spectrogram: negative power read as NaN",
    ),
    "spectrogram gone": Case(spectrogram=gone, rebuilt="spectrogram ID.parquet: no such file"),
    "spectrogram in half": Case(spectrogram=half, rebuilt="spectrogram ID.parquet: not a readable parquet file ("),
    "spectrogram NaN": Case(
        spectrogram=lambda frame: only(*frame.columns[1:], to=NAN)(frame),
        rebuilt="spectrogram ID.parquet: not one finite value",
    ),
    "region NaN": Case(
        spectrogram=only(*LP, to=NAN),
        repaired="spectrogram: some values are NaN",
        rebuilt="spectrogram ID.parquet: a region without one finite value",
    ),
    "no region": Case(
        spectrogram=lambda frame: frame.drop(LP),
        repaired="spectrogram: missing columns read as NaN: 100 (LP_0.59, LP_0.78, LP_0.98, LP_1.17, ...)",
        rebuilt="spectrogram ID.parquet: a region without one finite value",
    ),
    # both
    "too short to rebuild from": Case(
        lambda frame: frame[:1],
        gone,
        repaired="EEG: 1 of 10000 samples: the rest is missing",
        fallback=(NO_IMAGE, "spectrogram ID.parquet: missing, and the EEG's gaps leave no column"),
    ),
    "both gone": Case(
        gone,
        gone,
        fallback=(
            "prior",
            "EEG ID.parquet: no such file; spectrogram ID.parquet: no such file, and no EEG to rebuild it from",
        ),
    ),
    "both broken": Case(empty, half, fallback=("prior", "EEG ID.parquet: not a readable parquet file (")),
}
ID = {name: number for number, name in enumerate(CASES, start=BASE + 1)}
