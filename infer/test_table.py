"""Which rows a test set asks for: those of test.csv, and where that file is damaged those of other sources."""

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
    """The rows to answer: eeg_id and spectrogram_id (null: none), their source, and what was odd about it."""

    table: pl.DataFrame
    ids_of: str = TEST_TABLE
    warning: str | None = None


def whole_numbers(column: str) -> pl.Expr:
    """A column of text as whole numbers, null where there is none. pandas writes a column with a gap as 7.0."""
    return pl.col(column).str.strip_chars(' \t"').str.strip_suffix(".0").cast(pl.Int64, strict=False)


def read_ids(path: Path, required: tuple[str, ...]) -> pl.DataFrame:
    """spectrogram_id and eeg_id of every row of a csv file, null where there is none. Raises CompetitionError.

    Read as text, line by line, so that a strange value, a quote or a field too many costs its row alone. A file
    without a single line has no rows; blank lines are no rows.
    """
    if not path.is_file():
        raise CompetitionError(f"{path}: no such file; give the folder that holds the competition's {path.name}")
    try:
        table = pl.read_csv(
            path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True, quote_char=None
        )
    except pl.exceptions.NoDataError:
        return pl.DataFrame(schema=dict.fromkeys(ID_COLUMNS, pl.Int64))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise CompetitionError(f"{path}: cannot be read ({str(error).strip().splitlines()[0]})") from error
    table = table.rename(lambda name: name.strip(' \t\r"'))
    if absent := [column for column in required if column not in table.columns]:
        raise CompetitionError(f"{path}: no column {', '.join(absent)}; it has {', '.join(table.columns)}")
    table = table.filter(~pl.all_horizontal(pl.all().is_null()))
    return table.select(
        whole_numbers(name) if name in table.columns else pl.lit(None, pl.Int64).alias(name) for name in ID_COLUMNS
    )


def known_ids(path: Path) -> pl.DataFrame:
    """The rows of a csv file that have an eeg_id; none where it cannot be read."""
    with contextlib.suppress(CompetitionError):
        return read_ids(path, ("eeg_id",)).drop_nulls("eeg_id")
    return pl.DataFrame(schema=dict.fromkeys(ID_COLUMNS, pl.Int64))


def read_test_table(competition: Path) -> pl.DataFrame:
    """spectrogram_id, null where there is none, and eeg_id of every row of test.csv. Raises CompetitionError."""
    table = read_ids(competition / TEST_TABLE, ID_COLUMNS)
    if table["eeg_id"].null_count():
        raise CompetitionError(f"{competition / TEST_TABLE}: an eeg_id is empty or no whole number")
    return table


def rows_to_answer(competition: Path, forgiving: bool) -> Rows:
    """Every row to answer. Raises CompetitionError; forgiving, only where no source has a row."""
    try:
        table = read_test_table(competition)
        if forgiving and not table.height:
            raise CompetitionError(f"{competition / TEST_TABLE}: no rows")
        return Rows(table)
    except CompetitionError as error:
        if not forgiving:
            raise
        return completed_rows(competition, error)


def completed_rows(competition: Path, problem: CompetitionError) -> Rows:
    """What a damaged test.csv has, and the rest from sample_submission.csv; where that is not there, or lacks rows
    that test.csv has, from the names of the recordings. Raises the problem where none of them has a row."""
    table, sample = known_ids(competition / TEST_TABLE), known_ids(competition / SAMPLE_SUBMISSION)
    if sample.height and set(table["eeg_id"]) <= set(sample["eeg_id"]):
        source, ids = SAMPLE_SUBMISSION, sample["eeg_id"]
    else:
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = sorted(path.stem for path in (competition / TEST_EEGS).iterdir())
        source, ids = TEST_EEGS, pl.Series("eeg_id", names, pl.String).cast(pl.Int64, strict=False).drop_nulls()
    added = ids.filter(~ids.is_in(table["eeg_id"].implode())).to_frame()
    parts = {f"the sound rows of {TEST_TABLE}": table, source: added}
    ids_of = " and ".join(name for name, part in parts.items() if part.height)
    if not ids_of:
        raise problem
    return Rows(
        pl.concat([table, added], how="diagonal"),
        ids_of,
        f"{problem}; answered: {ids_of}; spectrograms not named there are rebuilt",
    )
