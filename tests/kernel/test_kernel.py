"""The built kernel in the sandbox: the same bytes as the command, the out-of-fold file, damage, real EEG."""

import json
import re
import shutil

import numpy as np
import polars as pl
import pytest
from conftest import EXPERIMENTS, PROJECT, command
from sandbox_stage import need_namespaces

from common.schema import PATTERNS, VOTES
from infer.validate import validate
from train.data.labels import label_rows
from train.data.windows import TrainingWindows
from train.engine.run_folder import read_run
from train.export import export
from train.simulate.recording_files import write_eeg, write_spectrogram

IIIC = PROJECT.parent / "shared" / "data" / "iiic"


@pytest.fixture(scope="module")
def kernel(road, tmp_path_factory):
    """The kernel folder built with the road's blend."""
    out = tmp_path_factory.mktemp("kernel")
    done = command("kernels/build.py", "--blend", road.blend_file, "--out", out)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def submitted(road, tmp_path_factory):
    """What `python -m infer submit` writes for the same blend and weights."""
    out = tmp_path_factory.mktemp("submitted")
    words = ("--competition", road.competition, "--weights", road.weights, "--blend", road.blend_file)
    done = command("-m", "infer", "submit", *words, "--out", out / "submission.csv", "--report", out / "report.json")
    assert done.returncode == 0, done.stderr
    assert "9 rows, valid" in done.stdout
    return out


def sandbox(kernel, competition, datasets, out, *options):
    words = ("--competition", competition, "--datasets", *datasets, "--out", out, "--quiet", *options)
    return command("kernels/sandbox.py", kernel, *words)


def timeless(report):
    """A kernel's own report without what differs from run to run."""
    return {key: value for key, value in report.items() if key not in ("seconds", "memory_mb")}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("layout", "isolation"),
    [("nested", "auto"), pytest.param("plain", "namespace", marks=SLOW), pytest.param("nested", "guard", marks=SLOW)],
)
def test_the_kernel_writes_the_bytes_of_the_command(road, kernel, submitted, tmp_path, layout, isolation):
    if isolation == "namespace":
        need_namespaces()
    options = ("--layout", layout, "--isolation", isolation)
    done = sandbox(kernel, road.competition, road.datasets, tmp_path, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "submission.csv").read_bytes() == (submitted / "submission.csv").read_bytes()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["ok"] is True and report["peak_memory_mb"] > 100
    assert (report["layout"], report["submission_rows"]) == (layout, 9) and isolation in ("auto", report["isolation"])
    assert report["outputs"] == ["report.json", "submission.csv"]
    assert timeless(report["kernel"]) == timeless(json.loads((submitted / "report.json").read_text()))
    assert set(report["kernel"]["models"]) == set(EXPERIMENTS)


def write_windows(folder, windows, rows):
    """The raw windows of label rows as parquet, one new id per row."""
    for row in rows:
        raw = windows.cut(np.array([row]))
        if raw.eeg is not None:
            (folder / "test_eegs").mkdir(exist_ok=True)
            write_eeg(folder / f"test_eegs/{1000 + row}.parquet", raw.eeg[0].numpy())
        else:
            (folder / "test_spectrograms").mkdir(exist_ok=True)
            write_spectrogram(folder / f"test_spectrograms/{1000 + row}.parquet", raw.spectrogram[0].numpy(), True)


@pytest.fixture(scope="module")
def validation(road, tmp_path_factory):
    """The validation rows of fold 0 as a hidden test: their label_ids in the order of test.csv, and the folder."""
    folder = tmp_path_factory.mktemp("validation")
    rows = label_rows(road.competition)
    held_out = pl.read_parquet(road.runs[0] / "fold0" / "oof.parquet")["label_id"]
    numbers = [row for row, label_id in enumerate(rows["label_id"]) if label_id in set(held_out)]
    for run in road.runs:
        write_windows(folder, TrainingWindows(road.competition, rows, read_run(run).input), numbers)
    ids = [1000 + row for row in numbers]
    table = pl.DataFrame({"spectrogram_id": ids, "eeg_id": ids, "patient_id": ids})
    table.write_csv(folder / "test.csv")
    return rows["label_id"][numbers].to_list(), folder


@pytest.mark.parametrize("name", ["tiny-image", pytest.param("tiny-wave", marks=SLOW)])
def test_the_kernel_on_a_validation_fold_is_the_out_of_fold_file(road, validation, tmp_path, name):
    """Training and inference agree on predictions, not only on inputs."""
    label_ids, competition = validation
    run = shutil.copytree(road.folder / "runs" / name, tmp_path / name)
    shutil.rmtree(run / "fold1")  # the net of fold 1 has seen these rows
    dataset = export(run, tmp_path / "weights")
    assert sorted(path.name for path in dataset.glob("fold*")) == ["fold0.safetensors"]
    (tmp_path / "blend.json").write_text(json.dumps({"models": {name: 1}, "prior": road.blend.prior}))
    built = command("kernels/build.py", "--blend", tmp_path / "blend.json", "--out", tmp_path / "kernel")
    assert built.returncode == 0, built.stderr
    done = sandbox(tmp_path / "kernel", competition, [dataset], tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    predicted = pl.read_csv(tmp_path / "out" / "submission.csv").select(VOTES).to_numpy()
    oof = pl.read_parquet(road.folder / "runs" / name / "oof.parquet").filter(pl.col("fold") == 0)
    expected = pl.DataFrame({"label_id": label_ids}).join(oof, on="label_id", how="left", maintain_order="left")
    np.testing.assert_allclose(predicted, expected.select(PATTERNS).to_numpy(), rtol=0, atol=1e-6)
    assert len(predicted) == oof.height > 5 and predicted.std(axis=0).max() > 1e-3
    report = json.loads((tmp_path / "out" / "report.json").read_text())["kernel"]
    assert not (report["fallbacks"] or report["rebuilt_spectrograms"])


@pytest.mark.slow
def test_the_kernel_on_real_eeg_without_spectrograms(road, kernel, tmp_path):
    if not (IIIC / "test_eegs").is_dir():
        pytest.skip("no ../shared/data/iiic beside the project: real EEG is not part of it")
    done = sandbox(kernel, IIIC, road.datasets, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert validate(tmp_path / "submission.csv", IIIC) == 12
    report = json.loads((tmp_path / "report.json").read_text())["kernel"]
    ids = {str(eeg_id) for eeg_id in pl.read_csv(IIIC / "test.csv")["eeg_id"]}
    assert {entry["eeg_id"] for entry in report["rebuilt_spectrograms"]} == ids and len(ids) == 12
    assert all(entry["why"].endswith("no such file") for entry in report["rebuilt_spectrograms"])
    assert report["fallbacks"] == []


def test_the_committed_kernel_is_up_to_date_and_stands_alone():
    done = command("kernels/build.py", "--check")
    assert done.returncode == 0, done.stderr
    text = (PROJECT / "kernels" / "hms-inference" / "kernel.py").read_text()
    assert "def run_kernel" in text and not re.search(r"(?m)^\s*(from|import) (common|infer|train)\b", text)
