"""Model input to probabilities, the same for validation and for inference."""

import re

import numpy as np
import torch
from torch import Tensor, nn


def pick_device() -> torch.device:
    """The GPU when this torch can use it, else the CPU. A card older than torch's kernels reports itself
    available and then fails at the first operation, so its architecture is looked up."""
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        built = re.findall(r"sm_(\d+)(\d)", " ".join(torch.cuda.get_arch_list()))  # sm_120 is 12.0
        if any(int(has) == major and int(least) <= minor for has, least in built):
            return torch.device("cuda")
    return torch.device("cpu")


@torch.inference_mode()
def predict(model: nn.Module, inputs: Tensor) -> np.ndarray:
    """Probabilities (batch, 6), float64, rows summing to 1. The model must be in evaluation mode.

    In float32: half precision is for training, where it buys more than the fourth digit of a score.
    """
    if model.training:
        raise RuntimeError("predict() needs model.eval(): dropout and batch statistics must be off")
    return model(inputs).double().softmax(dim=1).cpu().numpy()
