"""The ledger: appended whole or not at all, never changed, and shown as it is."""

import dataclasses
import threading

import numpy as np
import pytest

import publish
from publishing.ledger import append, correlations, table
from publishing.ledger_plot import plot
from train.report.ledger import COLUMNS, LedgerError, Row, read_ledger


def row(number, cv, public, private, status="COMPLETE"):
    texts = {name: name for name in COLUMNS} | {"time": f"2026-11-{number:02}T10:00:00Z", "message": f"try, {number}"}
    scores = {"nested_cv": cv, "public_score": public, "private_score": private, "status": status}
    return Row(**texts | {name: str(text) for name, text in scores.items()})


ROWS = [
    row(1, 0.40, 0.30, 0.35),
    row(2, 0.35, 0.28, 0.33),
    row(3, "", 0.27, 0.3),
    row(4, 0.3, "", "", 'ERROR: "late", and\nmore'),
]
ROWS += [row(5, 0.30, 0.22, 0.28)]


def test_rows_come_back_as_they_were_added(tmp_path):
    path = tmp_path / "runs" / "ledger.csv"
    before = b""
    for number, one in enumerate(ROWS, start=1):
        assert append(path, one) is True
        assert append(path, dataclasses.replace(one, time="later")) is False  # the same publication, resumed
        assert path.read_bytes().startswith(before)
        before = path.read_bytes()
        assert read_ledger(path) == ROWS[:number]
    assert before.startswith(b"time,git_commit,kernel_sha256,kernel_version,datasets,weights_sha256,blend,nested_cv")
    assert {file.name for file in path.parent.iterdir()} == {"ledger.csv", ".ledger.csv.lock"}


def test_a_link_to_a_ledger_stays_one(tmp_path):
    (tmp_path / "ledger.csv").symlink_to(tmp_path / "shared.csv")
    assert append(tmp_path / "ledger.csv", ROWS[0]) and append(tmp_path / "ledger.csv", ROWS[1])
    assert (tmp_path / "ledger.csv").is_symlink() and read_ledger(tmp_path / "shared.csv") == ROWS[:2]


def test_history(tmp_path, capsys):
    path = tmp_path / "ledger.csv"
    assert publish.main(["history", "--ledger", str(path)]) == 0
    assert "has no publications yet" in capsys.readouterr().out
    append(path, ROWS[0])
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="2"):
        publish.main(["history", "--ledger", str(path), "--plot", str(path)])
    assert "--plot is the ledger itself" in capsys.readouterr().err and path.read_bytes() == before


def test_many_at_once_lose_nothing(tmp_path):
    rows = [row(number, 0.1, 0.1, 0.1) for number in range(20)]
    threads = [threading.Thread(target=append, args=(tmp_path / "ledger.csv", one)) for one in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.message for one in read_ledger(tmp_path / "ledger.csv")) == sorted(one.message for one in rows)


def test_another_table_is_not_added_to(tmp_path):
    path = tmp_path / "ledger.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(LedgerError, match=r"has other columns than time, git_commit.* move it away"):
        append(path, ROWS[0])
    assert path.read_text() == "a,b\n1,2\n"
    path.write_text(",".join(COLUMNS) + "\nhalf,a row\n")
    with pytest.raises(LedgerError, match="row 2 has 2 columns instead of 12"):
        read_ledger(path)


def test_the_table_shows_cv_beside_leaderboard_newest_last():
    lines = table(ROWS).splitlines()
    assert lines[0].split()[:2] == ["#", "time"] and [line.split()[0] for line in lines[1:6]] == list("12345")
    assert lines[1].split()[3:6] == ["0.4000", "0.3000", "0.3500"] and lines[4].split()[3:6] == ["0.3000", "-", "-"]
    assert lines[6] == 'not scored: try, 4 (ERROR: "late", and'
    expected = np.corrcoef([0.40, 0.35, 0.30], [0.30, 0.28, 0.22])[0, 1]
    assert lines[8] == f"nested CV and public score: correlation {expected:.3f} over 3, public - CV -0.0833"
    assert correlations(ROWS[:2]) == correlations([ROWS[0]] * 5) == []


def test_the_plot_shows_what_has_both(tmp_path):
    import matplotlib.image

    assert plot(ROWS, tmp_path / "a.png") is True
    image = matplotlib.image.imread(tmp_path / "a.png")
    assert image.shape[:2] == (720, 960) and image.std() > 0.05
    assert plot(ROWS[2:4], tmp_path / "b.png") is False and not (tmp_path / "b.png").exists()
    assert plot([ROWS[0]] * 3, tmp_path / "c.png") is True  # one place, three labels
