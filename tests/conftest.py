"""One small road for all tests: simulated, trained, blended and exported by the commands a user types."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

# One thread for each worker and each command they start: on few cores more of them only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PROJECT = Path(__file__).resolve().parents[1]
PATIENTS, SEED = "6", "0"
# Nets that are small and, after one epoch, far from constant: a layer-normalised backbone, high learning rates.
EXPERIMENTS = {
    "tiny-image": """
        [input]
        kind = "kaggle-image"
        [model]
        kind = "spectrogram-cnn"
        backbone = "test_convnext"
        pretrained = false
        drop_path = 0.0
        [training]
        folds = 2
        [[training.stages]]
        epochs = 1
        batch_size = 4
        learning_rate = 3e-3
        """,
    "tiny-wave": """
        [input]
        kind = "bipolar-sequence"
        sfreq = 50
        [model]
        kind = "wave-net"
        width = 8
        dilations = [1, 2]
        [training]
        folds = 2
        [[training.stages]]
        epochs = 1
        batch_size = 4
        learning_rate = 1e-2
        """,
}


@dataclass(frozen=True)
class Road:
    """Where the commands left things."""

    folder: Path

    @property
    def competition(self):
        return self.folder / "competition"

    @property
    def runs(self):
        return [self.folder / "runs" / name for name in EXPERIMENTS]

    @property
    def weights(self):
        return self.folder / "weights"

    @property
    def datasets(self):
        return [self.weights / f"hms-{name}" for name in EXPERIMENTS]

    @property
    def fitted_blend(self):
        return self.folder / "fitted.json"

    @property
    def blend_file(self):
        """Both models with a say: the fitted weights of such nets may be 0."""
        return self.folder / "blend.json"

    @property
    def blend(self):
        from common.blend import load_blend

        return load_blend(self.blend_file)


def command(*words, env=None, timeout=300):
    """Run `python WORDS` in the project's root as a user would; no terminal, so that bars do not fill the log."""
    words = [sys.executable, *map(str, words)]
    return subprocess.run(words, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=timeout)


def together(*commands):
    """Run several commands at the same time; the first that fails fails the road."""
    processes = [
        (words, subprocess.Popen([sys.executable, *map(str, words)], cwd=PROJECT, stderr=subprocess.STDOUT, stdout=-1))
        for words in commands
    ]
    outputs = [(words, process, process.communicate()[0]) for words, process in processes]
    for words, process, output in outputs:
        assert process.returncode == 0, f"python {' '.join(map(str, words))}\n{output.decode()}"


def votes(path):
    """The (rows, 6) probabilities of a submission."""
    import polars as pl

    from common.schema import VOTES

    return pl.read_csv(path).select(VOTES).to_numpy()


def report_of(kaggle):
    """What the kernel said of its run."""
    return json.loads((kaggle / "working" / "report.json").read_text())


def build_road(road):
    train, runs = ("-m", "train"), road.folder / "runs"
    together((*train, "simulate", road.competition, "--patients", PATIENTS, "--seed", SEED))
    for name, text in EXPERIMENTS.items():
        (road.folder / f"{name}.toml").write_text("\n".join(line.strip() for line in text.splitlines()))
    configs = [road.folder / f"{name}.toml" for name in EXPERIMENTS]
    together(*((*train, "run", config, "--competition", road.competition, "--out", runs) for config in configs))
    together(
        (*train, "blend", *road.runs, "--out", road.fitted_blend),
        (*train, "export", *road.runs, "--out", road.weights),
    )
    prior = json.loads(road.fitted_blend.read_text())["prior"]
    road.blend_file.write_text(json.dumps({"models": dict(zip(EXPERIMENTS, (0.6, 0.4), strict=True)), "prior": prior}))


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Each test draws the same by itself as among others."""
    import torch  # after OMP_NUM_THREADS is set

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def road(tmp_path_factory):
    """Built once for all workers of pytest-xdist; tests only read it. HMS_ROAD: one that is there already."""
    if given := os.environ.get("HMS_ROAD"):
        return Road(Path(given))
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # else the parent outlives the session
    folder = shared / "road"
    with FileLock(shared / "road.lock"):
        if not folder.exists():
            partial = Path(tempfile.mkdtemp(dir=shared))
            build_road(Road(partial))
            partial.rename(folder)
    return Road(folder)


@pytest.fixture(scope="session")
def plain(road, tmp_path_factory):
    """The submission for the untouched test set, and its report."""
    from infer.submit import submit

    out = tmp_path_factory.mktemp("plain") / "submission.csv"
    return out, submit(road.competition, road.datasets, road.blend, out)


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
    """A small competition of noise, to train on in this process; tests only read it."""
    from training_stage import write_competition

    return write_competition(tmp_path_factory.mktemp("noise"))


@pytest.fixture
def competition(road, tmp_path):
    """A copy of the simulated test set that a test may break."""
    folder = tmp_path / "competition"
    for name in ("test_eegs", "test_spectrograms"):
        shutil.copytree(road.competition / name, folder / name)
    shutil.copyfile(road.competition / "test.csv", folder / "test.csv")
    return folder


@pytest.fixture
def weights(road, tmp_path):
    """A copy of the exported weights that a test may break."""
    return shutil.copytree(road.weights, tmp_path / "weights")


@pytest.fixture
def kaggle(road, tmp_path):
    """A tree as Kaggle mounts it; a dataset in each of the two layouts."""
    from infer.kernel import COMPETITION

    inputs = tmp_path / "kaggle" / "input"
    for place, target in (
        (COMPETITION, road.competition),
        ("hms-tiny-image", road.datasets[0]),
        ("datasets/owner/hms-tiny-wave", road.datasets[1]),
    ):
        (inputs / place).parent.mkdir(parents=True, exist_ok=True)
        (inputs / place).symlink_to(target)
    (tmp_path / "kaggle" / "working").mkdir()
    return tmp_path / "kaggle"


@pytest.fixture
def hidden(monkeypatch):
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
