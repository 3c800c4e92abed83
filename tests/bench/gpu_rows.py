"""Extra rows where a GPU is at hand: inputs a second, and training images a second from raw windows."""

import time
from collections.abc import Callable
from typing import Any

import torch
from samples import cut_windows, simulate_recording

from common.inputs.base import Windows
from common.inputs.build import build_input
from common.inputs.config import BipolarSequence, EegMelImage, EegSpectra
from common.inputs.eeg_spectra import Crop
from common.inputs.transforms import Stft
from common.models.cnn import SpectrogramCnnConfig
from train.experiment import Experiment
from train.experiments.measure import measure_experiment

BATCH, WARM_UP, REPEATS = 32, 5, 20
INPUTS = {
    "mel image (512, 256)": EegMelImage(),
    "STFT of the central 10 s": EegSpectra(crops=(Crop(seconds=10, transform=Stft(hop=10)),)),
    "sequence (18, 10000)": BipolarSequence(),
}
TRAINED = EegMelImage(parts=("image", "percentiles"))  # 512 x 512
TRAINING_BATCH = 64
TRAINING_REACH = {"efficientnet_b0": 1100, "efficientnet_b2": 700}  # images a second on an H200


def seconds_each(function: Callable[[], Any]) -> float:
    """Mean seconds of a call, the GPU's work included: it is waited for before and after, not in between."""
    for _ in range(WARM_UP):
        function()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(REPEATS):
        function()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / REPEATS


def training_row(
    number: int, backbone: str, reach: float, device: torch.device, batch: int = TRAINING_BATCH, steps: int = REPEATS
) -> dict[str, Any]:
    """Images a second of the engine's own steps, from raw windows on the device to moved weights."""
    model = SpectrogramCnnConfig(backbone=backbone, pretrained=False)
    stages = {"stages": [{"batch_size": batch}]}
    experiment = Experiment(name="bench-training", input=TRAINED, model=model, training=stages)
    [step] = measure_experiment(experiment, steps, None, device).times
    limit = "making the input" if step.outside > 0.5 else "the net"
    what = (
        f"training {backbone} on 512 x 512 from raw windows, batch {batch}, AMP, channels_last (reach on an H200: "
        f"{reach:,}); {step.outside:.0%} of the time outside the net, most in {limit}"
    )
    return {"id": f"G{number}", "what": what, "value": step.rows_per_second, "unit": "images/s"}


def gpu_rows() -> list[dict[str, Any]]:
    """Rows {"id", "what", "value", "unit"}; needs a GPU. Windows are on it already, as a loader leaves them."""
    windows = cut_windows(simulate_recording(0))
    batch = Windows(torch.from_numpy(windows).cuda().repeat(3, 1, 1)[:BATCH].contiguous(), None)
    rows, where = [], f"batch {BATCH}, float32, {torch.cuda.get_device_name()}"
    for number, (what, config) in enumerate(INPUTS.items(), start=1):
        rate = BATCH / seconds_each(lambda config=config: build_input(batch, config))
        rows.append({"id": f"G{number}", "what": f"{what}, {where}", "value": rate, "unit": "EEGs/s"})
    trained = enumerate(TRAINING_REACH.items(), start=len(INPUTS) + 1)
    return [*rows, *(training_row(number, *goal, torch.device("cuda")) for number, goal in trained)]
