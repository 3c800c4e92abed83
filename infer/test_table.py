"""Which rows a test set asks for: test.csv, and what says it where that file is damaged or not there."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from common.errors import KitError
from common.schema import SAMPLE_SUBMISSION, TEST_EEGS, TEST_TABLE

ID_COLUMNS = ("spectrogram_id", "eeg_id")


class CompetitionError(KitError):
    """A competition folder that does not say which rows to answer. The message says why."""


@dataclass(frozen=True)
class Rows:
    """What is to be answered: eeg_id and spectrogram_id (null: none); where it comes from; what was odd about it."""

    table: pl.DataFrame
    ids_of: str = TEST_TABLE
    surprise: str | None = None


def whole_numbers(names: tuple[str, ...]) -> list[pl.Expr]:
    """Columns of text as whole numbers, null where there is none. A column with a gap comes from pandas as 7.0."""
    return [pl.col(name).str.strip_chars(' \t"').str.strip_suffix(".0").cast(pl.Int64, strict=False) for name in names]


def read_ids(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """These columns of every row of a csv file, null where there is no whole number. Raises CompetitionError.

    Read as text, line by line, so that a strange value, a quote or a field too many costs its row alone. A file
    without a single line is one without rows; blank lines are no rows.
    """
    if not path.is_file():
        raise CompetitionError(f"{path}: no such file; give the folder that holds the competition's {path.name}")
    try:
        table = pl.read_csv(
            path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True, quote_char=None
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(columns, pl.Int64))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CompetitionError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
    table = table.rename(lambda name: name.strip(' \t\r"'))
    if absent := [column for column in columns if column not in table.columns]:
        raise CompetitionError(f"{path}: no column {', '.join(absent)}; it has {', '.join(table.columns)}")
    return table.filter(~pl.all_horizontal(pl.all().is_null())).select(whole_numbers(columns))


def read_test_table(competition: Path) -> pl.DataFrame:
    """spectrogram_id, null where there is none, and eeg_id of every row of test.csv. Raises CompetitionError."""
    table = read_ids(competition / TEST_TABLE, ID_COLUMNS)
    if table["eeg_id"].null_count():
        raise CompetitionError(f"{competition / TEST_TABLE}: an eeg_id is empty or no whole number")
    return table


def known_rows(competition: Path) -> pl.DataFrame:
    """The rows of a damaged test.csv that have an eeg_id; none where it cannot be read."""
    for columns in (ID_COLUMNS, ID_COLUMNS[1:]):
        with contextlib.suppress(CompetitionError):
            known = read_ids(competition / TEST_TABLE, columns).drop_nulls("eeg_id")
            return known.select(pl.lit(None, pl.Int64).alias(ID_COLUMNS[0]), "eeg_id") if known.width == 1 else known
    return pl.DataFrame(schema=dict.fromkeys(ID_COLUMNS, pl.Int64))


def sample_ids(competition: Path) -> pl.Series:
    """The eeg_ids of sample_submission.csv; none where it cannot be read."""
    with contextlib.suppress(CompetitionError):
        return read_ids(competition / SAMPLE_SUBMISSION, ID_COLUMNS[1:])["eeg_id"].drop_nulls()
    return pl.Series("eeg_id", [], pl.Int64)


def recorded_ids(competition: Path) -> pl.Series:
    """The eeg_ids that the test set has recordings of."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(path.stem for path in (competition / TEST_EEGS).iterdir())
    return pl.Series("eeg_id", names, pl.String).cast(pl.Int64, strict=False).drop_nulls()


def rows_to_answer(competition: Path, forgiving: bool) -> Rows:
    """Every row to answer. Raises CompetitionError.

    A sound test.csv says it alone. Forgiving, one with nothing to answer, or with an id that is none, gives what it
    has, and sample_submission.csv the rest; where that is not there, or lacks rows that test.csv has, the names of
    the recordings give it.
    """
    try:
        table = read_test_table(competition)
        problem = None if table.height or not forgiving else CompetitionError(f"{competition / TEST_TABLE}: no rows")
    except CompetitionError as error:
        if not forgiving:
            raise
        problem, table = error, known_rows(competition)
    sample = sample_ids(competition)
    known, listed = set(table["eeg_id"]), set(sample)
    if problem is None:
        differs = f"{SAMPLE_SUBMISSION} lists other rows than {TEST_TABLE}, whose rows are answered"
        return Rows(table, surprise=differs if listed and listed != known else None)
    sources = {f"the sound rows of {TEST_TABLE}": table["eeg_id"]}
    if listed and known <= listed:
        sources[SAMPLE_SUBMISSION] = sample
    else:
        sources[TEST_EEGS] = recorded_ids(competition)
    ids = table["eeg_id"].head(0)
    used: list[str] = []
    for source, more in sources.items():
        added = more.filter(~more.is_in(ids.implode()))
        ids, used = ids.append(added), used + [source] * bool(added.len())
    if not used:
        raise problem
    named = table.unique("eeg_id", keep="first")
    completed = ids.to_frame().join(named, on="eeg_id", how="left", maintain_order="left")
    told = " and ".join(used)
    return Rows(completed, told, f"{problem}; answered: {told}; spectrograms not named there are rebuilt")
