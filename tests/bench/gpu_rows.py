"""Extra rows where a GPU is at hand: inputs a second, and what making them adds to a training step."""

import time
from collections.abc import Callable
from typing import Any

import torch
from samples import cut_windows, simulate_recording

from common.config import Experiment, SpectrogramCnnConfig
from common.features import Windows, build_input
from common.inputs import BipolarSequence, Crop, EegMelImage, EegSpectra, Stft
from common.models.build import build_model

BATCH, WARM_UP, REPEATS = 32, 5, 20
INPUTS = {
    "mel image (512, 256)": EegMelImage(),
    "STFT of the central 10 s": EegSpectra(crops=(Crop(seconds=10, transform=Stft(hop=10)),)),
    "sequence (18, 10000)": BipolarSequence(),
}


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


def training_step(images: torch.Tensor) -> Callable[[], None]:
    """One step of EfficientNet-B0 on (batch, 1, 512, 256): float16 autocast, scaled gradients, AdamW."""
    config = SpectrogramCnnConfig(backbone="efficientnet_b0", pretrained=False)
    net = build_model(Experiment(name="bench-b0", input=EegMelImage(), model=config)).cuda().train()
    net = net.to(memory_format=torch.channels_last)
    optimiser, scaler = torch.optim.AdamW(net.parameters(), lr=1e-4), torch.amp.GradScaler("cuda")
    images = images.to(memory_format=torch.channels_last)
    target = torch.full((len(images), 6), 1 / 6, device="cuda")

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.float16):
            logits = net(images)
        loss = torch.nn.functional.kl_div(logits.float().log_softmax(dim=1), target, reduction="batchmean")
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()

    return step


def gpu_rows() -> list[dict[str, Any]]:
    """Rows {"id", "what", "value", "unit"}; needs a GPU. Windows are on it already, as a loader leaves them."""
    windows = cut_windows(simulate_recording(0))
    batch = Windows(torch.from_numpy(windows).cuda().repeat(3, 1, 1)[:BATCH].contiguous(), None)
    rows = []
    for number, (what, config) in enumerate(INPUTS.items(), start=1):
        rate = BATCH / seconds_each(lambda config=config: build_input(batch, config))
        name = torch.cuda.get_device_name()
        rows.append(
            {"id": f"G{number}", "what": f"{what}, batch {BATCH}, float32, {name}", "value": rate, "unit": "EEGs/s"}
        )
    making = seconds_each(lambda: build_input(batch, EegMelImage()))
    step = seconds_each(training_step(build_input(batch, EegMelImage())))
    what = f"making the mel image, share of a B0 training step with it (batch {BATCH}, AMP, channels_last)"
    return [*rows, {"id": "G4", "what": what, "value": 100 * making / (making + step), "unit": "%"}]
