"""Label rows, folds, the loss and the first weights: what a training starts from."""

import math

import numpy as np
import polars as pl
import pytest
import timm
import torch
from safetensors.torch import save_file

from common.config import Experiment
from common.metric import kl_divergence
from common.models.build import build_model
from common.schema import VOTES
from train.folds import FoldError, check_folds, make_folds
from train.labels import LabelError, label_rows
from train.loop import kl_loss
from train.pretrained import PretrainedError, initialise

HEAD = (
    "eeg_id,eeg_label_offset_seconds,spectrogram_id,spectrogram_label_offset_seconds,label_id,patient_id,"
    "expert_consensus,seizure_vote,lpd_vote,gpd_vote,lrda_vote,grda_vote,other_vote"
)

# ---- label rows


def train_table(tmp_path, *lines, head=HEAD):
    (tmp_path / "train.csv").write_text("\n".join([head, *lines]) + "\n")
    return tmp_path


def test_label_rows_by_hand(tmp_path):
    rows = label_rows(
        train_table(
            tmp_path,
            "7,0,70,4,901,3,Seizure,10,0,0,0,0,2",
            "5,0,50,0,903,1,LPD,0,3,0,0,0,1",
            "5,2,50,2,902,1,LPD,0,3,0,0,0,1",
            "5,9,50,9,904,1,LPD,0,3,0,0,0,1",
            "5,13,50,17,905,1,Other,0,1,0,0,0,3",
            "7,2,70,6,906,3,Seizure,9,0,0,0,0,1",
        )
    )
    assert rows["eeg_id"].to_list() == [5, 5, 7, 7]
    assert rows.select(VOTES).rows() == [  # in the order of the numbers, not of their spelling
        (0, 1, 0, 0, 0, 3),
        (0, 3, 0, 0, 0, 1),
        (9, 0, 0, 0, 0, 1),
        (10, 0, 0, 0, 0, 2),
    ]
    assert rows["label_id"].to_list() == [905, 903, 906, 901]  # the first of each group in the file
    assert rows["total_votes"].to_list() == [4, 4, 10, 12]
    assert rows["eeg_start"].to_list() == [2600, 900, 400, 0]  # 200 (0 + 9) / 2 = 900
    assert rows["spectrogram_start"].to_list() == [8, 2, 3, 2]  # (17 + 17) // 4, (0 + 9) // 4, 12 // 4, 8 // 4
    assert rows["expert_consensus"].to_list() == ["Other", "LPD", "Seizure", "Seizure"]


GOOD = "7,0,70,4,901,3,Seizure,10,0,0,0,0,2"


@pytest.mark.parametrize(
    ("line", "head", "message"),
    [
        (GOOD, HEAD.replace("patient_id", "subject"), "no column patient_id"),
        (GOOD.replace("10,0", "0,0")[:-1] + "0", HEAD, "no votes at all"),
        (GOOD.replace("10,0", "-1,0"), HEAD, "negative or not a whole number"),
        (GOOD.replace("10,0", "many,0"), HEAD, "negative or not a whole number"),
        (GOOD.replace("10,0", ",0"), HEAD, "negative or not a whole number"),
        (GOOD.replace("10,0", "1.5,0"), HEAD, "negative or not a whole number"),
        (GOOD.replace("70,4", "70,"), HEAD, "empty or not a number"),
        (GOOD.replace("70,4", "70,late"), HEAD, "empty or not a number"),
        (GOOD.replace("901,3", "901,"), HEAD, "empty or not a number"),
        (GOOD.replace("Seizure", "seizure"), HEAD, r"expert_consensus \['seizure'\]; expected Seizure, LPD"),
    ],
)
def test_unusable_train_table_is_refused(tmp_path, line, head, message):
    with pytest.raises(LabelError, match=message):
        label_rows(train_table(tmp_path, GOOD, line, head=head))


def test_absent_and_empty_train_table(tmp_path):
    with pytest.raises(LabelError, match=r"train\.csv: cannot be read"):
        label_rows(tmp_path)
    with pytest.raises(LabelError, match="no rows"):
        label_rows(train_table(tmp_path))


# ---- folds


def patients_table(seed, n_patients=40):
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, n_patients, 400)
    return pl.DataFrame({"patient_id": patient, "expert_consensus": rng.choice(["LPD", "GPD", "Other"], 400)})


def test_folds_tear_no_patient_and_are_deterministic():
    rows = patients_table(0)
    fold = make_folds(rows, 5)
    assert set(fold) == set(range(5)) and np.bincount(fold).min() > 40
    for patient in rows["patient_id"].unique():
        assert len(set(fold[(rows["patient_id"] == patient).to_numpy()])) == 1
    np.random.seed(1)  # scikit-learn's own source of chance
    np.testing.assert_array_equal(make_folds(rows, 5), fold)
    shares = [np.mean(rows["expert_consensus"].to_numpy()[fold == k] == "LPD") for k in range(5)]
    assert max(shares) - min(shares) < 0.08  # stratified


def test_too_few_patients_and_torn_patients_are_refused():
    with pytest.raises(FoldError, match=r"5 folds need as many patients, train\.csv has 4"):
        make_folds(patients_table(0, n_patients=4), 5)
    check_folds(np.array([1, 1, 2]), np.array([0, 0, 1]))
    with pytest.raises(FoldError, match="patient 2 is in 2 folds"):
        check_folds(np.array([1, 2, 2]), np.array([0, 0, 1]))


# ---- loss


def test_loss_is_the_metric():
    rng = np.random.default_rng(0)
    target = rng.dirichlet(np.full(6, 0.3), 50)
    target[0] = [0, 0, 1, 0, 0, 0]
    logits = torch.from_numpy(rng.normal(size=(50, 6)) * 3)
    probabilities = logits.softmax(dim=1)
    by_torch = torch.nn.functional.kl_div(probabilities.log(), torch.from_numpy(target), reduction="none").sum(dim=1)
    loss = kl_loss(logits, torch.from_numpy(target))
    torch.testing.assert_close(loss, by_torch)
    np.testing.assert_allclose(loss, kl_divergence(target, probabilities.numpy()), rtol=1e-9)
    assert loss[0].item() == pytest.approx(-math.log(probabilities[0, 2].item()))


def test_loss_is_finite_where_a_probability_vanishes():
    logits = torch.tensor([[200.0, -200, 0, 0, 0, 0]], requires_grad=True)
    loss = kl_loss(logits, torch.tensor([[0.0, 1, 0, 0, 0, 0]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(400) and logits.grad.isfinite().all()


# ---- pretrained weights

WAVE = Experiment(
    name="tiny-wave", input={"kind": "bipolar-sequence"}, model={"kind": "wave-net", "width": 8, "dilations": [1]}
)


def cnn(pretrained):
    return Experiment(name="small-cnn", model={"kind": "spectrogram-cnn", "backbone": "lcnet_050"} | pretrained)


def test_pretrained_file_fills_the_backbone(tmp_path):
    source = timm.create_model("lcnet_050")  # three colours and a classifier, as published files have
    save_file(source.state_dict(), tmp_path / "lcnet.safetensors")
    experiment = cnn({"pretrained": False})
    model = build_model(experiment)
    assert initialise(model, experiment, tmp_path / "lcnet.safetensors") == "file lcnet.safetensors"
    torch.testing.assert_close(model.backbone.conv_stem.weight, source.conv_stem.weight.sum(dim=1, keepdim=True))
    torch.testing.assert_close(model.backbone.conv_head.weight, source.conv_head.weight)


def test_pretrained_says_what_it_did(tmp_path, monkeypatch):
    off, on = cnn({"pretrained": False}), cnn({})
    model = build_model(off)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert initialise(model, off, None) == "random: the config says pretrained = false"
    (tmp_path / "wrong.safetensors").write_bytes(b"no weights")
    with pytest.raises(PretrainedError, match=r"wrong\.safetensors does not fit lcnet_050"):
        initialise(model, on, tmp_path / "wrong.safetensors")
    with pytest.raises(PretrainedError, match="tiny-wave has no timm backbone"):
        initialise(build_model(WAVE), WAVE, tmp_path / "wrong.safetensors")
    assert initialise(build_model(WAVE), WAVE, None) == "random: this net has no pretrained weights"

    def unreachable(*arguments, **options):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    said = initialise(model, on, None)
    assert said.startswith("random: lcnet_050's") and "(ConnectionError: no route)" in said
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
