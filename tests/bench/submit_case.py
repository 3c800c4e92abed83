"""The row P8: the whole command `python -m infer submit` against the public inference notebook."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import torch
from measure import Work, run, seconds
from samples import cut_windows, simulate_recording, write_test_set, write_weights

from common.blend import Blend
from common.inputs.base import Windows
from common.inputs.build import build_input
from common.inputs.config import EegMelImage
from common.models.build import build_model
from common.models.cnn import SpectrogramCnnConfig
from common.schema import PATTERNS, VOTES
from train.experiment import Experiment

BENCH = Path(__file__).resolve().parent
EEGS, SAMPLED = 200, 24
REACH, BOUND = 3.0, 1e-4  # probabilities
NAME = "bench-mel-b0"
B0_OPERATIONS = 2.0e9  # of one forward pass at 512 x 256: two for each of its 1.0e9 multiplications
SUBMIT_START = "import infer.__main__, infer.submit, common.weights"
REFERENCE_START = "import pandas, librosa, timm, torch, safetensors.torch; librosa.feature.melspectrogram"


def random_net(experiment: Experiment, images: torch.Tensor, seed: int) -> torch.nn.Module:
    """A B0 with random weights, batch statistics of images and answers that differ between them."""
    torch.manual_seed(seed)
    net = build_model(experiment)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net.train()(images)
        scale = net.eval()(images).std()
        net.classifier.weight.div_(scale)
    return net


def write_nets(folder: Path, folds: int) -> None:
    experiment = Experiment(name=NAME, input=EegMelImage(), model=SpectrogramCnnConfig(pretrained=False))
    windows = torch.from_numpy(cut_windows(simulate_recording(0))[:4])
    images = build_input(Windows(windows, None), experiment.input)
    write_weights(folder, experiment, (random_net(experiment, images, fold) for fold in range(folds)))


def write_blend(path: Path) -> Path:
    """A blend that names no model: what is given counts."""
    path.write_text(Blend(models={}, prior=(1 / len(PATTERNS),) * len(PATTERNS)).model_dump_json())
    return path


def compare(reference: Path, ours: Path) -> float:
    """Largest difference in probability over the rows that the reference answers."""
    joined = pl.read_csv(reference).join(pl.read_csv(ours), on="eeg_id", suffix="_ours")
    theirs, own = joined.select(VOTES).to_numpy(), joined.select(f"{vote}_ours" for vote in VOTES).to_numpy()
    return float(np.abs(theirs - own).max())


def time_submit(folder: Path, eegs: int = EEGS, sampled: int = SAMPLED, folds: int = 5) -> tuple[float, float, float]:
    """Seconds of the reference and of the kit on one simulated test set, and the error; the reference on the first
    `sampled` EEGs, scaled to all."""
    competition, weights, blend = folder / "competition", folder / NAME, write_blend(folder / "blend.json")
    write_test_set(competition, eegs)
    write_nets(weights, folds)
    reference_out, ours_out = folder / "reference.csv", folder / "submission.csv"
    for imports in (REFERENCE_START, SUBMIT_START):
        run("-c", imports)  # libraries compiled to bytecode and in the page cache, as on any second start
    start = seconds(lambda: run("-c", REFERENCE_START))
    command = (BENCH / "reference_submit.py", competition, weights, reference_out, "--eegs", str(sampled))
    parts = json.loads(run(*command).splitlines()[-1])
    words = ("-m", "infer", "submit", "--competition", competition, "--weights", weights, "--blend", blend)
    ours = seconds(lambda: run(*words, "--out", ours_out))
    reference = start + parts["load"] + parts["eegs"] * eegs / sampled
    return reference, ours, compare(reference_out, ours_out)


def submit_work(folder: Path, eegs: int = EEGS, folds: int = 5) -> Work:
    """The nets' multiplications; the weights and all EEG files read once."""
    files = [*(folder / NAME).glob("*.safetensors"), *(folder / "competition" / "test_eegs").glob("*.parquet")]
    return Work(float32=B0_OPERATIONS * folds * eegs, bytes=sum(file.stat().st_size for file in files))
