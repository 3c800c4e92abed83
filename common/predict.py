"""Model input to probabilities, the same for validation and for inference."""

import re

import numpy as np
import torch
from torch import Tensor, nn

from common.cores import on_each_core


def pick_device() -> torch.device:
    """The GPU when this torch can use it, else the CPU. A card older than torch's kernels reports itself
    available and then fails at the first operation, so its architecture is looked up."""
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        built = re.findall(r"sm_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))  # sm_120 is 12.0
        if any(int(has) == major and int(least) <= minor for has, least in built):
            return torch.device("cuda")
    return torch.device("cpu")


def predict_on_cpu(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of images one by one, each on a core of its own: the same bits in any batch.

    A net's layers are too small to share between cores, and the activations of a batch leave the caches:
    EfficientNet-B0 on 512 x 256 takes a third of the time it takes in batches of 8.
    """

    def logits(image: Tensor) -> Tensor:
        with torch.inference_mode():  # which is a thread's own
            return model(image[None].contiguous(memory_format=torch.channels_last))

    return torch.cat(on_each_core(logits, images.unbind()))


@torch.inference_mode()
def predict(model: nn.Module, inputs: Tensor) -> np.ndarray:
    """Probabilities (batch, 6), float64, rows summing to 1. The model must be in evaluation mode.

    In float32: half precision is for training, where it buys more than the fourth digit of a score.
    """
    if model.training:
        raise RuntimeError("predict() needs model.eval(): dropout and batch statistics must be off")
    images = inputs.ndim == 4 and inputs.device.type == "cpu"
    logits = predict_on_cpu(model, inputs) if images else model(inputs)
    return logits.double().softmax(dim=1).cpu().numpy()
