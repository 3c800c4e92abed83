"""The experiments: complete and as published, both flavours, the ensembles."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from common.blend import load_blend
from common.inputs.build import input_shape
from common.strict import ConfigError
from train.data.labels import select_rows
from train.engine.published import as_published
from train.experiment import load_experiment, parse_experiment

PROJECT = Path(__file__).resolve().parents[2]
CONFIGS = {path.stem: load_experiment(path) for path in sorted((PROJECT / "train" / "configs").glob("*.toml"))}
BLENDS = {path.stem: load_blend(path) for path in sorted((PROJECT / "train" / "blends").glob("*.json"))}
B0, B2, B4 = "efficientnet_b0", "efficientnet_b2", "efficientnet_b4"
K, K_WIDE, MEL, MEL_WIDE = (1, 400, 300), (1, 400, 600), (1, 512, 256), (1, 512, 512)
STARTER = (1, 512, 512)
# Of the seed: CV, leaderboard, losses, epochs, backbone, dropout, shape of the input. Written down from its
# notebooks and README, not from the configs.
SEED = {
    "kaggle-b2": (0.7289, 0.45, "kl", "6", B2, 0.3, K),
    "kaggle-plain-b2": (0.7427, 0.46, "kl", "6", B2, 0, K),
    "kaggle-global-b2": (0.7324, 0.46, "kl", "6", B2, 0, K),
    "kaggle-percentiles-b2": (0.7644, None, "kl", "6", B2, 0, K),
    "kaggle-and-global-b2": (0.7027, 0.43, "kl", "6", B2, 0.3, K_WIDE),
    "eeg-mel-b2": (0.7528, None, "kl", "6", B2, 0.3, MEL),
    "eeg-mel-percentiles-b2": (0.7104, 0.45, "kl", "6", B2, 0.3, MEL_WIDE),
    "eeg-mel-global-b2": (0.7538, 0.46, "kl", "6", B2, 0.3, MEL),
    "kaggle-vote-log-b2": (None, None, "vote-log", "6", B2, 0.3, K),
    "kaggle-and-percentiles-cutmix-b2": (0.6767, 0.42, "vote-log", "6", B2, 0.3, K_WIDE),
    "kaggle-global-cutmix-b2": (0.6972, 0.42, "vote-log", "6", B2, 0.3, K),
    "kaggle-constant-b4": (0.6355, 0.40, "vote-log", "6", B4, 0.3, K),
    "kaggle-constant-b2": (0.6294, None, "vote-log", "6", B2, 0.3, K),
    "kaggle-constant-global-cutmix-b2": (0.6567, 0.41, "vote-log", "5", B2, 0.3, K),
    "kaggle-mosaic-b0": (0.6291, 0.37, "kl xloss", "3 5", B0, 0.3, K),
    "kaggle-global-mosaic-b0": (0.6403, 0.39, "kl xloss", "3 5", B0, 0.3, K),
    "kaggle-two-stage-b0": (0.4142, 0.34, "kl xloss xloss", "2 4 6", B0, 0.3, K),
    "kaggle-two-stage-modified-b0": (0.4108, None, "kl xloss modified", "2 4 5", B0, 0.3, K),
    "kaggle-global-two-stage-b0": (0.4240, None, "kl xloss xloss", "2 4 5", B0, 0.3, K),
    "eeg-mel-percentiles-two-stage-b0": (None, None, "kl xloss xloss", "2 4 6", B0, 0.3, MEL_WIDE),
    "eeg-mel-global-two-stage-b0": (None, None, "kl xloss xloss", "2 4 6", B0, 0.3, MEL),
}
OTHERS = {
    "kaggle-vit-small": (None, None, "kl", "6", "vit_small_patch16_224", 0, K),
    "kaggle-deit-small": (None, None, "kl", "6", "deit_small_distilled_patch16_224", 0, K),
    "kaggle-ast": (None, None, "kl", "6", "deit_base_distilled_patch16_384", 0, K),
    "eeg-mel-ast": (None, None, "kl", "6", "deit_base_distilled_patch16_384", 0, MEL),
    "kaggle-and-eeg-mel-b0": (None, 0.43, "kl", "4", B0, 0, STARTER),
    "kaggle-resnet34d": (None, None, "kl", "9", "resnet34d", 0, (1, 512, 512)),
    "kaggle-cutmix-b2": (None, None, "kl", "6", B2, 0.3, K),
    "kaggle-and-eeg-mel-hard-b0": (None, 0.37, "kl kl", "4 4", B0, 0, STARTER),
    "eeg-raw-two-stage-b5": (None, 0.231, "vote-share vote-share", "15 5", "tf_efficientnet_b5", 0.3, (3, 160, 1000)),
    "eeg-stft-two-stage-convnext": (0.239, None, "kl kl", "5 10", "convnext_base", 0.3, (1, 360, 512)),
    "eeg-mel-zoom-mixnet": (0.232, 0.24, "kl", "20", "mixnet_l", 0.3, (1, 512, 1024)),
    "wave-squeezeformer": (0.257, 0.25, "kl", "20", None, 0.1, (16, 5000)),
}
OWN = {"wave-bipolar", "smoke-kaggle-efficientnet", "smoke-wave-bipolar"}
LAST_STAGE = {"kaggle-two-stage-b0", "kaggle-two-stage-modified-b0", "kaggle-global-two-stage-b0"}
STAT = {"kaggle-constant-global-cutmix-b2", "kaggle-global-mosaic-b0", "kaggle-global-two-stage-b0"}
CUTMIX = {"kaggle-and-percentiles-cutmix-b2", "kaggle-global-cutmix-b2", "kaggle-constant-global-cutmix-b2"}
ENSEMBLES = {
    "kaggle-pair": (2, None, 0.42),
    "eeg-pair": (2, None, 0.42),
    "kaggle-and-eeg": (4, None, 0.38),
    "kaggle-cutmix-pair": (2, None, 0.40),
    "kaggle-constant-pair": (2, None, 0.38),
    "kaggle-mosaic-pair": (2, None, 0.36),
    "kaggle-two-stage-pair": (2, None, 0.34),
    "eeg-two-stage-pair": (2, 0.4608, 0.37),
    "kaggle-and-eeg-two-stage": (4, None, 0.32),
}


# ---- complete


def test_the_list_is_complete():
    assert set(CONFIGS) >= {*SEED, *OTHERS, *OWN}
    assert all(CONFIGS[name].published for name in (*SEED, *OTHERS))
    assert not any(CONFIGS[name].published for name in OWN)


@pytest.mark.parametrize("name", [*SEED, *OTHERS])
def test_config_is_the_experiment_that_it_names(name):
    config, (cv, leaderboard, losses, epochs, backbone, dropout, shape) = CONFIGS[name], (SEED | OTHERS)[name]
    assert (config.published.cv, config.published.leaderboard) == (cv, leaderboard)
    stages = config.training.stages
    assert " ".join(stage.loss for stage in stages) == losses
    assert " ".join(str(stage.epochs) for stage in stages) == epochs
    assert getattr(config.model, "backbone", None) == backbone and config.model.dropout == dropout
    assert input_shape(config.input) == shape


@pytest.mark.parametrize("name", SEED)
def test_the_seeds_recipe(name):
    """Five folds of vote vectors, AdamW, one cycle from 1e-3 to 1e-4 that is stepped, the last epoch."""
    training = CONFIGS[name].training
    assert (training.labels, training.folds, training.checkpoint, training.selection) == ("votes", 5, "last", "fixed")
    for stage in training.stages:
        assert (stage.learning_rate, stage.weight_decay, stage.batch_size, stage.accumulate) == (1e-3, 1e-2, 32, 1)
        assert (stage.schedule, stage.warm_up) == ("one-cycle", 0)
        assert stage.learning_rate / stage.div_factor / stage.final_div_factor == pytest.approx(1e-4)
        assert stage.augment.cutmix is None or stage.augment.cutmix.axis == "time"
    assert CONFIGS[name].model.drop_path == (0.2 if CONFIGS[name].model.dropout else 0)
    assert (CONFIGS[name].published.rows == "all label rows") == (name not in LAST_STAGE)


def all_vote_vectors(most):
    vectors = itertools.product(range(most + 1), repeat=6)
    return np.array([vector for vector in vectors if 0 < sum(vector) <= most])


@pytest.mark.parametrize("name", [name for name in SEED if "two-stage" in name])
def test_two_stages_share_the_rows_as_the_seed_did(name):
    """Below 4 votes, and 4 that disagree: first; more, and 4 of one mind: second. Every row is in one of them."""
    mosaic, few, many = CONFIGS[name].training.stages
    votes = all_vote_vectors(6)
    first, second = select_rows(votes, mosaic.rows), select_rows(votes, many.rows)
    assert (first == select_rows(votes, few.rows)).all() and (first != second).all()
    four = votes.sum(axis=1) == 4
    assert (second[four] == (votes[four].max(axis=1) == 4)).all() and second[votes.sum(axis=1) > 4].all()
    assert (mosaic.augment.mosaic, few.augment.mosaic, many.augment.mosaic) == (True, False, False)
    assert (few.carry_on, many.carry_on, many.start) == (True, False, "last")


# ---- as published


def leaves(value, path=""):
    """Every setting of a dumped config, by its path."""
    if isinstance(value, dict | list | tuple) and value:
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for k, part in parts for key, leaf in leaves(part, f"{path}.{k}").items()}
    return {path: value}


@pytest.mark.parametrize("name", SEED)
def test_as_published_brings_back_what_was_and_nothing_else(name):
    config, published = CONFIGS[name], as_published(CONFIGS[name])
    wanted = {".name": f"{name}-as-published", ".training.selection": "as-published", ".training.checkpoint": "best"}
    wanted[".training.window"] = "middle"
    for k, stage in enumerate(config.training.stages):
        wanted[f".training.stages.{k}.schedule"] = "constant"
        wanted[f".training.stages.{k}.beta"] = 0.85
        if k and not stage.carry_on:
            wanted[f".training.stages.{k}.start"] = "best"
    if name in CUTMIX:
        wanted[".training.stages.0.augment.cutmix.axis"] = "frequency"
    if name in STAT:
        wanted[".input.standardise"] = "stat"
    before, after = leaves(config.model_dump()), leaves(published.model_dump())
    changed = {key: leaf for key, leaf in after.items() if before.get(key, "absent") != leaf}
    assert changed.pop(".published.bugs") == () and changed == wanted
    assert published.training.stages[-1].warm_up == 0 and len(published.name) <= 46


@pytest.mark.parametrize("name", sorted([*OTHERS, *OWN]))
def test_what_has_no_faults_has_one_flavour(name):
    with pytest.raises(ConfigError, match=f"{name}: its .* lists no bugs"):
        as_published(CONFIGS[name])
    with pytest.raises(ConfigError, match="lists no bugs"):
        as_published(as_published(CONFIGS["kaggle-b2"]))


@pytest.mark.parametrize("bug", ["cutmix-axis", "stat-constants"])
def test_a_fault_that_the_config_cannot_have_is_refused(bug):
    config = parse_experiment({"name": "plain", "published": {"source": "nowhere", "bugs": [bug]}}, "plain.toml")
    with pytest.raises(
        ConfigError, match=f"plain: published.bugs names '{bug}', which nothing in this config corrects"
    ):
        as_published(config)


# ---- ensembles


def test_ensembles_are_of_configs_and_weigh_them_alike():
    prior = json.loads((PROJECT / "infer" / "blend.json").read_text())["prior"]
    assert set(BLENDS) >= set(ENSEMBLES) and not set(BLENDS) & set(CONFIGS)
    for name, (size, cv, leaderboard) in ENSEMBLES.items():
        blend = BLENDS[name]
        assert set(blend.models) <= set(CONFIGS) and list(blend.models.values()) == [1 / size] * size
        assert (blend.published.cv, blend.published.leaderboard) == (cv, leaderboard)
        assert list(blend.prior) == prior
        assert len({CONFIGS[model].training.labels for model in blend.models}) == 1  # else they could not be scored


def test_the_seeds_last_ensemble_is_its_two_stage_models():
    last, halves = BLENDS["kaggle-and-eeg-two-stage"], [BLENDS["kaggle-two-stage-pair"], BLENDS["eeg-two-stage-pair"]]
    assert set(last.models) == {model for half in halves for model in half.models}
