"""What the rooms agree on: the tables and the configs."""

from pathlib import Path

import pytest

from common.schema import ELECTRODES, FREQUENCIES, SPECTROGRAM_FIELDS, VOTES
from common.strict import ConfigError
from train.experiment import Experiment, load_experiment, parse_experiment

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CONFIGS = sorted((Path(__file__).resolve().parents[2] / "train" / "configs").glob("*.toml"))


# ---- tables


def test_tables_are_those_of_the_competition():
    names = "Fp1 F3 C3 P3 F7 T3 T5 O1 Fz Cz Pz Fp2 F4 C4 P4 F8 T4 T6 O2 EKG"
    assert " ".join(ELECTRODES) == names
    assert " ".join(VOTES) == "seizure_vote lpd_vote gpd_vote lrda_vote grda_vote other_vote"
    assert list(SPECTROGRAM_FIELDS) == ["LL", "RL", "LP", "RP"]
    assert FREQUENCIES[0] == pytest.approx(0.5859, abs=1e-4) and FREQUENCIES[-1] == pytest.approx(19.9219, abs=1e-4)


# ---- configs

SEQUENCE = {"input": {"kind": "bipolar-sequence"}, "model": {"kind": "wave-net"}}
INPUT_KINDS = ("kaggle-image", "eeg-mel-image", "raw-image", "eeg-spectra", "combined-image", "bipolar-sequence")


def spectra(**crop):
    return {"input": {"kind": "eeg-spectra", "crops": [crop]}}


def raw_image(**options):
    return {"input": {"kind": "raw-image", **options}}


def transform(kind, **options):
    return spectra(transform={"kind": kind, **options})


def stages(*tables, **training):
    return {"training": {"stages": list(tables), **training}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainning": {}}, "trainning: unknown key; did you mean 'training'?"),
        ({"input": {"kind": "kaggle-image", "standardize": "panel"}}, "did you mean 'standardise'?"),
        ({"training": {"stages": [{"epoch": 2}]}}, "training.stages.0.epoch: unknown key; did you mean 'epochs'?"),
        ({"training": {"zzz": 2}}, "training.zzz: unknown key; known keys: labels, window, folds, seed"),
        ({"model": {"kind": "spectrogram-cnn", "dilations": [1]}}, "spectrogram-cnn.dilations: unknown key"),
        ({"input": {"parts": ["image"]}}, f"input.kind: missing; one of {', '.join(INPUT_KINDS)}"),
        ({"model": {"width": 8}}, "model.kind: missing; one of spectrogram-cnn, spectrogram-transformer, wave"),
        ({"input": {"kind": "kaggle-imago"}}, str(INPUT_KINDS)[1:-1]),
        ({"input": {"kind": "kaggle-image", "parts": []}}, "parts"),
        ({"input": {"kind": "kaggle-image", "parts": ["mosaic"]}}, "'image', 'percentiles' or 'global'"),
        ({"training": {"folds": "five"}}, "training.folds: Input should be a valid integer"),
        ({"training": {"folds": 1}}, "training.folds"),
        ({"training": {"stages": []}}, "training.stages"),
        ({"training": {"stages": [{"learning_rate": float("nan")}]}}, "learning_rate: Input should be a finite number"),
        ({"training": {"stages": [{"weight_decay": float("inf")}]}}, "weight_decay: Input should be a finite number"),
        ({"training": {"stages": [{"warm_up": 1}]}}, "warm_up: Input should be less than 1"),
        (stages({"augment": {"mirror": 1.5}}), "training.stages.0.augment.mirror"),
        (stages({"augment": {"miror": 0.5}}), "augment.miror: unknown key; did you mean 'mirror'?"),
        (stages({"augment": {"cutmix": {"treshold": 0.5}}}), "treshold: unknown key; did you mean 'threshold'?"),
        (stages({"augment": {"cutmix": {"largest": 260}}}), "bands of 25 to 260 steps with margin = 50 do not fit 300"),
        (stages({"rows": {"min_vote": 10}}), "rows.min_vote: unknown key; did you mean 'min_votes'?"),
        (stages({"rows": {"min_votes": 5, "max_votes": 4}}), "max_votes = 4 is below min_votes = 5"),
        (stages({"rows": {"at_max": "divided"}}), "give max_votes too"),
        (stages({"loss": "vote-lok"}), "'kl', 'vote-log', 'xloss', 'modified' or 'vote-share'"),
        (stages({"carry_on": True}), "stages.0: carry_on and start speak of the stage before"),
        (stages({}, {"carry_on": True, "learning_rate": 1e-4}), "goes on with learning_rate = 0.001; repeat it here"),
        (stages({}, {"carry_on": True, "start": "best"}), "carry_on goes on from the last weights: leave start out"),
        (stages({"final_div_factor": 1e-3}), "with 25.0 * 0.001 it would be above the peak"),
        (stages({"accumulate": 2}, selection="as-published"), "accumulate must be 1"),
        (stages({"augment": {"gaps": {}}}), "augment.gaps changes the EEG, which the input does not see"),
        (SEQUENCE | stages({"augment": {"mosaic": True}}), "augment.mosaic changes images, the input is a sequence"),
        ({"model": {"kind": "wave-squeezeformer", "width": 100, "heads": 3}}, "must be a multiple of twice heads = 3"),
        ({"model": {"kind": "wave-squeezeformer", "kernel": 30}}, "kernel = 30 must be odd"),
        ({"model": {"kind": "wave-net", "kernel": 4}}, "kernel = 4 must be odd"),
        ({"published": {"source": "x", "bug": []}}, "published.bug: unknown key; did you mean 'bugs'?"),
        (
            {"input": {"kind": "bipolar-sequence"}},
            "goes with model wave-net or wave-squeezeformer, not 'spectrogram-cnn'",
        ),
        ({"model": {"kind": "wave-net"}}, "goes with model spectrogram-cnn or spectrogram-transformer, not 'wave-net'"),
        (SEQUENCE | {"input": {"kind": "bipolar-sequence", "low": 30.0}}, "low = 30.0 Hz must be below high = 20.0 Hz"),
        (SEQUENCE | {"input": {"kind": "bipolar-sequence", "high": 30.0, "sfreq": 50}}, "would alias it"),
        (SEQUENCE | {"input": {"kind": "bipolar-sequence", "sfreq": 60}}, "sfreq"),
        (raw_image(high=99), "high = 99.0 Hz: nothing can be passed up to the 100 Hz the EEG ends at"),
        (raw_image(columns=600), "columns = 600 do not divide the 10000 samples of 50 s"),
        (raw_image(crops=[50, 30], columns=1250), "columns = 1250 do not divide the 6000 samples of 30 s"),
        (raw_image(crops=[20]), "crops.0: Input should be 50, 30 or 10"),
        (raw_image(colums=500), "raw-image.colums: unknown key; did you mean 'columns'?"),
        (spectra(second=10), "crops.0.second: unknown key; did you mean 'seconds'?"),
        (spectra(transform={"hop": 8}), "transform.kind: missing; one of stft, mel, multitaper, morlet"),
        (transform("stft", window=101, n_fft=256), "window = 101 samples must be even"),
        (transform("mel", window=200, n_fft=128), "n_fft = 128 is shorter than window = 200"),
        (transform("stft", window=2002, n_fft=4096), "longer than 2000, the shortest crop's 10 s"),
        (transform("multitaper", tapers=5), "tapers = 5: only the first 4 are concentrated"),
        (transform("morlet", low=20.0), "low = 20.0 Hz must be below high = 20.0 Hz"),
        ({"input": {"kind": "eeg-spectra", "tiles": 3}}, "tiles = 3 in a row do not divide the 16 differences"),
        ({"input": {"kind": "eeg-spectra", "layout": "stacked"}}, "'tiled' or 'depth'"),
        ({"input": {"kind": "combined-image", "images": []}}, "images"),
        ({"input": {"kind": "combined-image", "images": [{}, {}]}}, "images.0.kind: missing; one of kaggle-image, eeg"),
        ({"input": {"kind": "combined-image", "images": [SEQUENCE["input"]] * 2}}, "images.0: Input tag"),
        ({"input": {"kind": "kaggle-image", "standardise": {"mean": 0}}}, "standardise.deviation: Field required"),
        ({"input": {"kind": "kaggle-image", "standardise": "row"}}, "standardise: or a table of mean, deviation"),
        ({"input": {"kind": "kaggle-image", "columns": 63}}, "columns: Input should be a multiple of 2"),
        ({"input": {"kind": "kaggle-image", "resize": [512]}}, "resize"),
    ],
)
def test_config_is_refused_by_key(values, message):
    with pytest.raises(ConfigError) as refusal:
        parse_experiment({"name": "tried", **values}, "tried.toml")
    assert str(refusal.value).startswith("tried.toml:\n") and message in str(refusal.value)


@pytest.mark.parametrize("name", ["Kaggle-b2", "kaggle_b2", "-b2", "a" * 47, ""])
def test_a_name_that_fits_no_slug_is_refused(name):
    with pytest.raises(ConfigError, match="name"):
        parse_experiment({"name": name}, "tried.toml")


def test_config_is_frozen_all_the_way_down():
    experiment = Experiment(name="still")
    for part, key in ((experiment, "name"), (experiment.input, "parts"), (experiment.training.stages[0], "epochs")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(part, key, getattr(part, key))
    assert isinstance(experiment.training.stages, tuple) and isinstance(experiment.input.parts, tuple)


def test_config_is_named_after_its_file_only(tmp_path):
    file = tmp_path / "my-net.toml"
    file.write_text('[input]\nkind = "eeg-mel-image"\n')
    assert load_experiment(file).name == "my-net" and load_experiment(file).input.kind == "eeg-mel-image"
    for text, message in (
        ('name = "other"', "the name is the file's"),
        ("x = = 1", "my-net.toml: "),
        (b"\xff", "my-net.toml: "),
    ):
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ConfigError, match=message):
            load_experiment(file)
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_experiment(tmp_path / "absent.toml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_survives_json(path):
    experiment = load_experiment(path)
    assert Experiment.model_validate_json(experiment.model_dump_json(indent=1)) == experiment
    assert experiment != Experiment(name=experiment.name, training={"seed": 7})  # equality looks inside
