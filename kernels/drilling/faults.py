"""Ways in which the recordings of a hidden test can be broken, and what must become of each.

One source for the fault drill and the tests: what the kernel answers and says depends on which models of the
ensemble need the EEG and which the spectrogram, so `expected` takes that too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from common.schema import ELECTRODES, SPECTROGRAM_FIELDS
from drilling import damage

READ_SECONDS = 5  # what the drill's kernel gives a file to be read


@dataclass(frozen=True)
class Case:
    """A fault and what must become of it: beginnings and ends of texts, "..." for what lies between, ID for the id.

    `eeg_lost`, `spectrogram_lost`: why models that need it cannot answer. `rebuilt`: why the spectrogram was.
    """

    eeg: Callable[[Any], Any] | None = None
    spectrogram: Callable[[Any], Any] | None = None
    same: bool = False  # the answer is that of the sound recording
    repaired: tuple[str, ...] = ()
    rebuilt: str | None = None
    eeg_lost: str | None = None
    spectrogram_lost: str | None = None
    listed: int = 1  # rows in test.csv
    spectrogram_id: bool = True  # whether they name the spectrogram

    @property
    def group(self) -> str:
        if self.listed != 1 or not self.spectrogram_id:
            return "test.csv"
        changed = [name for name in ("eeg", "spectrogram") if getattr(self, name)]
        return {"eeg": "EEG", "spectrogram": "spectrogram"}.get(" and ".join(changed), "both recordings")


INFINITY = float("inf")
LL, LP = (SPECTROGRAM_FIELDS[region] for region in ("LL", "LP"))
UNREADABLE = "ID.parquet: not a readable parquet file (...)"
NO_T3 = ("EEG: missing columns read as NaN: 1 (T3)",)
NOT_IN_TIME = f"ID.parquet: not read within {READ_SECONDS} s"
CASES = {
    # EEG: an answer of all models
    "NaN channels": Case(damage.only("T3", "Fz", "O2", to=damage.NAN), repaired=("EEG: some values are NaN",)),
    "empty channel": Case(damage.only("T3", to=None), repaired=("EEG: some values are NaN",)),
    "NaN now and then": Case(damage.now_and_then(damage.NAN), repaired=("EEG: some values are NaN",)),
    "infinities": Case(damage.now_and_then(INFINITY), repaired=("EEG: infinite values read as NaN",)),
    "a volt": Case(damage.only("T3", to=1e6)),
    "a volt at times": Case(damage.now_and_then(1e6)),
    "1e30": Case(damage.only("T3", to=1e30), repaired=("EEG: values beyond 1e+09 microvolts read as NaN",)),
    "1e300 in double": Case(
        damage.cast(pl.Float64, T3=1e300), repaired=("EEG: numbers are Float64", "EEG: infinite values read as NaN")
    ),
    "integers beyond all bounds": Case(
        damage.cast(pl.Int64, T3=2**62),
        repaired=("EEG: numbers are Int64", "EEG: values beyond 1e+09 microvolts read as NaN"),
    ),
    "zero": Case(damage.only(to=0.0), repaired=("EEG: no channel varies",)),
    "constant": Case(damage.only(to=37.0), repaired=("EEG: no channel varies",)),
    "9000 rows": Case(lambda frame: frame[500:-500], repaired=("EEG: 9000 of 10000 samples: the rest is missing",)),
    "two rows": Case(lambda frame: frame[:2], repaired=("EEG: 2 of 10000 samples: the rest is missing",)),
    "one row": Case(lambda frame: frame[:1], repaired=("EEG: 1 of 10000 samples: the rest is missing",)),
    "no T3": Case(lambda frame: frame.drop("T3"), repaired=NO_T3),
    "T3 is text": Case(damage.column(T3=pl.lit("x")), repaired=NO_T3),
    "T3 is lists": Case(damage.column(T3=pl.concat_list("T3", "Fz")), repaired=NO_T3),
    "T3 is bytes": Case(damage.column(T3=pl.lit(b"x")), repaired=NO_T3),
    "T3 is yes or no": Case(damage.column(T3=pl.col("T3") > 0), repaired=NO_T3),
    # EEG: harmless
    "12000 rows": Case(damage.longer(1000, 1000), same=True, repaired=("EEG: 12000 long: the central 10000 used",)),
    "10001 rows": Case(damage.longer(0, 1), same=True, repaired=("EEG: 10001 long: the central 10000 used",)),
    "11 minutes": Case(damage.eleven_minutes, same=True, repaired=("EEG: 130000 long: the central 10000 used",)),
    "other order": Case(damage.reverse_columns, same=True, repaired=("EEG: columns in another order",)),
    "lower case": Case(damage.lower_case, same=True),
    "blanks in names": Case(lambda frame: frame.rename(lambda name: f" {name} "), same=True),
    "more columns": Case(
        damage.column(Pz2=pl.lit(9.0), samples=damage.TIME, note=pl.lit("x")),
        same=True,
        repaired=("EEG: extra columns ignored: 3 (Pz2, samples, note)",),
    ),
    "T3 and t3": Case(damage.column(t3=pl.lit(9.0)), same=True, repaired=("EEG: extra columns ignored: 1 (t3)",)),
    "no EKG": Case(lambda frame: frame.drop("EKG"), same=True, repaired=("EEG: missing columns read as NaN: 1 (EKG)",)),
    "integers": Case(damage.cast(pl.Int16), same=True, repaired=("EEG: numbers are Int16",)),
    "double": Case(damage.cast(pl.Float64), same=True, repaired=("EEG: numbers are Float64",)),
    "decimal numbers": Case(damage.cast(pl.Decimal(12, 2)), same=True, repaired=("EEG: numbers are Decimal(...)",)),
    # EEG: nothing to be had from it
    "all NaN": Case(damage.only(to=damage.NAN), eeg_lost="ID.parquet: not one finite sample"),
    "all infinite": Case(damage.only(to=INFINITY), eeg_lost="ID.parquet: not one finite sample"),
    "nothing central": Case(
        damage.nothing_central, eeg_lost="ID.parquet: nothing finite on the scalp in its central 50 s"
    ),
    "nothing but EKG": Case(
        damage.only(*ELECTRODES[:-1], to=damage.NAN),
        eeg_lost="ID.parquet: nothing finite on the scalp in its central 50 s",
    ),
    "no rows": Case(lambda frame: frame[:0], eeg_lost="ID.parquet: no rows"),
    "no electrode": Case(
        lambda frame: frame.rename(lambda name: f"{name}x"),
        eeg_lost="ID.parquet: none of its 20 columns (Fp1x, F3x, C3x ...) is one of Fp1, F3, C3 ...",
    ),
    "numbers as text": Case(
        damage.cast(pl.String), eeg_lost="ID.parquet: no numbers but String in its columns: 20 ..."
    ),
    "cut in half": Case(damage.half, eeg_lost=UNREADABLE),
    "empty": Case(damage.empty, eeg_lost=UNREADABLE),
    "garbage": Case(damage.garbage, eeg_lost=UNREADABLE),
    "first pages zeroed": Case(damage.zeroed, eeg_lost=UNREADABLE),
    "a bit flipped": Case(damage.flipped, eeg_lost=UNREADABLE),
    "end damaged": Case(damage.end_damaged, eeg_lost=UNREADABLE),
    "zipped": Case(damage.zipped, eeg_lost=UNREADABLE),
    "csv in it": Case(damage.as_csv, eeg_lost=UNREADABLE),
    "no file": Case(damage.gone, eeg_lost="ID.parquet: no such file"),
    "another suffix": Case(damage.renamed, eeg_lost="ID.parquet: no such file"),
    "link that leads nowhere": Case(damage.lost_link, eeg_lost="ID.parquet: no such file"),
    "a folder": Case(damage.folder, eeg_lost=UNREADABLE),
    "no permission": Case(damage.forbidden, eeg_lost=UNREADABLE),
    "reading hangs": Case(damage.pipe, eeg_lost=NOT_IN_TIME),
    # spectrogram
    "spectrogram in other order": Case(
        spectrogram=damage.reverse_columns, same=True, repaired=("spectrogram: columns in another order",)
    ),
    "spectrogram in lower case": Case(spectrogram=damage.lower_case, same=True),
    "frequencies spelled otherwise": Case(spectrogram=damage.three_decimals, same=True),
    "spectrogram in double": Case(
        spectrogram=damage.cast(pl.Float64), same=True, repaired=("spectrogram: numbers are Float64",)
    ),
    "spectrogram in integers": Case(spectrogram=damage.cast(pl.Int64), repaired=("spectrogram: numbers are Int64",)),
    "more spectrogram columns": Case(
        spectrogram=damage.column(note=pl.lit("x")),
        same=True,
        repaired=("spectrogram: extra columns ignored: 1 (note)",),
    ),
    "rows shuffled": Case(
        spectrogram=damage.shuffled, same=True, repaired=("spectrogram: rows were not in the order of time",)
    ),
    "350 rows": Case(
        spectrogram=damage.longer(25, 25), same=True, repaired=("spectrogram: 350 long: the central 300 used",)
    ),
    "250 rows": Case(
        spectrogram=lambda frame: frame[25:-25], repaired=("spectrogram: 250 of 300 columns: the rest is missing",)
    ),
    "one spectrogram row": Case(
        spectrogram=lambda frame: frame[:1], repaired=("spectrogram: 1 of 300 columns: the rest is missing",)
    ),
    "negative": Case(
        spectrogram=damage.column(**{LL[5]: -pl.col(LL[5])}), repaired=("spectrogram: negative power read as NaN",)
    ),
    "infinite power": Case(
        spectrogram=damage.only(*LL[5:9], to=INFINITY), repaired=("spectrogram: infinite values read as NaN",)
    ),
    "no 1.56 Hz": Case(
        spectrogram=lambda frame: frame.drop(LL[5]),
        repaired=("spectrogram: missing columns read as NaN: 1 (LL_1.56)",),
    ),
    "spectrogram gone": Case(spectrogram=damage.gone, rebuilt="ID.parquet: no such file"),
    "spectrogram in half": Case(spectrogram=damage.half, rebuilt=UNREADABLE),
    "spectrogram empty": Case(spectrogram=damage.empty, rebuilt=UNREADABLE),
    "spectrogram garbage": Case(spectrogram=damage.garbage, rebuilt=UNREADABLE),
    "spectrogram bit flipped": Case(spectrogram=damage.flipped, rebuilt=UNREADABLE),
    "spectrogram is a folder": Case(spectrogram=damage.folder, rebuilt=UNREADABLE),
    "spectrogram forbidden": Case(spectrogram=damage.forbidden, rebuilt=UNREADABLE),
    "spectrogram hangs": Case(spectrogram=damage.pipe, rebuilt=NOT_IN_TIME),
    "spectrogram without rows": Case(spectrogram=lambda frame: frame[:0], rebuilt="ID.parquet: no rows"),
    "spectrogram NaN": Case(spectrogram=damage.no_power, rebuilt="ID.parquet: not one finite value"),
    "region NaN": Case(
        spectrogram=damage.only(*LP, to=damage.NAN),
        repaired=("spectrogram: some values are NaN",),
        rebuilt="ID.parquet: a region without one finite value",
    ),
    "no region": Case(
        spectrogram=lambda frame: frame.drop(LP),
        repaired=("spectrogram: missing columns read as NaN: 100 (LP_0.59, LP_0.78, LP_0.98, LP_1.17, ...)",),
        rebuilt="ID.parquet: a region without one finite value",
    ),
    # both
    "too short to rebuild from": Case(
        lambda frame: frame[:1],
        damage.gone,
        repaired=("EEG: 1 of 10000 samples: the rest is missing",),
        spectrogram_lost="ID.parquet: missing, and the EEG's gaps leave no column",
    ),
    "both gone": Case(
        damage.gone,
        damage.gone,
        eeg_lost="ID.parquet: no such file",
        spectrogram_lost="ID.parquet: no such file, and no EEG to rebuild it from",
    ),
    "both broken": Case(
        damage.empty, damage.half, eeg_lost=UNREADABLE, spectrogram_lost=f"{UNREADABLE}, and no EEG to rebuild it from"
    ),
    # test.csv
    "a row twice": Case(same=True, listed=2),
    "no spectrogram_id": Case(spectrogram_id=False, rebuilt="None.parquet: no such file"),
}

Reported = dict[str, list[tuple[str, ...]]]  # list of the kernel's report -> its entries, without the eeg_id
Needs = Mapping[str, tuple[bool, bool]]  # model -> whether it needs the EEG, the spectrogram


def expected(case: Case, needs: Needs) -> Reported:
    """What the report must say of the EEG, as texts with "..." and ID; nothing else may be said of it."""
    spectrograms = any(spectrogram for _, spectrogram in needs.values())  # else no spectrogram is read
    silent = {name for name, (eeg, _) in needs.items() if eeg and case.eeg_lost}
    silent |= {name for name, (_, spectrogram) in needs.items() if spectrogram and case.spectrogram_lost}
    why = [f"EEG {case.eeg_lost}"] if case.eeg_lost else []
    why += [f"spectrogram {case.spectrogram_lost}"] if case.spectrogram_lost and spectrograms else []
    answer = "prior" if len(silent) == len(needs) else f"blend without {', '.join(sorted(silent))}"
    return {
        "repaired": [(what,) for what in case.repaired if what.startswith("EEG") or spectrograms],
        "rebuilt_spectrograms": [(f"spectrogram {case.rebuilt}",)] if case.rebuilt and spectrograms else [],
        "fallbacks": [(answer, "; ".join(why))] if silent else [],
    }
