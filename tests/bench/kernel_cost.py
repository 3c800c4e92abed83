"""What a run of the built kernel costs, stage by stage, and how that grows with the test set.

    python tests/bench/kernel_cost.py [--eegs 50 200] [--folds 5]

Two models with random weights, an EfficientNet-B0 on the EEG mel image and the WaveNet on the waves, on simulated
EEGs, in the sandbox. Seconds of inputs and models are those of the threads that compute them.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from measure import run
from samples import write_test_set, write_weights
from torch import nn

from common.blend import Blend
from common.inputs.config import BipolarSequence, EegMelImage
from common.models.build import build_model
from common.models.cnn import SpectrogramCnnConfig
from common.models.wavenet import WaveNetConfig
from common.schema import PATTERNS
from train.experiment import Experiment

MODELS = (
    Experiment(name="cost-mel-b0", input=EegMelImage(), model=SpectrogramCnnConfig(pretrained=False)),
    Experiment(name="cost-wave", input=BipolarSequence(), model=WaveNetConfig()),
)
COLUMNS = ("total", "loading", "reading", "inputs", "models", "ram")


def untrained(experiment: Experiment, fold: int) -> nn.Module:
    torch.manual_seed(fold)
    return build_model(experiment)


def measure(folder: Path, eegs: int, folds: int) -> dict[str, Any]:
    """The kernel's own report of one run, with the wall seconds and the memory that the sandbox saw."""
    datasets = [folder / f"hms-{experiment.name}" for experiment in MODELS]
    if not datasets[0].is_dir():
        for dataset, experiment in zip(datasets, MODELS, strict=True):
            write_weights(dataset, experiment, (untrained(experiment, fold) for fold in range(folds)))
        shares = {experiment.name: 1 / len(MODELS) for experiment in MODELS}
        blend = Blend(models=shares, prior=(1 / len(PATTERNS),) * len(PATTERNS))
        (folder / "blend.json").write_text(blend.model_dump_json(exclude_none=True))
        run("kernels/build.py", "--blend", folder / "blend.json", "--out", folder / "kernel")
    competition, out = folder / f"competition{eegs}", folder / f"out{eegs}"
    write_test_set(competition, eegs)
    words = ("--competition", competition, "--datasets", *datasets, "--out", out, "--quiet")
    run("kernels/sandbox.py", folder / "kernel", *words)
    return json.loads((out / "report.json").read_text())


def row(report: dict[str, Any]) -> dict[str, float]:
    """COLUMNS of one run: seconds of the whole kernel and of its stages, MB of memory."""
    stages = report["kernel"]["seconds"]["stages"]
    return {"total": report["seconds"], "ram": report["peak_memory_mb"]} | {
        name: stages[name] for name in COLUMNS[1:-1]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--eegs", type=int, nargs="+", default=[50, 200], help="sizes of the test set (50 200)")
    parser.add_argument("--folds", type=int, default=5, help="folds of each model (5)")
    options = parser.parse_args()
    print(f"2 models x {options.folds} folds, seconds and MB\n{'EEGs':>6}" + "".join(f"{name:>9}" for name in COLUMNS))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for eegs in options.eegs:
            rows.append(row(measure(Path(folder), eegs, options.folds)))
            print(f"{eegs:6}" + "".join(f"{rows[-1][name]:9.1f}" for name in COLUMNS), flush=True)
    if len(rows) > 1:
        more = options.eegs[-1] - options.eegs[0]
        each = (rows[-1]["total"] - rows[0]["total"]) / more
        memory = (rows[-1]["ram"] - rows[0]["ram"]) / more
        print(f"each further EEG: {each * 1000:.0f} ms, {memory * 1024:.0f} KB")


if __name__ == "__main__":
    main()
