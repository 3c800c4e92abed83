"""What is answered where test.csv is broken, empty or not there."""

import re

import polars as pl
import pytest
from conftest import report_of, votes

import infer.kernel
from common.schema import SUBMISSION_COLUMNS, VOTES
from infer.submit import submit
from infer.test_table import CompetitionError, read_test_table, rows_to_answer
from infer.validate import read_csv

SLUG = infer.kernel.COMPETITION


def damage(competition):
    frame = pl.read_csv(competition / "test.csv").select("eeg_id")
    shares = {vote: pl.lit(1 / 6) for vote in VOTES}
    frame.with_columns(**shares).select(SUBMISSION_COLUMNS).write_csv(competition / "sample_submission.csv")
    (competition / "test.csv").write_text("eeg,spectrogram\n1,2\n")


def test_a_strange_id_far_below_costs_its_row_alone(tmp_path):
    rows = [f"{2000 + k},{1000 + k},1" for k in range(200)]
    rows[150] = "what?,1150,1"
    (tmp_path / "test.csv").write_text("\n".join(["spectrogram_id,eeg_id,patient_id", *rows]))
    table = read_test_table(tmp_path)
    assert table["eeg_id"].to_list() == [1000 + k for k in range(200)]
    assert table["spectrogram_id"].null_count() == 1 and table["spectrogram_id"][150] is None


def test_one_id_that_is_none_costs_no_other_row_its_spectrogram(road, plain, competition, tmp_path):
    sound = (competition / "test.csv").read_text()
    damage(competition)
    (competition / "test.csv").write_text(sound + sound.splitlines()[1].split(",")[0] + ",what?,1\n")
    out = tmp_path / "out.csv"
    with pytest.raises(CompetitionError, match="an eeg_id is empty or no whole number"):
        submit(competition, road.datasets, road.blend, out)
    report = submit(competition, road.datasets, road.blend, out, forgiving=True)
    assert out.read_bytes() == plain[0].read_bytes()
    assert report.rebuilt_spectrograms == [] and "answered: the sound rows of test.csv; " in report.warnings[0]


def test_with_no_table_at_all_the_recordings_are_answered(road, kaggle, competition, hidden):
    (competition / "test.csv").unlink()
    (kaggle / "input" / SLUG).unlink()
    (kaggle / "input" / SLUG).symlink_to(competition)
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    answered = pl.read_csv(kaggle / "working" / "submission.csv")["eeg_id"].to_list()
    assert set(answered) == set(pl.read_csv(road.competition / "test.csv")["eeg_id"]) and len(answered) == 9
    assert "answered: test_eegs; " in report_of(kaggle)["warnings"][0]
    for path in (competition / "test_eegs").iterdir():
        path.unlink()
    with pytest.raises(CompetitionError, match=r"test\.csv: no such file"):  # nothing says what to answer
        submit(competition, road.datasets, road.blend, kaggle / "none.csv", forgiving=True)


def with_tables(folder, table, sample, recorded=()):
    """A competition folder whose test.csv is this text, with these ids in its sample and its recordings."""
    (folder / "test_eegs").mkdir(parents=True)
    for eeg_id in recorded:
        (folder / "test_eegs" / f"{eeg_id}.parquet").touch()
    (folder / "test.csv").write_text(table)
    if sample:
        (folder / "sample_submission.csv").write_text("eeg_id,seizure_vote\n" + "".join(f"{row},1\n" for row in sample))
    return folder


HEAD = "spectrogram_id,eeg_id,patient_id\n"
ONE_BAD = HEAD + "1,10,1\n2,?,1\n"
SOUND = "the sound rows of test.csv"
DAMAGED = {  # test.csv, ids of the sample and of the recordings, and what is answered
    "the sample has the row": (ONE_BAD, (10, 20), (), f"{SOUND} and sample_submission.csv"),
    "a sample too short": (ONE_BAD, (20,), (10, 20), f"{SOUND} and test_eegs"),
    "no spectrogram_id": ("eeg_id\n10\n20\n", (), (), SOUND),
    "a sample with an odd id": ("", ("20.0", " 10 ", "?"), (7,), "sample_submission.csv"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_table_is_completed_from_what_else_says_the_rows(tmp_path, name):
    table, sample, recorded, ids_of = DAMAGED[name]
    rows = rows_to_answer(with_tables(tmp_path / "hms", table, sample, recorded), forgiving=True)
    assert sorted(rows.table["eeg_id"]) == [10, 20] and rows.ids_of == ids_of
    assert dict(rows.table.select("eeg_id", "spectrogram_id").iter_rows())[10] == (1 if "1,10" in table else None)


def test_a_sound_table_is_answered_whatever_the_sample_says(tmp_path):
    rows = rows_to_answer(with_tables(tmp_path / "hms", HEAD + "1,10,1\n1,10,1\n", (10, 20)), forgiving=True)
    assert rows.table["eeg_id"].to_list() == [10, 10] and rows.ids_of == "test.csv"
    assert rows.warning is None


HARMLESS = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "quotes": lambda text: re.sub(r"(\d+)", r'"\1"', text).encode(),
    "floats": lambda text: re.sub(r"(\d+)", r"\1.0", text).encode(),
    "spaces": lambda text: re.sub(r"(\d+)", r" \1 ", text).encode(),
    "tabs": lambda text: re.sub(r"(\w+)", r"\t\1\t", text).encode(),
    "letters that are no UTF-8": lambda text: re.sub(r"(,\d+)\n", r"\1x\n", text).encode().replace(b"x", b"\xe9"),
    "a stray quote": lambda text: text.replace("\n", '\n"', 3).encode(),
    "too many fields in a row": lambda text: text.encode().rstrip(b"\n") + b",7,8\n",
    "columns in another order, and more": lambda text: re.sub(r"(\w+),(\w+),", r"x,\2,\1,", text).encode(),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_other_ways_to_write_the_table_change_nothing(road, tmp_path, name):
    text = (road.competition / "test.csv").read_text()
    (tmp_path / "test.csv").write_bytes(HARMLESS[name](text))
    assert read_test_table(tmp_path).equals(read_test_table(road.competition))


@pytest.mark.parametrize("column", ["eeg_id", "spectrogram_id"])
def test_a_table_without_a_column_is_refused(competition, column):
    pl.read_csv(competition / "test.csv").drop(column).write_csv(competition / "test.csv")
    with pytest.raises(CompetitionError, match=f"no column {column}; it has .*patient_id"):
        read_test_table(competition)


@pytest.mark.parametrize("odd", ["what?", "1.5", "99999999999999999999999"])
def test_an_id_that_is_none_is_refused_by_name(road, tmp_path, odd):
    text = (road.competition / "test.csv").read_text()
    (tmp_path / "test.csv").write_text(f"{text}1,{odd},2\n")
    with pytest.raises(CompetitionError, match="an eeg_id is empty or no whole number"):
        read_test_table(tmp_path)


@pytest.mark.parametrize("table", ["eeg,spectrogram\n1,2\n", "spectrogram_id,eeg_id,patient_id\n"])
def test_a_run_on_the_sample_submission_is_no_failure(road, kaggle, competition, hidden, capsys, table):
    damage(competition)
    (competition / "test.csv").write_text(table)
    (kaggle / "input" / SLUG).unlink()
    (kaggle / "input" / SLUG).symlink_to(competition)
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    out, report = kaggle / "working" / "submission.csv", report_of(kaggle)
    assert report["failure"] is None and report["ids_of"] == "sample_submission.csv"
    assert read_csv(out)["eeg_id"].to_list() == read_csv(competition / "sample_submission.csv")["eeg_id"].to_list()
    assert "answered: sample_submission.csv; " in report["warnings"][0]
    assert len(report["rebuilt_spectrograms"]) == 9 and report["fallbacks"] == []
    assert votes(out).std(axis=0).max() > 0.003
    assert "answers sample_submission.csv: it was not held against test.csv" in capsys.readouterr().out


def test_the_kernel_ends_well_even_without_the_competition(road, kaggle, hidden, capsys):
    (kaggle / "input" / SLUG).unlink()
    infer.kernel.run_kernel(kaggle, road.blend_file.read_text())
    assert "FAILED: MountError: no test.csv below" in capsys.readouterr().out
