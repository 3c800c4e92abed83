"""What the rooms agree on: the tables and the configs."""

import pytest
from eeg_samples import CONFIG_FILES

from common.schema import ELECTRODES, FREQUENCIES, SPECTROGRAM_FIELDS, VOTES
from common.strict import ConfigError
from train.experiment import Experiment, load_experiment, parse_experiment

# ---- tables


def test_tables_are_those_of_the_competition():
    names = "Fp1 F3 C3 P3 F7 T3 T5 O1 Fz Cz Pz Fp2 F4 C4 P4 F8 T4 T6 O2 EKG"
    assert " ".join(ELECTRODES) == names
    assert " ".join(VOTES) == "seizure_vote lpd_vote gpd_vote lrda_vote grda_vote other_vote"
    assert list(SPECTROGRAM_FIELDS) == ["LL", "RL", "LP", "RP"]
    assert FREQUENCIES[0] == pytest.approx(0.5859, abs=1e-4) and FREQUENCIES[-1] == pytest.approx(19.9219, abs=1e-4)


# ---- configs

SEQUENCE = {"input": {"kind": "bipolar-sequence"}, "model": {"kind": "wave-net"}}
FIRST_KINDS = ("kaggle-image", "eeg-mel-image", "raw-image", "eeg-spectra")  # others may follow


def image(kind, **options):
    return {"input": {"kind": kind, **options}}


def transform(kind, **options):
    return image("eeg-spectra", crops=[{"transform": {"kind": kind, **options}}])


def stages(*tables, **training):
    return {"training": {"stages": list(tables), **training}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        # What common.strict says of a key
        ({"trainning": {}}, "trainning: unknown key; did you mean 'training'?"),
        (
            image("kaggle-image", standardize="panel"),
            "standardize: unknown key; did you mean 'standardise'?",
        ),
        ({"training": {"zzz": 2}}, "training.zzz: unknown key; known keys: labels, window, folds, seed"),
        (stages({"augment": {"cutmix": {"treshold": 0.5}}}), "treshold: unknown key; did you mean 'threshold'?"),
        ({"input": {"parts": ["image"]}}, f"input.kind: missing; one of {', '.join(FIRST_KINDS)}"),
        (image("combined-image", images=[{}, {}]), "images.0.kind: missing; one of kaggle-image, eeg"),
        (image("kaggle-imago"), str(FIRST_KINDS)[1:-1]),
        (image("kaggle-image", standardise={"mean": 0}), "standardise.deviation: Field required"),
        (image("kaggle-image", standardise="row"), "standardise: or a table of mean, deviation"),
        (stages({"learning_rate": float("nan")}), "learning_rate: Input should be a finite number"),
        # Values that do not fit each other
        (stages({"augment": {"cutmix": {"largest": 260}}}), "bands of 25 to 260 steps with margin = 50 do not fit 300"),
        (stages({"rows": {"min_votes": 5, "max_votes": 4}}), "max_votes = 4 is below min_votes = 5"),
        (stages({"rows": {"at_max": "divided"}}), "give max_votes too"),
        (stages({"carry_on": True}), "stages.0: carry_on and start speak of the stage before"),
        (stages({}, {"carry_on": True, "learning_rate": 1e-4}), "goes on with learning_rate = 0.001; repeat it here"),
        (stages({}, {"carry_on": True, "start": "best"}), "carry_on goes on from the last weights: leave start out"),
        (stages({"final_div_factor": 1e-3}), "with 25.0 * 0.001 it would be above the peak"),
        (stages({"accumulate": 2}, selection="as-published"), "accumulate must be 1"),
        (stages({"augment": {"gaps": {}}}), "augment.gaps changes the EEG, which the input does not see"),
        (SEQUENCE | stages({"augment": {"mosaic": True}}), "augment.mosaic changes images, the input is a sequence"),
        ({"model": {"kind": "wave-squeezeformer", "width": 100, "heads": 3}}, "must be a multiple of twice heads = 3"),
        ({"model": {"kind": "wave-net", "kernel": 4}}, "kernel = 4 must be odd"),
        (image("bipolar-sequence"), "goes with model wave-net or wave-squeezeformer, not 'spectrogram-cnn'"),
        ({"model": {"kind": "wave-net"}}, "goes with model spectrogram-cnn or spectrogram-transformer"),
        (SEQUENCE | image("bipolar-sequence", low=30.0), "low = 30.0 Hz must be below high = 20.0 Hz"),
        (SEQUENCE | image("bipolar-sequence", high=30.0, sfreq=50), "would alias it"),
        (image("raw-image", high=99), "high = 99.0 Hz: nothing can be passed up to the 100 Hz the EEG ends at"),
        (image("raw-image", crops=[50, 30], columns=1250), "columns = 1250 do not divide the 6000 samples of 30 s"),
        (transform("stft", window=101, n_fft=256), "window = 101 samples must be even"),
        (transform("mel", window=200, n_fft=128), "n_fft = 128 is shorter than window = 200"),
        (transform("stft", window=2002, n_fft=4096), "longer than 2000, the shortest crop's 10 s"),
        (transform("multitaper", tapers=5), "tapers = 5: only the first 4 are concentrated"),
        (transform("morlet", low=20.0), "low = 20.0 Hz must be below high = 20.0 Hz"),
        (image("eeg-spectra", tiles=3), "tiles = 3 in a row do not divide the 16 differences"),
    ],
)
def test_config_is_refused_by_key(values, message):
    with pytest.raises(ConfigError) as refusal:
        parse_experiment({"name": "tried", **values}, "tried.toml")
    assert str(refusal.value).startswith("tried.toml:\n") and message in str(refusal.value)


@pytest.mark.parametrize("name", ["Kaggle-b2", "-b2", "a" * 47])
def test_a_name_that_fits_no_slug_is_refused(name):
    with pytest.raises(ConfigError, match="name"):
        parse_experiment({"name": name}, "tried.toml")


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


def test_configs_survive_json():
    for experiment in map(load_experiment, CONFIG_FILES):
        assert Experiment.model_validate_json(experiment.model_dump_json(indent=1)) == experiment
