"""What a run of the built kernel costs, stage by stage, and how that grows with the test set.

    python tests/bench/kernel_cost.py [--eegs 50 200] [--folds 5]

Two models with random weights, an EfficientNet-B0 on the EEG mel image and the WaveNet on the waves, on simulated
EEGs, in the sandbox. Seconds of inputs and models are those of the threads that compute them.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from samples import write_test_set

from common.blend import Blend
from common.files import sha256_of
from common.inputs.config import BipolarSequence, EegMelImage
from common.models.build import build_model
from common.models.cnn import SpectrogramCnnConfig
from common.models.wavenet import WaveNetConfig
from common.schema import PATTERNS, REGIONS
from common.weights import CONFIG_FILE, MANIFEST_FILE, FoldEntry, Manifest
from train.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
MODELS = (
    Experiment(name="cost-mel-b0", input=EegMelImage(), model=SpectrogramCnnConfig(pretrained=False)),
    Experiment(name="cost-wave", input=BipolarSequence(), model=WaveNetConfig()),
)
COLUMNS = ("total", "loading", "reading", "inputs", "models", "ram")


def write_random_weights(folder: Path, experiment: Experiment, folds: int) -> Path:
    """A weights folder as `python -m train export` writes it, of nets that were never trained."""
    folder.mkdir(parents=True)
    config = folder / CONFIG_FILE
    config.write_text(experiment.model_dump_json())
    entries = []
    for fold in range(folds):
        torch.manual_seed(fold)
        file = folder / f"fold{fold}.safetensors"
        save_file(build_model(experiment).state_dict(), file)
        facts = dict(file=file.name, sha256=sha256_of(file), bytes=file.stat().st_size, fold=fold, train_rows=1)
        entries.append(FoldEntry(**facts))
    manifest = Manifest(
        name=experiment.name,
        config_sha256=hashlib.sha256(config.read_bytes()).hexdigest(),
        checkpoint="last",
        initialised="random",
        folds=tuple(entries),
        versions={},
        regions=REGIONS,
    )
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    return folder


def run(*words: str | Path) -> None:
    done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"`python {' '.join(map(str, words))}` ended with exit code {done.returncode}\n{done.stdout[-2000:]}")


def measure(folder: Path, eegs: int, folds: int) -> dict[str, Any]:
    """The kernel's own report of one run, with the wall seconds and the memory that the sandbox saw."""
    datasets = [folder / f"hms-{experiment.name}" for experiment in MODELS]
    if not datasets[0].is_dir():
        for dataset, experiment in zip(datasets, MODELS, strict=True):
            write_random_weights(dataset, experiment, folds)
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
    return {
        "total": report["seconds"],
        **{name: stages[name] for name in COLUMNS[1:-1]},
        "ram": report["peak_memory_mb"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--eegs", type=int, nargs="+", default=[50, 200], help="sizes of the test set (default: 50 200)"
    )
    parser.add_argument("--folds", type=int, default=5, help="folds of each model (default: 5)")
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
        print(
            f"each further EEG: {each * 1000:.0f} ms, {memory * 1024:.0f} KB; 2,640 of them: {each * 2640 / 60:.0f} min"
        )


if __name__ == "__main__":
    main()
