"""What views are worth: held-out rows predicted again with the models of the run, each view as the kernel has it."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import rel_entr
from training_stage import image, stage, write_competition

from common.command_line import parse
from common.inputs.base import Windows
from common.inputs.build import build_input
from common.models.build import build_model
from common.predict import predict
from common.schema import PATTERNS, VOTES
from common.signal.montage import mirror_spectrogram, shift_time
from common.tta import PLAIN, View
from train.blend.out_of_fold import read_out_of_fold
from train.cli import app
from train.data.windows import TrainingWindows
from train.engine.run import RunOptions, run_experiment
from train.engine.run_folder import RunError
from train.evaluate.tta import predict_tta

VIEWS = (PLAIN, View(mirror=True), View(shift=4))
# A net to which left is not right, as it is to the wave net, and after few steps far from constant.
EXPERIMENT = image(stage(learning_rate=3e-3), model={"backbone": "test_convnext", "drop_path": 0.0})


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return write_competition(tmp_path_factory.mktemp("competition"))


@pytest.fixture(scope="module")
def run(competition, tmp_path_factory):
    return run_experiment(EXPERIMENT, competition, tmp_path_factory.mktemp("runs"), RunOptions(seeds=2))


@pytest.fixture(scope="module")
def predicted(run, competition):
    """All held-out rows, and their predictions (views, rows, 6)."""
    return predict_tta(run, VIEWS, competition, None, only_many=False)


def test_each_view_is_predicted_by_the_models_that_never_saw_the_row(run, competition, predicted):
    rows, predictions = predicted
    own = pl.read_parquet(run / "oof.parquet").sort("label_id")
    order = np.argsort(rows["label_id"])
    np.testing.assert_allclose(predictions[0][order], own.select(PATTERNS).to_numpy(), atol=1e-6)
    assert np.abs(predictions[1] - predictions[0]).max() > 1e-3 and np.abs(predictions[2] - predictions[0]).max() > 1e-3
    held_out = np.flatnonzero(rows["fold"].to_numpy() == 1)
    plain = torch.as_tensor(TrainingWindows(competition, rows, EXPERIMENT.input).cut(held_out).spectrogram)
    for k, changed in ((1, mirror_spectrogram(plain)), (2, shift_time(plain, 2))):
        answers = []
        for member in ("fold1", "fold1-seed1"):
            net = build_model(EXPERIMENT)
            net.load_state_dict(load_file(run / member / "last.safetensors"))
            answers.append(predict(net.eval(), build_input(Windows(None, changed), EXPERIMENT.input)))
        np.testing.assert_allclose(predictions[k][held_out], np.mean(answers, axis=0), atol=1e-6)


def test_the_command_gives_paired_differences_and_a_table_to_blend(run, competition, predicted, tmp_path, capsys):
    numbers, table = tmp_path / "new" / "views.json", tmp_path / "tiny-image-views.parquet"
    words = (run, "--competition", competition, "--views", "mirror", "+4", "mirror", "--json", numbers, "--out", table)
    parse(app, ["tta", *map(str, words)])()
    printed, worth = capsys.readouterr().out, json.loads(numbers.read_text())
    rows, predictions = predicted
    votes = rows.select(VOTES).to_numpy()
    many = votes.sum(axis=1) >= 10
    assert (worth["run"], worth["rows"], worth["groups"]) == ("tiny-image", many.sum(), 8)

    def kl(*which):
        target = votes[many] / votes[many].sum(axis=1, keepdims=True)
        return rel_entr(target, predictions[list(which)].mean(axis=0)[many]).sum(axis=1)

    expected = {
        "plain": kl(0),
        "alone: mirror": kl(1),
        "alone: +4 s": kl(2),
        "plain, mirror": kl(0, 1),
        "plain, mirror, +4 s": kl(0, 1, 2),
    }
    assert [line["name"] for line in worth["lines"]] == [*expected]
    for line in worth["lines"]:
        loss = expected[line["name"]]
        assert line["kl"] == pytest.approx(loss.mean(), abs=1e-6) and line["name"] in printed
        assert line["difference"] == pytest.approx((loss - kl(0)).mean(), abs=1e-6)
        low, high = line["difference_interval"]
        # One row a patient: by the theory of means the interval is so wide, but for what few draws leave open.
        spread = (loss - kl(0)).std() / np.sqrt(len(loss))
        assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15, abs=1e-5)
    both = read_out_of_fold([run, table], None, None)
    assert both.names == ("tiny-image", "tiny-image-views")
    whole = pl.read_parquet(table).sort("label_id").select(PATTERNS).to_numpy()
    np.testing.assert_allclose(whole, predictions.mean(axis=0)[np.argsort(rows["label_id"])], atol=1e-9)
    few, _ = predict_tta(run, VIEWS, competition, None, only_many=True)
    assert few["label_id"].to_list() == rows.filter(pl.Series(many))["label_id"].to_list()


def test_other_recordings_than_those_of_the_run_are_refused(run, competition, tmp_path):
    other = shutil.copytree(competition, tmp_path / "other", ignore=shutil.ignore_patterns("store"))
    changed = pl.exclude("time") * pl.int_range(pl.len()).cast(pl.Float32)
    for file in other.glob("train_spectrograms/*.parquet"):
        pl.read_parquet(file).with_columns(changed).write_parquet(file)
    with pytest.raises(RunError, match=r"predicted again, the plain view differs from its oof.parquet by up to 0\.\d+"):
        predict_tta(run, VIEWS, other, None, only_many=True)
    damaged = shutil.copytree(run, tmp_path / "tiny-image")
    (damaged / "fold0/last.safetensors").write_bytes(b"other")
    with pytest.raises(RunError, match="is not what training wrote"):
        predict_tta(damaged, VIEWS, competition, None, only_many=True)
