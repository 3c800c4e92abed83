"""The report page: what it says of what it was given, what it says of what is missing, and what is refused."""

import json
import re

import pytest
from report_samples import body_rows, make_runs, section, words_of
from report_samples import train_command as train_command  # a fixture
from run_samples import make_rows, write_run

from train.doctor.findings import FORMAT
from train.report.ledger import COLUMNS

ANCHORS = (
    *("top", "experiments", "training", "classes", "votes", "patients", "confusion", "reliability", "blend"),
    *("differences", "recordings", "worst", "best", "data", "submissions", "details"),
)
LEDGER = f"{','.join(COLUMNS)}\n2026-01-02T03:04:05,,,,,,,0.2111,0.27,,{{}},COMPLETE\n"
DOCTOR = {
    "format": FORMAT,
    "can_start": False,
    "counts": {"stops training": 1, "worth knowing": 0},
    "findings": [
        {
            **{"check": "missing", "severity": "stops training", "where": "train_eegs", "what": "files <not> there"},
            **{"todo": "get them", "count": 8, "cases": [str(k) for k in range(8)], "ids": list(range(8))},
        }
    ],
    "tables": {"train.csv": {"rows": 12, "eegs": 3, "spectrograms": 3, "patients": 2}},
    "recordings": {"train_eegs": {"id": [0], "n_time": [10_000], "missing": [0.25], "flat": [0.0], "largest": [640.0]}},
    "electrodes": {"train_eegs": [{"electrode": "T5", "missing": 0.125, "largest_median": 87.0}]},
}


@pytest.fixture
def report(command, tmp_path):
    """Writes a report of these words; gives the page."""

    def run(*words):
        code, shown, errors = command("report", *words, "--out", tmp_path / "report.html")
        assert code == 0, errors
        assert str(tmp_path / "report.html") in shown and not list(tmp_path.glob("*.partial"))
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return run


def banners(page):
    return " ".join(words_of(found) for found in re.findall(r'class="banner">(.*?)</p>', page, re.DOTALL))


def test_one_run_and_nothing_else_says_what_is_missing_and_how_to_get_it(report, tmp_path):
    run, _ = make_runs(tmp_path)
    page = report(run)
    assert all(f'id="{anchor}"' in page for anchor in ANCHORS)
    for anchor, remedy in (
        ("recordings", "--competition DIR"),
        ("data", "python -m train doctor"),
        ("submissions", "--ledger CSV"),
        ("blend", "python -m train blend one-run"),
        ("top", "--truth"),
    ):
        assert remedy in words_of(section(page, anchor)), anchor
    assert "<h1>one-run</h1>" in page and "out of fold" in words_of(section(page, "top"))
    assert not banners(page) and "<img" not in page
    differences = 'input.kind "kaggle-image" model.kind "spectrogram-cnn" training.folds 3'
    assert differences in words_of(section(page, "details"))


def test_the_page_needs_no_script_and_no_other_file(report, tmp_path):
    page = report(*make_runs(tmp_path))
    assert "<script" not in page and "@import" not in page and "url(" not in page
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', page)) <= {"data:", *(f"#{a}"[:5] for a in ANCHORS)}


def test_the_best_of_several_runs_is_said_to_be_picked(report, tmp_path):
    runs = make_runs(tmp_path)
    said = words_of(section(report(*runs), "top"))
    assert "It is the best of 2 runs by this very number" in said
    assert "best of" not in words_of(section(report(runs[0]), "top"))


def test_numbers_that_are_not_out_of_fold_are_labelled(report, command, tmp_path):
    runs = make_runs(tmp_path, checkpoint="best")
    page = report(*runs)
    assert "Not a clean out-of-fold number" in banners(page) and "number to expect" not in page
    for anchor in ("top", "classes", "confusion", "reliability", "recordings"):
        said = words_of(section(page, anchor)).lower()
        assert "chosen on the fold" in said and "out of fold" not in said, anchor
    blend = tmp_path / "blend.json"
    blend.write_text(json.dumps({"models": {"one-run": 0.5, "other-run": 0.5}, "prior": [1 / 6] * 6}))
    page = report(*runs, blend)
    assert "does not say how its weights were fitted" in banners(page)
    assert "no nested score" in words_of(section(page, "blend"))
    assert command("blend", *runs, "--out", blend)[0] == 0
    assert "a model's epoch was chosen on the fold" in banners(report(*runs, blend))


def test_the_blend_with_candidates_weights_and_pairs(report, command, tmp_path):
    runs, blend, judged = make_runs(tmp_path), tmp_path / "blend.json", tmp_path / "judged.json"
    assert command("blend", *runs, "--out", blend, "--json", judged)[0] == 0
    page, known = report(*runs, blend), json.loads(judged.read_text())
    lines = {line[0].split()[0]: line for line in body_rows(section(page, "blend")) if line[0]}
    for candidate in known["candidates"]:
        assert lines[candidate["name"]][1] == f"{candidate['nested_kl']:.4f}"
    for model in known["models"]:
        line = lines[f"{model['place']}."]
        assert line[1] == model["name"] and line[3:5] == [f"{model['weight']:.3f}", f"{model['kl']:.4f}"]
    assert lines["1"][2] == f"{known['correlation'][0][1]:.2f}".replace("-", "\u2212")
    assert lines["2"][1] == f"{known['disagreement'][1][0]:.2f}"
    assert not banners(page)


def test_a_blend_changed_by_hand_is_noticed(report, command, tmp_path):
    runs, blend = make_runs(tmp_path), tmp_path / "blend.json"
    assert command("blend", *runs, "--out", blend)[0] == 0
    values = json.loads(blend.read_text())
    values["models"] = {"one-run": 0.75, "other-run": 0.25}
    blend.write_text(json.dumps(values))
    assert "changed by hand" in banners(report(*runs, blend))


def test_curves_have_a_line_for_each_fold_a_ring_and_stages(report, tmp_path):
    page = section(report(*make_runs(tmp_path)), "training")
    assert page.count("<svg") == 6  # KL of many-vote rows, of all, and the loss; two runs
    assert len(re.findall(r'<polyline class="curve', page)) == 18
    assert page.count("best epoch, 2</title>") == 12 and page.count(">stage 2</text>") == 6
    assert "2 stages, 0.2 minutes of training" in words_of(page)


def test_unfinished_folds_and_rows_with_few_votes(report, tmp_path):
    rows = make_rows(n_patients=20, seed=1, most=9)
    run = write_run(tmp_path / "few", rows, finished=(0, 1))
    page = report(run)
    assert "Folds 0, 1 of 3 are finished" in banners(page) and "No row has at least 10 votes" in banners(page)
    assert "number to expect" not in page
    assert "no curves to draw" in words_of(section(page, "training"))
    assert "not recorded" in words_of(section(page, "details"))  # no fold.json


def test_the_doctors_findings_and_the_ledger(report, tmp_path):
    run, _ = make_runs(tmp_path)
    doctor, ledger = tmp_path / "doctor.json", tmp_path / "ledger.csv"
    doctor.write_text(json.dumps(DOCTOR))
    ledger.write_text(LEDGER.format("<i>first</i>"))
    page = report(run, "--doctor", doctor, "--ledger", ledger)
    said = words_of(section(page, "data"))
    assert "training cannot start; 1 finding that stops training" in said.replace("  ", " ")
    assert "files &lt;not&gt; there" in page and "0; 1; 2; 3; 4; 5; 2 more" in said and "train.csv 12 3 2" in said
    assert "T5 12" in said and "T5 87" in said  # on the heads: 12.5 % missing, microvolts
    assert body_rows(section(page, "submissions"))[1] == [
        *("2026-01-02 03:04", "0.2111", "0.2700", "\u2013", "<i>first</i>", "COMPLETE"),
    ]
    assert "<i>first" not in page


def test_names_are_escaped(report, tmp_path):
    names = ('a<b>"&', "plain")
    runs = make_runs(tmp_path, names, name="twin")  # one experiment's name: they are called by their folders
    page = report(*runs)
    assert '<b>"&' not in page and "a&lt;b&gt;&#34;&amp;" in page
    assert 'a<b>"&' in words_of(page)


# ---- refusals


def refusal(name, folder, runs, command):
    """The words of a bad command, and what its one sentence must say."""
    blend, text = folder / "blend.json", folder / "bad"
    text.write_text("{")
    if name == "unknown folder":
        return (folder / "nowhere",), "nowhere: not there"
    if name == "no blend":
        return (runs[0], text), "bad"
    if name == "doctor":
        return (runs[0], "--doctor", text), "bad: cannot be read"
    if name == "doctor of another format":
        text.write_text('{"format": 99}')
        return (runs[0], "--doctor", text), "run it again"
    if name == "ledger":
        return (runs[0], "--ledger", text), "has other columns than time"
    if name == "competition":
        return (runs[0], "--competition", folder / "nowhere"), "wants the folder"
    assert command("blend", *runs, "--out", blend)[0] == 0
    if name == "blend alone":
        return (blend,), "blends one-run, other-run: give the run folders"
    if name == "two blends":
        return (*runs, blend, text), "about one blend"
    if name == "a member is missing":
        return (runs[0], blend), "other-run, whose run folders were not given"
    values = json.loads(blend.read_text())
    if name == "trained again":
        values["provenance"]["sources"][1]["sha256"] = "0" * 64
    else:
        assert name == "a blend of nothing"
        values |= {"models": {}, "drop": []}
    blend.write_text(json.dumps(values))
    return (*runs, blend), "blend again" if name == "trained again" else "names no model"


@pytest.mark.parametrize(
    "name",
    [
        *("unknown folder", "no blend", "doctor", "doctor of another format", "ledger", "competition"),
        *("blend alone", "two blends", "a member is missing", "trained again", "a blend of nothing"),
    ],
)
def test_bad_input_is_answered_in_one_sentence(name, command, tmp_path):
    words, said = refusal(name, tmp_path, make_runs(tmp_path, patients=12), command)
    code, _, errors = command("report", *words, "--out", tmp_path / "page.html")
    assert code == 1 and errors.startswith("error: ") and said in errors
    assert "Traceback" not in errors and not list(tmp_path.glob("page.html*"))
