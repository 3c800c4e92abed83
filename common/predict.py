"""From model input to probabilities, the same for validation and for inference: devices, precision, TTA."""

import re

import numpy as np
import torch
from torch import Tensor, nn

from common.inputs.base import Windows
from common.parallel import parallel_map
from common.schema import SFREQ, SPECTROGRAM_STEP_SECONDS
from common.signal.montage import mirror_eeg, mirror_spectrogram, shift_time
from common.tta import View

HALF_FROM = (7, 0)  # compute capability of the first GPUs (V100, T4) with units for products in half precision


def find_devices() -> tuple[list[torch.device], list[str]]:
    """All GPUs that this torch can use, else the CPU; and a sentence for each GPU that it cannot.

    A card older than torch's kernels reports itself available and fails at the first operation, as the P100 does, so
    its architecture is looked up among those that torch was built for.
    """
    if not torch.cuda.is_available():
        return [torch.device("cpu")], []
    built = re.findall(r"sm_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))  # sm_120 is 12.0
    usable, unusable = [], []
    for number in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(number)
        if any(int(has) == major and int(least) <= minor for has, least in built):
            usable.append(torch.device("cuda", number))
        else:
            name = torch.cuda.get_device_name(number)
            unusable.append(f"{name} is not used: torch {torch.__version__} has no kernels for its sm_{major}{minor}")
    return usable or [torch.device("cpu")], unusable


def pick_device() -> torch.device:
    """The first GPU that this torch can use, else the CPU."""
    return find_devices()[0][0]


def good_at_half(device: torch.device) -> bool:
    """Whether nets run faster there in float16, without losing range as they would in sums of float16."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= HALF_FROM


def seen_as(windows: Windows, view: View) -> Windows:
    """The windows in another TTA view; what a shift brings in from outside the recording is NaN."""
    eeg, spectrogram = windows.eeg, windows.spectrogram
    if view.mirror:
        eeg = None if eeg is None else mirror_eeg(eeg)
        spectrogram = None if spectrogram is None else mirror_spectrogram(spectrogram)
    if view.shift:
        samples, columns = round(view.shift * SFREQ), round(view.shift / SPECTROGRAM_STEP_SECONDS)
        eeg = None if eeg is None else shift_time(eeg, samples)
        spectrogram = None if spectrogram is None else shift_time(spectrogram, columns)
    return Windows(eeg, spectrogram)


def in_cache_order(inputs: Tensor) -> Tensor:
    """Images with the channels of a pixel beside each other, as convolutions like them; sequences as they are."""
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def predict_on_cpu(model: nn.Module, inputs: Tensor) -> Tensor:
    """Logits of inputs one by one, each on a core of its own: the same bits in any batch.

    A net's layers are too small to share between cores, and the activations of a batch leave the caches:
    EfficientNet-B0 on 512 x 256 takes a third of the time it takes in batches of 8, and the WaveNet on 50 s of EEG
    a sixth of that in batches of 16.
    """

    def logits(window: Tensor) -> Tensor:
        with torch.inference_mode():  # which is a thread's own
            return model(in_cache_order(window[None]))

    return torch.cat(parallel_map(logits, inputs.unbind()))


@torch.inference_mode()
def predict(model: nn.Module, inputs: Tensor, half: bool = False) -> np.ndarray:
    """Probabilities (batch, 6), float64, rows summing to 1. The model must be in evaluation mode.

    In float32, as training scores its folds, or with `half` in float16 where that is safe for a layer, never in
    bfloat16, whose 8 bits cost the third digit of a probability.
    """
    if model.training:
        raise RuntimeError("predict() needs model.eval(): dropout and batch statistics must be off")
    if inputs.device.type == "cpu":
        logits = predict_on_cpu(model, inputs)
    else:
        with torch.autocast(inputs.device.type, dtype=torch.float16, enabled=half):
            logits = model(in_cache_order(inputs))
    return logits.double().softmax(dim=1).cpu().numpy()
